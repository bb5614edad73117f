"""A wall clock that jumps by an hour, both ways, neither loses nor repeats anything."""

from __future__ import annotations

from pathlib import Path

from children import Child
from databases import Database
from invariants import check_at_the_end

HOUR = 3_600.0


def test_a_wall_clock_that_jumps_costs_nothing(database: Database, tmp_path: Path) -> None:
    settings = {
        "url": database.url,
        "clock_jumps": [0.0, HOUR, -HOUR],
        "idle_exit": True,
        "work": 0.05,
        "lease": 2.0,
    }
    children = [Child(tmp_path, **settings, keys=[key], orders=60) for key in ("acme", "globex")]
    for child in children:
        assert child.wait() == 0, child.errors()
    check_at_the_end(database.url, children[0].ledger)
