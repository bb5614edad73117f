"""The account is taken from the databases: what is in neither is lost, whatever the bus remembers."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventbus_adapters.demo import account
from eventbus_adapters.demo.account import letters, take_account
from eventbus_adapters.demo.application import application
from eventbus_adapters.demo.source import listed_airports
from eventbus_adapters.demo.tables import TABLE_OF
from eventbus_dlq import DeadLetterQuery

AIRPORTS = listed_airports(40)
KEYS = [airport.icao for airport in AIRPORTS]


async def test_every_delivery_is_handled_or_an_open_dead_letter(tmp_path: Path) -> None:
    told: list[int] = []
    async with application(tmp_path) as app:
        await app.take_in(AIRPORTS, told.append)
        entries = await take_account(app, KEYS)
        assert [entry.handler for entry in entries] == list(TABLE_OF)
        assert all(entry.handled + entry.open == 40 and not entry.lost for entry in entries)
        assert sum(entry.open for entry in entries) == len(await letters(app.bus, DeadLetterQuery())) > 0
        assert {subscription.id for subscription in app.bus.subscriptions} == TABLE_OF.keys()
    assert told == list(range(1, 41))


async def test_what_is_in_neither_database_is_lost(tmp_path: Path) -> None:
    async with application(tmp_path) as app:
        await app.take_in(AIRPORTS, lambda number: None)
        page = await app.bus.dead_letters(DeadLetterQuery(handler="places.check"))
        removed, discarded = page.items[0], page.items[1]
        await app.bus.delete(removed.id)
        await app.bus.discard(discarded.id)
        await app.database.write(
            lambda connection: connection.execute("DELETE FROM counted WHERE icao = ?", (KEYS[0],))
        )
        lost = {entry.handler: set(entry.lost) for entry in await take_account(app, KEYS) if entry.lost}
    missing = {letter.event_id.removeprefix("airport:") for letter in (removed, discarded)}
    assert lost == {"places.check": missing, "countries.count": {KEYS[0]}}


async def test_a_record_that_was_never_published_is_lost_for_every_handler(tmp_path: Path) -> None:
    async with application(tmp_path) as app:
        assert [entry.lost for entry in await take_account(app, ["LSZH"])] == [("LSZH",)] * 5


async def test_pages_are_followed_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account, "_PAGE", 2)
    async with application(tmp_path) as app:
        await app.take_in(AIRPORTS, lambda number: None)
        found = await letters(app.bus, DeadLetterQuery(handler="places.check"))
        stats = await app.bus.stats()
    assert len({letter.id for letter in found}) == stats.by_handler["places.check"] > 2
