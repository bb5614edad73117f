"""Processes that are killed at any instant lose nothing."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from children import Child
from databases import Database
from invariants import Orders, check_after_kill, check_at_the_end, look

KEYS = ["acme", "globex", "initech", "hooli"]
KILLS = int(os.environ.get("EVENTBUS_CHAOS_KILLS", "4"))
"""``make chaos`` kills 200 times."""


def test_kills_at_random_instants_lose_nothing(database: Database, tmp_path: Path) -> None:
    chance = random.Random(KILLS)
    tolerated: Orders = set()
    for number in range(KILLS):
        child = Child(tmp_path, url=database.url, keys=KEYS)
        child.until("open", "shop")
        time.sleep(chance.uniform(0.0, 0.8))
        child.kill()
        found = look(database.url)
        check_after_kill(child.ledger, found)
        tolerated |= found.may_run_again()
        tolerated |= set(child.ledger.said("trying")) - set(child.ledger.said("accepted"))
        print(f"kill {number + 1}: {len(found.rows)} rows")
    last = Child(tmp_path, url=database.url, keys=KEYS, orders=0, idle_exit=True)
    assert last.wait(120.0) == 0, last.errors()
    check_at_the_end(last.ledger, look(database.url), tolerated=tolerated)
