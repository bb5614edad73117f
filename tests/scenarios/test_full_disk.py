"""A disk that is full for a while: nothing accepted is lost, and the processes heal by themselves."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from children import Child
from databases import File
from invariants import check_at_the_end
from outages import KEYS, OUTAGE, check_told_briefly, goes_on, is_empty, leaves, settings_of

LOG_SIZE = 1_000_000
"""Bytes of SQLite's log at which its disk is full."""
SPOOL_SIZE = 400_000
"""Bytes that there is room for in the spool: less than are written in an outage."""
FULL = min(OUTAGE, 1.5)
"""Seconds; in more of them the spool, and then the ledger, would not have room either."""


@contextmanager
def full_disk(child: Child, size: int) -> Iterator[None]:
    """Let no file of a process grow beyond a size, for as long as the block."""
    _, most = resource.prlimit(child.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (size, most))
    yield
    resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (most, most))


def size_of_log(database: File) -> int:
    """Return the size of the database's log when it has grown to the size of its disk."""
    log = database.path.with_name("shop.db-wal")
    deadline = time.monotonic() + 60
    while not log.exists() or log.stat().st_size < LOG_SIZE:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return log.stat().st_size


def check_refused_to_all(child: Child) -> None:
    """Check that nobody has run what the publisher was told to be delivered to nobody."""
    refused = set(child.ledger.said("refused")) - set(child.ledger.said("failed", "notify"))
    assert refused
    assert not refused & set(child.ledger.said("started"))


def test_what_a_full_disk_refuses_is_delivered_to_nobody_and_the_rest_is_kept(tmp_path: Path) -> None:
    database = File(tmp_path)
    child = Child(tmp_path, **settings_of(database, pace=0.01))
    with full_disk(child, size_of_log(database)):
        child.until("refused", "shop", times=len(KEYS))
        time.sleep(FULL)
    goes_on(child)
    leaves(child)
    check_told_briefly(child)
    check_at_the_end(database.url, child.ledger)
    check_refused_to_all(child)


def test_a_spool_on_another_disk_takes_what_the_full_one_does_not(tmp_path: Path) -> None:
    database, spool = File(tmp_path), tmp_path / "spool"
    child = Child(tmp_path, **settings_of(database, pace=0.01, spool=str(spool)))
    with full_disk(child, size_of_log(database)):
        time.sleep(FULL)
        child.until("accepted", "shop", times=child.times("accepted", "shop") + 5)
    goes_on(child)
    leaves(child)
    assert not child.ledger.said("refused")
    assert is_empty(spool)
    check_told_briefly(child)
    check_at_the_end(database.url, child.ledger)


def test_a_full_spool_refuses_and_what_it_has_taken_is_kept(tmp_path: Path) -> None:
    database, spool = File(tmp_path), tmp_path / "spool"
    child = Child(tmp_path, **settings_of(database, pace=0.01, work=0.0, spool=str(spool)))
    child.until("ended", "ship", times=5)
    with database.down():
        with full_disk(child, SPOOL_SIZE):
            child.until("refused", "shop", times=len(KEYS))
            time.sleep(FULL)
        child.until("accepted", "shop", times=child.times("accepted", "shop") + 5)
    goes_on(child)
    leaves(child)
    assert is_empty(spool)
    check_told_briefly(child)
    check_at_the_end(database.url, child.ledger)
    check_refused_to_all(child)
