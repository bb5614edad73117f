"""Processes that are killed at any instant lose nothing."""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path

from children import Child
from databases import Database
from invariants import Run, check_at_the_end, check_meanwhile

KEYS = ["acme", "globex", "initech", "hooli"]
KILLS = int(os.environ.get("EVENTBUS_CHAOS_KILLS", "4"))
"""``make chaos`` kills 200 times."""


def test_kills_at_random_instants_lose_nothing(database: Database, tmp_path: Path) -> None:
    """Two processes work side by side; one of them is killed, and another takes its place."""
    chance = random.Random(KILLS)
    shops = [KEYS[:2], KEYS[2:]]
    settings = {"url": database.url, "pace": 0.04, "lease": 3.0}  # kept by all but the dead
    children = [Child(tmp_path, **settings, keys=keys) for keys in shops]
    tolerated: set[Run] = set()
    for number in range(KILLS):
        if chance.random() < 0.8:  # else one may die while it opens
            for child in children:
                child.until("open", "shop")
        time.sleep(chance.uniform(0.0, 0.8))
        dies = chance.randrange(2)
        children[dies].kill()
        found = check_meanwhile(database.url, children[dies].ledger)
        tolerated |= found.running(children[dies].lines())
        sys.stdout.write(f"kill {number + 1} of {KILLS}: {len(found.rows)} rows\n")
        children[dies] = Child(tmp_path, **settings, keys=shops[dies])
    for child in children:
        child.until("open", "shop")
        child.leave()
    for child in children:
        assert child.wait() == 0, child.errors()
    last = Child(tmp_path, **settings, orders=0, idle_exit=True)
    assert last.wait(300.0) == 0, last.errors()
    check_at_the_end(database.url, last.ledger, tolerated=tolerated, losses=KILLS)
