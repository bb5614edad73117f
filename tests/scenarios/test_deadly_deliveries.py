"""A delivery that ends the process that runs it is given up before it has ended all of them."""

from __future__ import annotations

from pathlib import Path

from children import Child
from databases import Database
from invariants import look

DEADLY = 4


def test_a_delivery_that_kills_its_process_is_poison_after_three(database: Database, tmp_path: Path) -> None:
    settings = {"url": database.url, "exit_at": DEADLY, "max_crashes": 3}
    first = Child(tmp_path, **settings, keys=["acme"], orders=6)
    assert first.wait() == 7, first.errors()
    for _ in range(2):
        again = Child(tmp_path, **settings, orders=0)
        assert again.wait() == 7, again.errors()
    survivor = Child(tmp_path, **settings, orders=0)
    survivor.until("open", "shop")
    row = _wait_for_poison(database, survivor)
    assert (row.state, row.reason, row.crashes, row.attempts) == ("exhausted", "poison", 3, 3)
    survivor.kill()
    assert first.ledger.said("started", "ship").count(("acme", DEADLY)) == 3
    behind = [order for order, found in look(database.url).of("ship").items() if found.state == "parked"]
    assert all(number > DEADLY for _, number in behind)


def _wait_for_poison(database: Database, survivor: Child) -> object:
    import time

    deadline = time.monotonic() + 30
    while True:
        row = look(database.url).of("ship").get(("acme", DEADLY))
        if row is not None and row.state == "exhausted":
            return row
        assert time.monotonic() < deadline, survivor.errors()
        time.sleep(0.1)
