"""The README's Python is run as it stands."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import create_async_engine

from eventbus_dlq import DeadLetterQuery, DeadLetterQueue, InvalidTransition

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def block_with(text: str) -> str:
    """Return the block of Python that has a text in it."""
    (found,) = [block for block in BLOCKS if text in block]
    return found


def run(block: str, names: dict[str, Any]) -> None:
    exec(compile(block, "README.md", "exec", dont_inherit=True), names)


@pytest.fixture
def shop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> dict[str, Any]:
    """Return the names of the shop of the five-minute part, after its trial has run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("shop.py").write_text(BLOCKS[0] + BLOCKS[2])
    monkeypatch.delitem(sys.modules, "shop", raising=False)
    names = vars(importlib.import_module("shop"))
    run(BLOCKS[1], {"__name__": "__main__"})
    monkeypatch.delitem(sys.modules, "shop")
    return {**names, "said": capsys.readouterr().out}


def test_the_five_minutes_end_with_a_letter_that_came_home(shop: dict[str, Any]) -> None:
    assert shop["bank"]["up"]
    assert Path("failures.db").exists()
    assert "acme req-7 9.90\n" in shop["said"]


async def test_the_mounted_admin_lists_and_replays(shop: dict[str, Any], anyio_backend: str) -> None:
    shop["bank"]["up"] = False
    bus, headers = shop["bus"], {"Authorization": "Bearer change-me"}
    transport = httpx.ASGITransport(app=shop["app"])
    async with bus, httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
        await bus.publish(shop["OrderPlaced"](order_id=2, total="1.00"))
        listed = await client.get("/admin/events/api/dead-letters?state=pending", headers=headers)
        (item,) = listed.json()["items"]
        shop["bank"]["up"] = True
        replayed = await client.post(f"/admin/events/api/dead-letters/{item['id']}/replay", headers=headers)
        assert replayed.json()["state"] == "resolved"
        refused = await client.get("/admin/events/api/dead-letters")
    assert refused.status_code == 401


@pytest.fixture
def levels(shop: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the names of the part on the three levels, on the bus of the shop."""
    module = ModuleType("shop")
    vars(module).update(shop)
    monkeypatch.setitem(sys.modules, "shop", module)
    shop["bank"]["up"] = True
    names: dict[str, Any] = {}
    for block in BLOCKS[3:7]:
        run(block, names)
    return names


async def test_a_durable_handler_runs_after_the_publish(
    levels: dict[str, Any], capsys: pytest.CaptureFixture[str], anyio_backend: str
) -> None:
    bus = levels["bus"]
    async with bus:
        await levels["place"](levels["OrderPlaced"](order_id=3, total="1.00"))
        await bus.wait_idle()
    assert "refreshed 3\n" in (said := capsys.readouterr().out)
    assert "mailed 3 once for " in said


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # SQLAlchemy's AsyncSession runs there alone
async def test_a_transactional_publish_lives_and_dies_with_its_row(
    levels: dict[str, Any], capsys: pytest.CaptureFixture[str], anyio_backend: str
) -> None:
    bus, order = levels["bus"], levels["OrderPlaced"](order_id=4, total="1.00")
    engine = create_async_engine("sqlite+aiosqlite:///failures.db")
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE orders (id INTEGER PRIMARY KEY)"))
    async with bus:
        await levels["place_with_its_row"](order, engine)
        await bus.wait_idle()
        assert "refreshed 4\n" in (said := capsys.readouterr().out)
        assert "mailed 4 once for " in said
        with pytest.raises(IntegrityError):
            await levels["place_with_its_row"](order, engine)
        await bus.wait_idle()
        assert "4" not in capsys.readouterr().out
    await engine.dispose()


async def test_later_ones_of_a_key_wait_parked_and_run_after_the_replay(
    levels: dict[str, Any], capsys: pytest.CaptureFixture[str], anyio_backend: str
) -> None:
    bus = levels["bus"]
    async with bus:
        levels["ledger"]["up"] = False
        for amount in (1, 2):
            await bus.publish("account.moved", {"account": "a-1", "amount": amount})
        await bus.wait_idle()
        page = await bus.dead_letters(DeadLetterQuery(handler="ledger"), order="oldest")
        assert [(it.state, it.reason) for it in page.items] == [("pending", None), ("parked", "sequence")]
        with pytest.raises(InvalidTransition):
            await bus.replay(page.items[1].id)
        levels["ledger"]["up"] = True
        await bus.replay(page.items[0].id)
        said = ""
        with anyio.fail_after(5):
            while "moved 1\nmoved 2\n" not in said:
                await anyio.sleep(0.01)
                said += capsys.readouterr().out


async def test_a_schedule_is_set_and_what_is_due_is_run_by_hand(
    levels: dict[str, Any], capsys: pytest.CaptureFixture[str], anyio_backend: str
) -> None:
    names: dict[str, Any] = {}
    run(block_with("async def the_bank_has_a_bad_day"), names)
    async with (bus := levels["bus"]):
        await names["the_bank_has_a_bad_day"]()
        configuration = await bus.configuration()
    assert "Processed(claimed=0, " in capsys.readouterr().out
    schedules = {it.handler: it.redelivery.attempts for it in configuration.schedules}
    assert schedules == {"billing.charge": 50}
    assert bus.subscription_of("crm.note").redelivery.max_delay == 7200


async def test_what_is_paused_runs_after_the_resume_and_a_drain_says_since_when(
    levels: dict[str, Any], capsys: pytest.CaptureFixture[str], anyio_backend: str
) -> None:
    names: dict[str, Any] = {}
    run(block_with("async def stop_and_go_on"), names)
    run(block_with("async def stop_for_good"), names)
    async with levels["bus"]:
        await names["stop_and_go_on"]()
        said = capsys.readouterr().out
        assert "\nparked\n" in said
        assert "\ntenant=acme is paused since 20" in said
        assert " by ann: their database is being moved\n" in said
        with anyio.fail_after(5):
            while " 1.00\n" not in said:  # the audit of what was parked
                await anyio.sleep(0.01)
                said += capsys.readouterr().out
        await names["stop_for_good"]()
        assert "no charge has run since 20" in capsys.readouterr().out


def test_a_queue_with_a_spool_is_made_as_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    run(BLOCKS[7], names)
    assert isinstance(names["queue"], DeadLetterQueue)


async def test_the_test_of_the_testing_part_passes(fake_clock: Any, event_recorder: Any) -> None:
    names: dict[str, Any] = {}
    run(block_with("def test_a_failed_charge"), names)
    await names["test_a_failed_charge_is_kept_and_comes_home"](fake_clock, event_recorder)


def test_every_block_is_run() -> None:
    assert len(BLOCKS) == 12
