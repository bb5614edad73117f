"""How a command ends early: one message on standard error, and an exit code."""

from __future__ import annotations

from importlib.util import find_spec
from typing import NoReturn

import typer

USAGE = 2
"""Exit code: nothing was done, because what was asked for cannot be."""
INTERRUPTED = 130
"""Exit code: Ctrl-C, as shells know it."""


def leave(message: str, code: int = USAGE) -> NoReturn:
    """Say why on standard error and end the command.

    Raises:
        typer.Exit: always, with ``code``.
    """
    typer.echo(f"eventbus: {message}", err=True)
    raise typer.Exit(code)


def require(command: str, extra: str, *packages: str) -> None:
    """End the command unless ``packages`` are installed, and say which extra brings them.

    Raises:
        typer.Exit: one is missing.
    """
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        leave(f"{command!r} needs {', '.join(missing)}; run: pip install 'eventbus[{extra}]'")
