"""Eight processes on one database share the work, and each delivery is handled once."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from children import Child
from databases import Database
from invariants import assert_counters, assert_order, look
from shop import INVOICE_FAILS, SHIP_FAILS_ONCE

WORKERS = 8
KEYS = 20
DELIVERIES = int(os.environ.get("EVENTBUS_CHAOS_DELIVERIES", "2000"))
"""``make chaos`` has 20,000."""


def test_eight_processes_handle_each_delivery_once(database: Database, tmp_path: Path) -> None:
    orders = DELIVERIES // 2 // KEYS  # each is shipped and invoiced
    settings = {"url": database.url, "orders": orders, "idle_exit": True, "work": 0.0, "lease": 30.0}
    children = [
        Child(
            tmp_path, **settings, keys=[f"key{number}" for number in range(KEYS) if number % WORKERS == nth]
        )
        for nth in range(WORKERS)
    ]
    for child in children:
        assert child.wait(300.0) == 0, child.errors()
    ledger, found = children[0].ledger, look(database.url)
    assert len(ledger.said("accepted")) == orders * KEYS
    for handler, fails in (("ship", 0), ("invoice", INVOICE_FAILS)):
        ended = Counter(ledger.said("ended", handler))
        expected = {it for it in ledger.said("accepted") if not fails or it[1] % fails}
        assert set(ended) == expected
        assert set(ended.values()) == {1}
    assert Counter(ledger.said("failed", "ship")) == Counter(
        it for it in ledger.said("accepted") if it[1] % SHIP_FAILS_ONCE == 0
    )
    assert "is locked" not in children[0].errors()
    assert {line.pid for line in ledger.lines() if line.what == "ended"} == {child.pid for child in children}
    assert_counters(found)
    assert_order(ledger)
