"""A database that is away for a while: nothing accepted is lost, and the processes heal by themselves."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from children import PATIENCE, Child
from databases import Database, File
from invariants import check_at_the_end
from outages import KEYS, OUTAGE, check_told_briefly, goes_on, is_empty, leaves, settings_of


def test_with_a_spool_every_order_is_accepted_while_the_database_is_away(
    database_that_stops: Database, tmp_path: Path
) -> None:
    database, spool = database_that_stops, tmp_path / "spool"
    child = Child(tmp_path, **settings_of(database, spool=str(spool)))
    child.until("ended", "ship", times=5)
    with database.down():
        time.sleep(OUTAGE)
        child.until("accepted", "shop", times=child.times("accepted", "shop") + 5)
    goes_on(child)
    leaves(child)
    assert not child.ledger.said("refused")
    assert is_empty(spool)
    check_told_briefly(child)
    check_at_the_end(database.url, child.ledger)


def test_without_a_spool_orders_are_refused_while_the_database_is_away(
    database_that_stops: Database, tmp_path: Path
) -> None:
    database = database_that_stops
    child = Child(tmp_path, **settings_of(database))
    child.until("ended", "ship", times=5)
    with database.down():
        child.until("refused", "shop", times=len(KEYS))
        time.sleep(OUTAGE)
    goes_on(child)
    leaves(child)
    check_told_briefly(child)
    check_at_the_end(database.url, child.ledger)


def test_a_process_that_ends_while_the_database_is_away_leaves_everything_to_the_next(
    database_that_stops: Database, tmp_path: Path
) -> None:
    database, spool = database_that_stops, tmp_path / "spool"
    settings = settings_of(database, spool=str(spool))
    child = Child(tmp_path, **{**settings, "idle_exit": False})
    child.until("ended", "ship", times=5)
    with database.down():
        child.until("accepted", "shop", times=child.times("accepted", "shop") + 12)
        leaves(child)
        assert not is_empty(spool)
    last = Child(tmp_path, **settings, orders=0)
    assert last.wait() == 0, last.errors()
    assert is_empty(spool)
    held = {("ship", order) for order in child.ledger.said("started", "ship")}
    held |= {("invoice", order) for order in child.ledger.said("started", "invoice")}
    check_at_the_end(database.url, last.ledger, tolerated=held, losses=1)


def test_when_the_database_is_back_nobody_takes_the_work_of_the_living(
    database_that_stops: Database, tmp_path: Path
) -> None:
    _outlasts_an_outage(database_that_stops, tmp_path)


def test_writes_that_wait_until_a_lock_is_free_take_no_work_of_the_living(tmp_path: Path) -> None:
    _outlasts_an_outage(File(tmp_path), tmp_path, options={"busy_timeout": 30.0})


def _outlasts_an_outage(database: Database, folder: Path, **options: Any) -> None:
    """Have one of two processes work throughout an outage that lasts longer than its lease."""
    settings = {
        **settings_of(database, **options),
        "pace": OUTAGE,  # both have watched for a lease, and would rescue at once
        "block_at": 1,
        "block_for": 4 * OUTAGE,
    }
    other = Child(folder, **{**settings, "keys": [], "idle_exit": False})
    other.until("open", "shop")
    child = Child(folder, **{**settings, "keys": ["acme"]}, orders=1)
    _wait_until_blocked(child)
    with database.down():
        time.sleep(OUTAGE)
        assert not child.ledger.said("ended", "ship")
    assert child.wait() == 0, child.errors()
    leaves(other)
    for each in (child, other):
        assert not each.times("dead_letter.rescued", "bus")
        assert not each.times("lease.lost", "bus")
    check_at_the_end(database.url, child.ledger)


def _wait_until_blocked(child: Child) -> None:
    deadline = time.monotonic() + PATIENCE
    while not child.ledger.said("blocked"):  # by whoever has taken the order
        assert time.monotonic() < deadline, child.errors()
        time.sleep(0.01)
