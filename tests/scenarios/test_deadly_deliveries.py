"""A delivery that ends the process that runs it is given up before it has ended all of them."""

from __future__ import annotations

import time
from pathlib import Path

from children import Child
from databases import Database
from invariants import Row, check_meanwhile, look

DEADLY = 4
ENDED_BY_IT = 7


def test_a_delivery_that_kills_its_process_is_poison_after_three(database: Database, tmp_path: Path) -> None:
    settings = {"url": database.url, "exit_at": DEADLY, "max_crashes": 3}
    first = Child(tmp_path, **settings, keys=["acme"], orders=6)
    assert first.wait() == ENDED_BY_IT, first.errors()
    for _ in range(2):
        again = Child(tmp_path, **settings, orders=0)
        assert again.wait() == ENDED_BY_IT, again.errors()
    survivor = Child(tmp_path, **settings, orders=0, replays=False)
    row = _wait_for_poison(database, survivor)
    assert (row.state, row.reason, row.crashes, row.attempts) == ("exhausted", "poison", 3, 3)
    survivor.leave()
    assert survivor.wait() == 0, survivor.errors()
    assert first.ledger.said("started", "ship").count(("acme", DEADLY)) == 3
    found = check_meanwhile(database.url, first.ledger)
    behind = {order for order, row in found.of("ship").items() if row.state == "parked"}
    early = {("acme", number) for number in range(1, DEADLY + 1)}
    accepted, tried = (set(first.ledger.said(what)) for what in ("accepted", "trying"))
    assert accepted - early <= behind <= tried - early


def _wait_for_poison(database: Database, survivor: Child) -> Row:
    deadline = time.monotonic() + 30
    while True:
        row = look(database.url).of("ship").get(("acme", DEADLY))
        if row is not None and row.state == "exhausted":
            return row
        assert time.monotonic() < deadline, survivor.errors()
        time.sleep(0.05)
