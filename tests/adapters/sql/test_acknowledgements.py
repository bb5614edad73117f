"""Of who has acknowledged a drain nothing is left when it is over, however that came about."""

from __future__ import annotations

import sqlite3

import pytest
from controlled import ACME, close
from letters import NOW, after, build_process

from eventbus_adapters.sql import SqlStore
from eventbus_dlq.control_store import Closing


async def acknowledged_drain(store: SqlStore, by_hand: sqlite3.Connection) -> None:
    for name in ("web-1", "web-2"):
        await store.announce(build_process(id=name))
    control = await close(store, state="draining")
    assert await store.acknowledge("web-1", [control], live_since=after(-30), now=NOW) == []
    assert acknowledged(by_hand) == [(control.version, "web-1")]


def acknowledged(by_hand: sqlite3.Connection) -> list[tuple[int, str]]:
    return list(by_hand.execute("SELECT version, process_id FROM eventbus_control_acks"))


@pytest.mark.parametrize("state", ["draining", "paused"])
async def test_when_its_scope_is_closed_again(
    store: SqlStore, by_hand: sqlite3.Connection, state: Closing
) -> None:
    await acknowledged_drain(store, by_hand)
    await close(store, state=state)
    assert acknowledged(by_hand) == []


async def test_when_its_scope_is_opened(store: SqlStore, by_hand: sqlite3.Connection) -> None:
    await acknowledged_drain(store, by_hand)
    await store.open_scopes([ACME], now=NOW)
    assert acknowledged(by_hand) == []


async def test_when_it_is_drained(store: SqlStore, by_hand: sqlite3.Connection) -> None:
    await acknowledged_drain(store, by_hand)
    await store.withdraw("web-2")
    assert len(await store.acknowledge("web-1", [], live_since=after(-30), now=NOW)) == 1
    assert acknowledged(by_hand) == []
