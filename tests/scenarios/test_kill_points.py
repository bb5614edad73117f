"""A process that is killed at a named point loses nothing, and repeats only what it was at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from children import KILLED, Child
from databases import Database
from invariants import Run, check_at_the_end, check_meanwhile, check_own_rows, look
from own_rows import make_own_table
from points import POINTS

KEYS = ["acme", "globex", "initech"]
HITS = {"handler": 20, "accept": 20, "settle": 20, "capture": 3, "replay": 2, "session": 20}
SPOOL_POINTS = [point for point in POINTS if point.startswith("spool")]
IMPORT_POINTS = [point for point in POINTS if point.startswith("import")]
SESSION_POINTS = [point for point in POINTS if point.startswith("session")]


def the_kth(point: str) -> int:
    """Return at which passing of the point the process dies: when others are under way."""
    return HITS.get(point.split(".")[0], 1)


@pytest.mark.parametrize(
    "point", [it for it in POINTS if it not in SPOOL_POINTS + IMPORT_POINTS + SESSION_POINTS]
)
def test_a_kill_loses_nothing_and_repeats_only_what_was_under_way(
    point: str, database: Database, tmp_path: Path
) -> None:
    settings = {"url": database.url, "keys": KEYS}
    losses = 1
    tolerated: set[Run] = set()
    if point.startswith("rescue"):
        losses = 2
        victim = Child(tmp_path, **settings, point="handler", hit=20)
        assert victim.wait() == KILLED, victim.errors()
        tolerated = check_meanwhile(database.url, victim.ledger).running(victim.lines())
    child = Child(tmp_path, **settings, point=point, hit=the_kth(point))
    assert child.wait() == KILLED, child.errors()
    tolerated |= check_meanwhile(database.url, child.ledger).running(child.lines())
    last = Child(tmp_path, **settings, orders=0, idle_exit=True)
    assert last.wait() == 0, last.errors()
    check_at_the_end(database.url, last.ledger, tolerated=tolerated, losses=losses)


@pytest.mark.parametrize("point", SESSION_POINTS)
def test_a_kill_around_the_commit_of_a_session_leaves_its_rows_and_its_deliveries_or_neither(
    point: str, database: Database, tmp_path: Path
) -> None:
    make_own_table(database.url)
    settings = {"url": database.url, "keys": KEYS, "sessions": True, "recovers": True}
    child = Child(tmp_path, **settings, point=point, hit=the_kth(point))
    assert child.wait() == KILLED, child.errors()
    tolerated = check_meanwhile(database.url, child.ledger).running(child.lines())
    own = check_own_rows(database.url, child.ledger)
    said = {what: set(child.ledger.said(what)) for what in ("trying", "accepted", "taken_back")}
    unheard_of = said["trying"] - said["accepted"] - said["taken_back"]
    assert unheard_of & own if point == "session.after_commit" else unheard_of - own
    last = Child(tmp_path, **settings, orders=0, idle_exit=True)
    assert last.wait() == 0, last.errors()
    check_at_the_end(database.url, last.ledger, tolerated=tolerated, losses=1)
    # PostgreSQL may have been at the commit of another when the process was killed.
    assert check_own_rows(database.url, last.ledger) >= own


@pytest.mark.parametrize("point", SPOOL_POINTS)
def test_a_kill_while_the_spool_is_written_loses_nothing(
    point: str, database_that_stops: Database, tmp_path: Path
) -> None:
    database = database_that_stops
    settings = _spooling(database, tmp_path)
    child = Child(tmp_path, **settings, options=database.impatient, point=point, hit=10)
    child.until("accepted", "shop", times=5)
    with database.down():
        assert child.wait() == KILLED, child.errors()
    _finish(database, tmp_path, settings, child)


@pytest.mark.parametrize("point", IMPORT_POINTS)
def test_a_kill_while_the_spool_is_imported_imports_everything_once(
    point: str, database_that_stops: Database, tmp_path: Path
) -> None:
    database = database_that_stops
    settings = _spooling(database, tmp_path)
    child = Child(tmp_path, **settings, options=database.impatient, point=point)
    child.until("accepted", "shop", times=5)
    with database.down():
        child.until("accepted", "shop", times=child.times("accepted", "shop") + 12)
    assert child.wait() == KILLED, child.errors()
    _finish(database, tmp_path, settings, child)


def _spooling(database: Database, folder: Path) -> dict[str, Any]:
    return {
        "url": database.address,
        "keys": KEYS,
        "pace": 0.02,
        "spool": str(folder / "spool"),
        "capture_timeout": 0.2,
    }


def _finish(database: Database, folder: Path, settings: dict[str, Any], child: Child) -> None:
    """Have another process import what was spooled, and do the rest."""
    tolerated = look(database.url).running(child.lines())
    last = Child(folder, **settings, orders=0, idle_exit=True)
    assert last.wait() == 0, last.errors()
    check_at_the_end(database.url, child.ledger, tolerated=tolerated, losses=1)
