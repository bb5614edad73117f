"""Processes that stand still: frozen past their lease, or with an event loop that is blocked."""

from __future__ import annotations

from pathlib import Path

from children import Child
from databases import Database
from invariants import check_at_the_end, look

KEYS = ["acme", "globex"]


def test_a_process_that_was_frozen_past_its_lease_has_lost_its_work(
    database: Database, tmp_path: Path
) -> None:
    frozen = Child(tmp_path, url=database.url, keys=KEYS, work=0.2)
    frozen.until("started", "ship", times=5)
    frozen.freeze()
    under_way = look(database.url).may_run_again()
    other = Child(tmp_path, url=database.url, orders=0, idle_exit=True)
    assert other.wait() == 0, other.errors()
    by_the_other = {
        (line.key, line.number)
        for line in other.ledger.lines()
        if line.pid == other.pid and line.what == "ended"
    }
    assert by_the_other, "nothing was taken over"
    frozen.thaw()
    frozen.until("accepted", "shop", times=len(frozen.ledger.said("accepted")) + 3)
    frozen.kill()
    unanswered = set(frozen.ledger.said("trying")) - set(frozen.ledger.said("accepted"))
    after = look(database.url).may_run_again()
    last = Child(tmp_path, url=database.url, orders=0, idle_exit=True)
    assert last.wait() == 0, last.errors()
    check_at_the_end(last.ledger, look(database.url), tolerated=under_way | after | unanswered)


def test_a_loop_that_is_blocked_past_the_lease_keeps_its_work(database: Database, tmp_path: Path) -> None:
    blocked = Child(
        tmp_path, url=database.url, keys=["acme"], orders=8, block_at=5, block_for=3.0, idle_exit=True
    )
    blocked.until("blocked", "ship")
    other = Child(tmp_path, url=database.url)  # it would take over what it can
    assert blocked.wait() == 0, blocked.errors()
    other.kill()
    assert blocked.ledger.said("started", "ship").count(("acme", 5)) == 1
    check_at_the_end(blocked.ledger, look(database.url))


def test_a_loop_that_is_blocked_past_the_stall_limit_loses_its_work(
    database: Database, tmp_path: Path
) -> None:
    blocked = Child(
        tmp_path, url=database.url, keys=["acme"], orders=8, block_at=5, block_for=8.0, stall_limit=1.0
    )
    blocked.until("blocked", "ship")
    other = Child(tmp_path, url=database.url, orders=0)
    other.until("ended", "ship")
    assert ("acme", 5) in other.ledger.said("ended", "ship")
    blocked.kill()
    other.kill()
    crashes = look(database.url)
    last = Child(tmp_path, url=database.url, orders=0, idle_exit=True)
    assert last.wait() == 0, last.errors()
    check_at_the_end(last.ledger, look(database.url), tolerated=crashes.may_run_again() | {("acme", 5)})
