"""A process that is killed at a named point loses nothing, and repeats only what it was at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from children import KILLED, Child
from databases import Database
from invariants import check_after_kill, check_at_the_end, look
from points import POINTS

KEYS = ["acme", "globex", "initech"]
HITS = {"handler": 20, "accept": 20, "settle": 20, "capture": 3}


def the_kth(point: str) -> int:
    """Return at which passing of the point the process dies: when others are under way."""
    return HITS.get(point.split(".")[0], 1)


@pytest.mark.parametrize("point", [point for point in POINTS if not point.startswith(("spool", "import"))])
def test_a_kill_loses_nothing_and_repeats_only_what_was_under_way(
    point: str, database: Database, tmp_path: Path
) -> None:
    settings = {"url": database.url, "keys": KEYS}
    if point.startswith("rescue"):
        victim = Child(tmp_path, **settings, point="handler", hit=20)
        assert victim.wait() == KILLED, victim.errors()
    child = Child(tmp_path, **settings, point=point, hit=the_kth(point))
    assert child.wait() == KILLED, child.errors()
    at_the_kill = look(database.url)
    check_after_kill(child.ledger, at_the_kill)
    last = Child(tmp_path, **settings, orders=0, idle_exit=True)
    assert last.wait() == 0, last.errors()
    unanswered = set(child.ledger.said("trying")) - set(child.ledger.said("accepted"))
    check_at_the_end(last.ledger, look(database.url), tolerated=at_the_kill.may_run_again() | unanswered)


@pytest.fixture
def store_that_is_down(database: Database) -> Iterator[Database]:
    with database.down():
        yield database


@pytest.mark.parametrize("point", ["spool.before_write", "spool.after_write"])
def test_a_kill_while_the_spool_is_written_loses_nothing(
    point: str, database: Database, tmp_path: Path
) -> None:
    settings = {
        "url": database.address,
        "keys": KEYS,
        "spool": str(tmp_path / "spool"),
        "capture_timeout": 0.2,
    }
    child = Child(tmp_path, **settings, options=database.impatient, point=point, hit=10)
    child.until("accepted", "shop", times=5)
    with database.down():
        assert child.wait() == KILLED, child.errors()
    last = Child(tmp_path, **settings, orders=0, idle_exit=True)
    assert last.wait() == 0, last.errors()
    check_at_the_end(last.ledger, look(database.url), tolerated=set(child.ledger.said("trying")))


@pytest.mark.parametrize("point", ["import.before_commit", "import.after_commit"])
def test_a_kill_while_the_spool_is_imported_imports_everything_once(
    point: str, database: Database, tmp_path: Path
) -> None:
    settings = {
        "url": database.address,
        "keys": KEYS,
        "spool": str(tmp_path / "spool"),
        "capture_timeout": 0.2,
    }
    child = Child(tmp_path, **settings, options=database.impatient, point=point)
    child.until("accepted", "shop", times=5)
    with database.down():
        child.until("accepted", "shop", times=len(child.ledger.said("accepted")) + 6)
    assert child.wait() == KILLED, child.errors()
    last = Child(tmp_path, **settings, orders=0, idle_exit=True)
    assert last.wait() == 0, last.errors()
    check_at_the_end(last.ledger, look(database.url), tolerated=set(child.ledger.said("trying")))
