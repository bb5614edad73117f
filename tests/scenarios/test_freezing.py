"""Processes that stand still: frozen past their lease, or with an event loop that is blocked."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from children import Child
from databases import Database, Shared
from invariants import Found, check_at_the_end, look

KEYS = ["acme", "globex"]


def test_a_process_that_was_frozen_past_its_lease_has_lost_its_work(
    database: Database, tmp_path: Path
) -> None:
    settings = {
        "url": database.url,
        "lease": 1.5,
        "work": 0.2,
        "idle_exit": True,
        "options": {"timeout": 3.0},  # after which PostgreSQL ends the transaction of a frozen process
    }
    frozen = Child(tmp_path, **settings, keys=KEYS, orders=20)
    frozen.until("accepted", "shop", times=40)
    frozen.until("started", "ship", times=5)
    at_rest = _freeze_at_work(frozen, database)
    other = Child(tmp_path, **settings, orders=0)
    other.until("started", "ship")
    frozen.thaw()
    for child in (frozen, other):
        assert child.wait() == 0, child.errors()
    under_way = at_rest.running(frozen.lines())  # it may have learned of a lease after it was frozen
    ran = {(line.who, (line.key, line.number)) for line in other.lines() if line.what == "started"}
    assert under_way & ran, "nothing was taken over"
    check_at_the_end(database.url, frozen.ledger, tolerated=under_way, losses=1)


def _freeze_at_work(child: Child, database: Database) -> Found:
    """Freeze a process that has leases, and is not writing to the database; return what is there."""
    while True:
        child.freeze()
        if database.takes_writes() and (found := look(database.url)).running(child.lines()):
            return found
        child.thaw()
        time.sleep(0.02)


@pytest.mark.parametrize("point", ["accept.before_commit", "settle.before_commit", "replay.before_commit"])
def test_a_process_that_is_frozen_in_a_transaction_holds_others_up_for_a_bounded_time(
    point: str, tmp_path: Path
) -> None:
    """PostgreSQL ends its transaction. Of an SQLite file it is the one writer until it goes on or dies."""
    database = Shared(tmp_path)
    settings = {"url": database.url, "options": database.impatient, "idle_exit": True}
    frozen = Child(tmp_path, **settings, keys=KEYS, orders=20, point=point, hit=2, freezes=True)
    frozen.until_frozen()
    at_rest = look(database.url)
    other = Child(tmp_path, **settings, orders=0)
    assert other.wait(30.0) == 0, other.errors()
    frozen.thaw()
    assert frozen.wait() == 0, frozen.errors()
    under_way = at_rest.running(frozen.lines())
    check_at_the_end(database.url, frozen.ledger, tolerated=under_way, losses=1)


def test_a_loop_that_is_blocked_past_the_lease_keeps_its_work(database: Database, tmp_path: Path) -> None:
    settings = {"url": database.url, "lease": 1.0, "idle_exit": True}
    blocked = Child(tmp_path, **settings, keys=["acme"], orders=8, block_at=5, block_for=3.0)
    blocked.until("blocked", "ship")
    other = Child(tmp_path, **settings, orders=0)  # it would take over what it can
    other.until("open", "shop")
    assert blocked.wait() == 0, blocked.errors()
    assert other.wait() == 0, other.errors()
    check_at_the_end(database.url, blocked.ledger)


def test_a_loop_that_is_blocked_past_the_stall_limit_loses_its_work(
    database: Database, tmp_path: Path
) -> None:
    blocked = Child(
        tmp_path, url=database.url, keys=["acme"], orders=8, block_at=5, block_for=60.0, stall_limit=1.0
    )
    blocked.until("blocked", "ship")
    under_way = look(database.url).running(blocked.lines())
    other = Child(tmp_path, url=database.url, orders=0, idle_exit=True)
    assert other.wait() == 0, other.errors()
    assert ("acme", 5) in other.ledger.said("ended", "ship")
    blocked.kill()
    check_at_the_end(database.url, other.ledger, tolerated=under_way, losses=1)
