"""Processes that are killed at any instant lose nothing."""

from __future__ import annotations

import os
import random
import sys
import time
from pathlib import Path

from children import Child
from databases import Database
from invariants import Run, check_at_the_end, check_meanwhile, check_own_rows
from own_rows import make_own_table

KEYS = ["acme", "globex", "initech", "hooli"]
KILLS = int(os.environ.get("EVENTBUS_CHAOS_KILLS", "4"))
"""``make chaos`` kills 200 times."""
SESSION_KILLS = max(KILLS // 4, 2)
"""How often where each order is published in a transaction of the shop's own."""


def test_kills_at_random_instants_lose_nothing(database: Database, tmp_path: Path) -> None:
    kill_again_and_again(KILLS, database, tmp_path)


def test_kills_among_the_transactions_of_sessions_leave_rows_and_deliveries_or_neither(
    database: Database, tmp_path: Path
) -> None:
    make_own_table(database.url)
    kill_again_and_again(SESSION_KILLS, database, tmp_path, sessions=True)


def kill_again_and_again(kills: int, database: Database, folder: Path, *, sessions: bool = False) -> None:
    """Have two processes work side by side; one of them is killed, and another takes its place."""
    chance = random.Random(kills)
    shops = [KEYS[:2], KEYS[2:]]
    # The lease is kept by all but the dead. What a session publishes is accepted for notify, too: it would
    # wait behind an open circuit for as long as every probe of it is a retry that fails.
    settings = {"url": database.url, "pace": 0.04, "lease": 3.0, "sessions": sessions, "recovers": sessions}
    children = [Child(folder, **settings, keys=keys) for keys in shops]
    ledger = children[0].ledger
    tolerated: set[Run] = set()
    for number in range(kills):
        if chance.random() < 0.8:  # else one may die while it opens
            for child in children:
                child.until("open", "shop")
        time.sleep(chance.uniform(0.0, 0.8))
        dies = chance.randrange(2)
        children[dies].kill()
        found = check_meanwhile(database.url, ledger)
        if sessions:
            check_own_rows(database.url, ledger)
        tolerated |= found.running(children[dies].lines())
        sys.stdout.write(f"kill {number + 1} of {kills}: {len(found.rows)} rows\n")
        children[dies] = Child(folder, **settings, keys=shops[dies])
    for child in children:
        child.until("open", "shop")
        child.leave()
    for child in children:
        assert child.wait() == 0, child.errors()
    last = Child(folder, **settings, orders=0, idle_exit=True)
    assert last.wait(300.0) == 0, last.errors()
    check_at_the_end(database.url, last.ledger, tolerated=tolerated, losses=kills)
    if sessions:
        own = check_own_rows(database.url, ledger)
        assert len(own) >= len(ledger.said("accepted")) > 0
