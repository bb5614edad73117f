"""What must hold whatever happened to the processes, read from the ledger and from the store."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass

from ledger import Ledger
from shop import INVOICE_FAILS, NOTIFY_FAILS
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

Order = tuple[str, int]
Orders = set[Order]

LIVE = ("accepted", "running", "parked")


@dataclass(frozen=True)
class Row:
    """What matters of one row."""

    handler: str
    state: str
    reason: str | None
    order: Order
    attempts: int
    crashes: int


@dataclass
class Found:
    """What a database holds, read without the store.

    Attributes:
        rows: all deliveries.
        counted: how many of each state the counters say there are.
    """

    rows: list[Row]
    counted: Counter[str]

    def of(self, handler: str) -> dict[Order, Row]:
        """Return the rows of a handler by their orders."""
        return {row.order: row for row in self.rows if row.handler == handler}

    def may_run_again(self) -> Orders:
        """Return the orders with a delivery that is not closed."""
        return {row.order for row in self.rows if row.state not in ("resolved", "discarded", "archived")}


_ROWS = "SELECT handler_id, state, reason, payload, attempts, crashes FROM eventbus_dead_letters"
_COUNTS = (
    "SELECT state, sum(letters) FROM (SELECT state, letters FROM eventbus_dead_letter_counts "
    "UNION ALL SELECT state, letters FROM eventbus_dead_letter_count_deltas) AS both_of_them GROUP BY state"
)


def look(url: str) -> Found:
    """Read everything in a database, in one transaction."""
    plain = make_url(url)
    engine = create_engine(plain.set(drivername="postgresql+psycopg" if "postgres" in url else "sqlite"))
    try:
        with engine.connect() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            rows = [
                Row(handler, state, reason, _order(payload), attempts, crashes)
                for handler, state, reason, payload, attempts, crashes in connection.execute(text(_ROWS))
            ]
            counted = Counter({state: int(number) for state, number in connection.execute(text(_COUNTS))})
            return Found(rows, counted)
    finally:
        engine.dispose()


def _order(payload: bytes) -> Order:
    event = json.loads(bytes(payload))
    return event["key"], event["number"]


def check_after_kill(ledger: Ledger, found: Found) -> None:
    """Check a store whose processes were killed a moment ago."""
    accepted = set(ledger.said("accepted"))
    for handler in ("ship", "invoice"):
        ran = set(ledger.said("ended", handler))
        kept = set(found.of(handler))
        assert not accepted - ran - kept, f"lost by {handler}: {sorted(accepted - ran - kept)[:10]}"
    assert_captured(accepted, found)
    assert_counters(found)


def check_at_the_end(ledger: Ledger, found: Found, *, tolerated: Orders | None = None) -> None:
    """Check a store when the last process has found nothing left to do.

    ``tolerated`` are orders that may have run once more than they had to: they were in the store when a
    process was killed or lost its lease.
    """
    accepted, tried = set(ledger.said("accepted")), set(ledger.said("trying"))
    shipped, invoiced = Counter(ledger.said("ended", "ship")), Counter(ledger.said("ended", "invoice"))
    assert accepted <= set(shipped), f"never shipped: {sorted(accepted - set(shipped))[:10]}"
    to_invoice = {order for order in accepted if order[1] % INVOICE_FAILS}
    assert to_invoice <= set(invoiced), f"never invoiced: {sorted(to_invoice - set(invoiced))[:10]}"
    assert set(shipped) <= tried
    twice = {
        order for order, times in (shipped + invoiced).items() if max(shipped[order], invoiced[order]) > 1
    }
    needless = twice - (tolerated or set())
    assert not needless, f"run again for no reason: {sorted(needless)[:10]}"
    broken = found.of("invoice")
    assert {order for order in accepted if order[1] % INVOICE_FAILS == 0} <= set(broken)
    assert all(row.state == "exhausted" for row in broken.values())
    assert not [row for row in found.rows if row.state in LIVE]
    assert_captured(accepted, found)
    assert_counters(found)
    assert_order(ledger)


def assert_captured(accepted: Orders, found: Found) -> None:
    """Every transient failure of an order whose publish has returned is kept."""
    failed = {order for order in accepted if order[1] % NOTIFY_FAILS == 0}
    missing = failed - set(found.of("notify"))
    assert not missing, f"failures that were not kept: {sorted(missing)[:10]}"


def assert_counters(found: Found) -> None:
    """The counters say what a count says."""
    assert Counter(row.state for row in found.rows) == +found.counted


def assert_order(ledger: Ledger) -> None:
    """Orders of one key are shipped in order, and one at a time."""
    last: dict[str, int] = defaultdict(int)
    for line in ledger.lines():
        if line.who == "ship" and line.what == "started":
            assert line.number >= last[line.key], f"{line.key} {line.number} began after {last[line.key]}"
            last[line.key] = line.number
