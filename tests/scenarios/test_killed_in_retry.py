"""A failure that is being tried again when its process is killed comes home in the next one."""

from __future__ import annotations

import time
from pathlib import Path

from children import KILLED, Child
from databases import Database
from invariants import Row, check_meanwhile, look
from shop_process import NOTIFY_FAILS


def test_a_retry_that_dies_with_its_process_comes_home_in_the_next_one(
    database: Database, tmp_path: Path
) -> None:
    settings = {"url": database.url, "retry_after": 0.3, "replays": False}
    first = Child(tmp_path, **settings, keys=["acme"], orders=NOTIFY_FAILS, point="retry.handler")
    assert first.wait() == KILLED, first.errors()
    assert first.ledger.said("retried", "notify") == [("acme", NOTIFY_FAILS)]
    assert _row(database).state == "running"
    second = Child(tmp_path, **settings, orders=0, recovers=True)
    deadline = time.monotonic() + 30
    while (row := _row(database)).state != "resolved":
        assert time.monotonic() < deadline, second.errors()
        time.sleep(0.05)
    assert (row.attempts, row.crashes, row.failures) == (3, 1, 1)  # the one that died is counted, too
    second.leave()
    assert second.wait() == 0, second.errors()
    assert first.ledger.said("ended", "notify").count(("acme", NOTIFY_FAILS)) == 1
    check_meanwhile(database.url, first.ledger)


def _row(database: Database) -> Row:
    return look(database.url).of("notify")["acme", NOTIFY_FAILS]
