"""Eight processes on one database share the work, and each delivery is handled once."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from children import Child
from databases import Database
from invariants import check_at_the_end

WORKERS = 8
KEYS = 20
DELIVERIES = int(os.environ.get("EVENTBUS_CHAOS_DELIVERIES", "1000"))
"""``make chaos`` has 20,000."""
PATIENCE = 1_800.0


def test_eight_processes_handle_each_delivery_once(database: Database, tmp_path: Path) -> None:
    orders = DELIVERIES // 2 // KEYS  # each is shipped and invoiced
    settings = {"url": database.url, "orders": orders, "idle_exit": True, "work": 0.0, "lease": 30.0}
    children = [
        Child(
            tmp_path, **settings, keys=[f"key{number}" for number in range(KEYS) if number % WORKERS == nth]
        )
        for nth in range(WORKERS)
    ]
    ledger = children[0].ledger
    deadline = time.monotonic() + PATIENCE
    for child in children:
        while (code := child.ended(5.0)) is None:
            assert time.monotonic() < deadline, child.errors()
            sys.stdout.write(f"{len(ledger.said('ended'))} of {3 * orders * KEYS} runs have succeeded\n")
        assert code == 0, child.errors()
    assert len(ledger.said("accepted")) == orders * KEYS
    assert not ledger.said("store.unavailable")
    assert "is locked" not in (tmp_path / "errors.log").read_text()
    check_at_the_end(database.url, ledger)
    assert {line.pid for line in ledger.lines() if line.what == "ended"} == {child.pid for child in children}
