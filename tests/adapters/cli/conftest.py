"""A small application to feed: its module is written into a folder that is the current one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SHOP = """
from typing import ClassVar

from pydantic import BaseModel

from eventbus import EventBus
from eventbus_adapters.sql import SqlStore
from eventbus_dlq import DeadLetterQueue


class OrderPlaced(BaseModel):
    event_name: ClassVar[str] = "order.placed"
    order_id: int
    fails: bool = False


bus = EventBus(dlq=DeadLetterQueue(SqlStore("sqlite+aiosqlite:///shop.db")))
seen = []
number = 7


@bus.on(OrderPlaced, id="billing.charge")
async def charge(order, envelope):
    seen.append((order.order_id, envelope.tenant))
    if order.fails:
        raise ConnectionError("card terminal is offline")


class Parts:
    inner = bus
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the folder of an application ``shop:bus``, which is the current one."""
    (tmp_path / "shop.py").write_text(SHOP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in str(sys.modules[name].__file__):
            del sys.modules[name]
