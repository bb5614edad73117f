"""The demo from its first event to its summary, on a console."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Console

from eventbus_adapters.cli import report
from eventbus_adapters.cli.meter import meter
from eventbus_adapters.demo.account import letters, take_account
from eventbus_adapters.demo.application import application
from eventbus_adapters.demo.source import listed_airports
from eventbus_adapters.demo.zones import OUTAGE
from eventbus_dlq import DeadLetterQuery
from eventbus_dlq.letter import OPEN_STATES

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from pathlib import Path

    from eventbus_adapters.demo.account import HandlerAccount
    from eventbus_adapters.demo.application import Application

_WIDTH = 120  # of tables that go to a file or a pipe
_OPEN = DeadLetterQuery(state=OPEN_STATES)
_REFUSED = DeadLetterQuery(state="pending", handler="clocks.resolve", kind="connection")
_TRANSIENT = DeadLetterQuery(state="pending", handler="clocks.resolve", category="transient")


async def tell(folder: Path, limit: int | None, listener: socket.socket | None, token: str) -> bool:
    """Run the demo in ``folder`` and return whether anything was lost.

    Args:
        folder: where its two databases are made.
        limit: at most so many airports.
        listener: where to serve the admin afterwards; None to end after the summary.
        token: lets people into the admin.

    Raises:
        sqlite3.Error: its own database cannot be made.
        StoreUnavailable: the dead letters' cannot.
    """
    console = _console()
    began = time.monotonic()
    airports = listed_airports(limit)
    async with application(folder) as app:
        console.print(
            f"{len(airports):,} airports, five handlers. Switched on: the time-zone service is down for "
            f"{' and '.join(OUTAGE)}.",
            highlight=False,
        )
        with meter(console, "publishing", len(airports)) as progress:
            await app.take_in(airports, progress)
        await _explain(console, app)
        # Those who stay to look at the admin have something left to bring home themselves.
        await _mend(console, app, _TRANSIENT if listener is None else _REFUSED)
        account = await take_account(app, (airport.icao for airport in airports))
        await _conclude(console, app, account, folder, time.monotonic() - began)
        if listener is not None:
            await _serve(console, app, listener, token)
    return any(handler.lost for handler in account)


def _console() -> Console:
    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH)


async def _explain(console: Console, app: Application) -> None:
    failed = await letters(app.bus, _OPEN)
    console.print(report.failures(failed))
    if failed:
        console.print(report.letter(await app.bus.dead_letter(report.telling(failed).id)))


async def _mend(console: Console, app: Application, query: DeadLetterQuery) -> None:
    app.zones.mend()
    console.print("\nMended: the time-zone service is up again. Replaying what it failed.", highlight=False)
    operation = await app.bus.replay_all(query, by="demo", note="the time-zone service is up again")
    console.print(
        f"Replayed {operation.total:,} dead letters, each to the handler that failed: "
        f"{operation.done:,} resolved, {operation.failed:,} failed again, {operation.skipped:,} skipped.",
        highlight=False,
    )


async def _conclude(
    console: Console, app: Application, account: Sequence[HandlerAccount], folder: Path, seconds: float
) -> None:
    stats = await app.bus.stats()
    console.print(report.summary(account))
    biggest = await app.database.read(
        "SELECT country, airports FROM countries ORDER BY airports DESC, country LIMIT 5"
    )
    console.print(report.conclusion(account, stats, biggest, folder, seconds), highlight=False, markup=False)


async def _serve(console: Console, app: Application, listener: socket.socket, token: str) -> None:
    from eventbus_adapters.cli.serve import serve

    waiting = (await app.bus.dead_letters(_TRANSIENT, limit=1)).items
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"

    def started(mounted: str) -> None:
        text = report.invitation(address + mounted, token, waiting[0].id if waiting else None)
        # Lines to be copied: no wrapping, no colours within them.
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    await serve(app.bus, listener, token=token, started=started)
    console.print("Stopped.")
