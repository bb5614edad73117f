"""What each handler of the demo finds, and that a second time changes nothing."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from eventbus import Receipt
from eventbus_adapters.demo.account import take_account
from eventbus_adapters.demo.application import Application, application
from eventbus_adapters.demo.events import AirportListed
from eventbus_dlq import DeadLetterQuery

ZURICH: dict[str, Any] = {
    "icao": "LSZH",
    "iata": "ZRH",
    "name": "Zurich Airport",
    "city": "Zurich",
    "subdivision": "Zurich",
    "country": "CH",
    "elevation": 1417.0,
    "latitude": 47.45806,
    "longitude": 8.54806,
    "zone": "Europe/Zurich",
}


@asynccontextmanager
async def running(folder: Path) -> AsyncGenerator[Application, None]:
    async with application(folder) as app:
        yield app


async def listed(app: Application, **changes: Any) -> Receipt:
    airport = AirportListed(**{**ZURICH, **changes})
    return await app.bus.publish(airport, id=f"airport:{airport.icao}", tenant=airport.country)


async def test_a_sound_record_is_handled_by_all(tmp_path: Path) -> None:
    async with running(tmp_path) as app:
        receipt = await listed(app)
        assert receipt.ok
        assert len(receipt.deliveries) == 5
        assert await app.database.read("SELECT * FROM clocks") == [("LSZH", "Europe/Zurich", 60, 120)]
        assert await app.database.read("SELECT code FROM codes ORDER BY code") == [("LSZH",), ("ZRH",)]
        assert await app.database.read("SELECT * FROM countries") == [("CH", 1, 1417.0)]


async def test_a_second_delivery_of_one_record_changes_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as app:
        await listed(app)
        before = [
            await app.database.read(f"SELECT * FROM {table}") for table in ("codes", "countries", "airports")
        ]
        assert (await listed(app)).ok
        after = [
            await app.database.read(f"SELECT * FROM {table}") for table in ("codes", "countries", "airports")
        ]
        assert before == after


@pytest.mark.parametrize(
    ("changes", "handler", "kind", "says"),
    [
        ({"city": ""}, "places.check", "validation", "city"),
        ({"subdivision": ""}, "places.check", "validation", "subdivision"),
        ({"name": "Two  spaces"}, "places.check", "validation", "needless spaces"),
        ({"name": "Soft\xadhyphen"}, "places.check", "validation", "control characters"),
        ({"icao": "LS1H"}, "codes.register", "validation", "'LS1H' in CH is no ICAO code"),
        ({"zone": "Europe/Nowhere"}, "clocks.resolve", "validation", "'Europe/Nowhere' is no time zone"),
        ({"zone": "../../etc/passwd"}, "clocks.resolve", "validation", "is no time zone"),
        ({"zone": "Asia/Tokyo"}, "clocks.resolve", "validation", "8.4 h off the sun"),
        ({"zone": "Africa/Algiers"}, "clocks.resolve", "connection", "connection refused"),
        ({"zone": "Indian/Maldives"}, "clocks.resolve", "timeout", "did not answer"),
    ],
)
async def test_a_flaw_stops_its_handler_and_no_other(
    tmp_path: Path, changes: dict[str, Any], handler: str, kind: str, says: str
) -> None:
    async with running(tmp_path) as app:
        receipt = await listed(app, **changes)
        assert receipt.failed == (handler,)
        (letter,) = (await app.bus.dead_letters()).items
        assert (letter.kind, letter.tenant) == (kind, "CH")
        assert says in letter.error_message
        assert letter.state == ("pending" if kind in ("connection", "timeout") else "exhausted")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"icao": "_ZRH", "iata": ""}, "CHECK constraint failed"),
        ({"icao": "LSZX", "iata": "", "country": "US"}, "UNIQUE constraint failed: airports.latitude"),
        ({"icao": "LSZX", "latitude": 1.0}, "UNIQUE constraint failed: airports.iata"),
        ({"icao": "LSZX", "iata": "", "latitude": 91.0}, "CHECK constraint failed"),
        ({"icao": "LSZX", "iata": "", "latitude": 2.0, "name": ""}, "CHECK constraint failed"),
    ],
)
async def test_the_directory_s_constraints_have_the_last_word(
    tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    async with running(tmp_path) as app:
        await listed(app)
        receipt = await listed(app, **changes)
        assert "directory.enter" in receipt.failed
        assert says in str(receipt.deliveries["directory.enter"].error)
        assert await app.database.read("SELECT icao FROM airports") == [("LSZH",)]


async def test_a_code_that_is_taken_names_the_holder_and_registers_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as app:
        await listed(app)
        await listed(app, icao="KZRH", iata="", lid="ZRH", country="US", latitude=1.0)
        (letter,) = (await app.bus.dead_letters(DeadLetterQuery(handler="codes.register"))).items
        assert letter.error_message == "ZRH of KZRH already means LSZH"
        assert (letter.kind, letter.state) == ("conflict", "exhausted")
        whole = await app.bus.dead_letter(letter.id)
        assert [cause.type for cause in whole.error.causes] == ["sqlite3.IntegrityError"]
        assert await app.database.read("SELECT code FROM codes WHERE icao = 'KZRH'") == []


async def test_a_code_that_no_table_can_hold_is_a_conflict_of_its_own(tmp_path: Path) -> None:
    async with running(tmp_path) as app:
        receipt = await listed(app, lid="TOO-LONG-A-CODE", country="US")
        assert "CHECK constraint failed" in str(receipt.deliveries["codes.register"].error)


async def test_national_codes_are_codes_where_there_are_any(tmp_path: Path) -> None:
    async with running(tmp_path) as app:
        receipt = await listed(app, icao="00AA", lid="00AA", iata="", country="US")
        assert "codes.register" not in receipt.failed


async def test_mending_and_replaying_brings_home_what_the_fault_failed(tmp_path: Path) -> None:
    async with running(tmp_path) as app:
        await listed(app, zone="Africa/Algiers")
        (letter,) = (await app.bus.dead_letters()).items
        assert letter.attempts == 2
        assert (await app.bus.dead_letter(letter.id)).annotations == {"zone": "Africa/Algiers"}
        app.zones.mend()
        operation = await app.bus.replay_all(DeadLetterQuery(category="transient"))
        assert (operation.done, operation.failed) == (1, 0)
        (account,) = [
            entry for entry in await take_account(app, ["LSZH"]) if entry.handler == "clocks.resolve"
        ]
        assert (account.handled, account.open, account.lost) == (1, 0, ())
