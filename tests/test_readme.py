"""The README's Python is run as it stands."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


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


async def test_the_test_of_the_testing_part_passes(fake_clock: Any, event_recorder: Any) -> None:
    names: dict[str, Any] = {}
    run(BLOCKS[3], names)
    await names["test_a_failed_charge_is_kept_and_comes_home"](fake_clock, event_recorder)


def test_every_block_is_run() -> None:
    assert len(BLOCKS) == 4
