"""The account: where every delivery of every record is, read from both databases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from eventbus_adapters.demo.application import EVENT_ID
from eventbus_adapters.demo.tables import TABLE_OF
from eventbus_dlq import DeadLetterQuery
from eventbus_dlq.letter import OPEN_STATES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eventbus import EventBus
    from eventbus_adapters.demo.application import Application
    from eventbus_dlq import DeadLetterSummary

_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class HandlerAccount:
    """Where one handler's deliveries are.

    Attributes:
        handler: its id.
        handled: records with its row in the application's database.
        open: the others, of which it has an open dead letter.
        lost: those with neither: what must not be.
    """

    handler: str
    handled: int
    open: int
    lost: tuple[str, ...]


async def take_account(app: Application, records: Iterable[str]) -> list[HandlerAccount]:
    """Look for every (record, handler) in the databases.

    Args:
        app: the application, with nothing under way.
        records: the keys of all records that were to be published.
    """
    expected = frozenset(records)
    waiting: dict[str, set[str]] = {handler: set() for handler in TABLE_OF}
    for letter in await letters(app.bus, DeadLetterQuery(state=OPEN_STATES)):
        waiting[letter.handler_id].add(letter.event_id.removeprefix(EVENT_ID))
    accounts: list[HandlerAccount] = []
    for handler, table in TABLE_OF.items():
        rows = await app.database.read(f"SELECT DISTINCT icao FROM {table}")  # noqa: S608 - a name of our own
        handled = expected.intersection(icao for (icao,) in rows)
        kept = (expected - handled) & waiting[handler]
        accounts.append(
            HandlerAccount(handler, len(handled), len(kept), tuple(sorted(expected - handled - kept)))
        )
    return accounts


async def letters(bus: EventBus, query: DeadLetterQuery) -> list[DeadLetterSummary]:
    """Return the summaries of all letters that ``query`` means, oldest first."""
    found: list[DeadLetterSummary] = []
    cursor: str | None = None
    while True:
        page = await bus.dead_letters(query, limit=_PAGE, cursor=cursor, order="oldest")
        found += page.items
        cursor = page.next_cursor
        if cursor is None:
            return found
