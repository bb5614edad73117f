"""``eventbus demo``: the demo application, told as a story."""

from __future__ import annotations

import secrets
import socket
import sqlite3
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Optional
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import anyio
import typer

from eventbus_adapters.cli.leaving import INTERRUPTED, leave, require
from eventbus_dlq.errors import StoreUnavailable

_PORT = 8765


def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the summary; serve nothing.")] = False,
    folder: Annotated[
        Optional[Path],  # noqa: UP045 - typer reads it
        typer.Option(
            help="Where to make airports.db and dead-letters.db, and leave them. "
            "Without it they are in a temporary folder and go with the demo.",
            file_okay=False,
        ),
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port of the admin on 127.0.0.1; 0 takes a free one.")
    ] = _PORT,
    limit: Annotated[
        Optional[int],  # noqa: UP045 - typer reads it
        typer.Option(min=1, help="Only so many airports, taken at even distances from the list."),
    ] = None,
) -> None:
    """Publish every airport of the world, see what fails and why, mend, replay.

    28,000 real records go through five handlers. Their flaws, and one fault that the demo switches on
    and mends, become dead letters; a replay brings home what can come home. Then the admin is served
    until Ctrl-C, unless --once was given.

    Exit codes: 0 nothing was lost: every record was handled, or is an open dead letter, for each
    handler, counted in both databases; 1 something was lost, and is named; 2 the demo cannot start;
    130 interrupted.
    """
    require("eventbus demo", "demo", "airportsdata", *(() if once else ("uvicorn",)))
    _check_time_zones()
    with ExitStack() as stack:
        listener = None if once else stack.enter_context(_listener(port))
        place = _checked(folder) if folder is not None else _temporary(stack)
        lost = _run(place, limit, listener)
    raise typer.Exit(1 if lost else 0)


def _run(place: Path, limit: int | None, listener: socket.socket | None) -> bool:
    from eventbus_adapters.cli.story import tell  # needs what was required above

    try:
        return anyio.run(tell, place, limit, listener, secrets.token_urlsafe())
    except (sqlite3.Error, StoreUnavailable, OSError) as error:
        leave(f"the demo cannot work in {place}: {error}")
    except KeyboardInterrupt:
        leave("interrupted before the end; nothing was counted", INTERRUPTED)


def _check_time_zones() -> None:
    try:
        ZoneInfo("Europe/Zurich")
    except ZoneInfoNotFoundError:
        leave("this machine has no time-zone database; run: pip install tzdata")


def _listener(port: int) -> socket.socket:
    """Take the port before the work begins rather than find it taken afterwards."""
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        leave(f"port {port} of 127.0.0.1 cannot be used ({error.strerror}); --port 0 takes a free one")


def _checked(folder: Path) -> Path:
    """Make the folder, and refuse one that holds a run already: its rows would count for this one."""
    from eventbus_adapters.demo.application import AIRPORTS, DEAD_LETTERS

    if "?" in str(folder):
        leave(f"{str(folder)!r} has a '?', which the URL of a database cannot have; name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        leave(f"the folder {folder} cannot be made: {error.strerror}")
    for name in (AIRPORTS, DEAD_LETTERS):
        if (folder / name).exists():
            leave(f"{folder / name} is from another run; name another folder, or remove its files")
    return folder


def _temporary(stack: ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eventbus-demo-")))
