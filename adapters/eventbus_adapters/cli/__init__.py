"""The command line: ``eventbus``. Needs the extra ``cli``, and for the demo ``demo``."""

from __future__ import annotations

import sys

_OF_THE_EXTRA = frozenset({"typer", "rich", "click"})


def main() -> None:
    """Run the command line with the process's arguments; ends with ``SystemExit``.

    The exit code is 2 when the packages that it needs are not installed.
    """
    try:
        from eventbus_adapters.cli.app import app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _OF_THE_EXTRA:
            raise
        sys.stderr.write(
            f"eventbus: the command line needs the package {error.name!r}, which is not installed; "
            "run: pip install 'eventbus[cli]'\n"
        )
        raise SystemExit(2) from None
    app()
