"""What must hold whatever happened to the processes, read from the ledger and from the store."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from ledger import Ledger, Line
from own_rows import own_orders
from shop_process import INVOICE_FAILS, NOTIFY_FAILS, SHIP_FAILS_ONCE
from sqlalchemy import select, text
from tallies import Tallies, snapshot, tallies

Order = tuple[str, int]
Run = tuple[str, Order]
"""A handler and the order that it ran."""

DURABLE = ("ship", "invoice")
HANDLERS = (*DURABLE, "notify")
LIVE = ("accepted", "running", "parked")


@dataclass(frozen=True)
class Row:
    """What matters of one row.

    Attributes:
        failures: how many failed runs its history tells of.
    """

    id: str
    token: int
    handler: str
    state: str
    reason: str | None
    order: Order
    attempts: int
    crashes: int
    failures: int


@dataclass
class Found:
    """What a database holds, read without the store.

    Attributes:
        rows: all deliveries.
        tallies: what is counted, and what the counters say.
    """

    rows: list[Row]
    tallies: Tallies

    def of(self, handler: str) -> dict[Order, Row]:
        """Return the rows of a handler by their orders."""
        return {row.order: row for row in self.rows if row.handler == handler}

    def running(self, by: Iterable[Line]) -> set[Run]:
        """Return what a process, which has said some lines, has a lease for."""
        leases = {(line.key, line.number) for line in by if line.what == "granted"}
        running = [row for row in self.rows if row.state == "running"]
        return {(row.handler, row.order) for row in running if (row.id, row.token) in leases}


_COLUMNS = "id, token, handler_id, state, reason, payload, attempts, crashes, history"
_ROWS = f"SELECT {_COLUMNS} FROM eventbus_dead_letters"


def look(url: str) -> Found:
    """Read everything in a database, in one transaction."""
    with snapshot(url) as connection:
        rows = [_row(*columns) for columns in connection.execute(text(_ROWS))]
        return Found(rows, tallies(connection))


def _row(
    id: str,
    token: int,
    handler: str,
    state: str,
    reason: str | None,
    payload: bytes,
    attempts: int,
    crashes: int,
    history: bytes,
) -> Row:
    event = json.loads(bytes(payload))
    order = (event["key"], event["number"])
    failures = len(json.loads(bytes(history)))
    return Row(id, token, handler, state, reason, order, attempts, crashes, failures)


def check_meanwhile(url: str, ledger: Ledger) -> Found:
    """Check a store at any moment, with processes that work or were killed; return what it holds."""
    accepted = set(ledger.said("accepted"))  # before the look, and what has ended after it
    found = look(url)
    for handler in DURABLE:
        missing = accepted - set(found.of(handler)) - set(ledger.said("ended", handler))
        assert not missing, f"lost by {handler}: {some(missing)}"
    assert_kept_once(found)
    assert_captured(accepted, found)
    found.tallies.check()
    assert_attempts(found)
    assert_tokens(ledger)
    return found


def check_own_rows(url: str, ledger: Ledger) -> set[Order]:
    """Check, at any moment, what was published in transactions of the shop's own; return its rows."""
    accepted, taken_back = set(ledger.said("accepted")), set(ledger.said("taken_back"))
    ended = endings(ledger)
    with snapshot(url) as connection:
        own = {(key, number) for key, number in connection.execute(select(own_orders))}
        rows = [_row(*columns) for columns in connection.execute(text(_ROWS))]
    assert accepted <= own, f"written by the shop, and lost: {some(accepted - own)}"
    assert not taken_back & own, f"rolled back, and there: {some(taken_back & own)}"
    kept = {(row.handler, row.order) for row in rows}
    assert_neither_without_the_other(own, kept | ended, kept | endings(ledger))
    return own


def endings(ledger: Ledger) -> set[Run]:
    """Return what has succeeded."""
    return {(line.who, (line.key, line.number)) for line in ledger.lines() if line.what == "ended"}


def assert_neither_without_the_other(own: set[Order], known: set[Run], known_since: set[Run]) -> None:
    """No order that the shop has written is without its deliveries, and no delivery without its order.

    ``known`` was kept, or had run, when they were read; ``known_since`` includes what has run since.
    """
    ghosts = {run for run in known if run[1] not in own}
    assert not ghosts, f"kept or run, and never committed: {some(ghosts)}"
    missing = {(handler, order) for handler in HANDLERS for order in own} - known_since
    assert not missing, f"committed by the shop, and not delivered: {some(missing)}"


def check_at_the_end(
    url: str, ledger: Ledger, *, tolerated: AbstractSet[Run] = frozenset(), losses: int = 0
) -> Found:
    """Check a store when the last process has found nothing left to do; return what it holds.

    ``tolerated`` may have run once more than they had to: they were running when a process was killed or
    lost its leases, which happened to ``losses`` processes.
    """
    found = check_meanwhile(url, ledger)
    doubted = in_doubt(ledger)
    tolerated = tolerated | set(doubted)
    accepted, tried = set(ledger.said("accepted")), set(ledger.said("trying"))
    for handler, ending in (
        ("ship", accepted),
        ("invoice", {it for it in accepted if it[1] % INVOICE_FAILS}),
    ):
        ended = Counter(ledger.said("ended", handler))
        assert ending <= set(ended), f"never done by {handler}: {some(ending - set(ended))}"
        assert set(ended) <= tried
        twice = {order for order, times in ended.items() if times > 1 and (handler, order) not in tolerated}
        assert not twice, f"run by {handler} again for no reason: {some(twice)}"
    assert not [row for row in found.rows if row.state in LIVE]
    broken = found.of("invoice")
    assert {order for order in accepted if order[1] % INVOICE_FAILS == 0} <= set(broken)
    assert {row.state for row in broken.values()} <= {"exhausted"}
    assert {row.state for row in found.of("ship").values()} <= {"resolved"}
    assert_runs_bounded(ledger, losses, doubted)
    assert_order(ledger, tolerated)
    return found


def assert_kept_once(found: Found) -> None:
    """No delivery has two rows."""
    twice = [it for it, rows in Counter((row.handler, row.order) for row in found.rows).items() if rows > 1]
    assert not twice, f"kept twice: {some(twice)}"


def assert_captured(accepted: set[Order], found: Found) -> None:
    """Every transient failure of an order whose publish has returned is kept."""
    failed = {order for order in accepted if order[1] % NOTIFY_FAILS == 0}
    missing = failed - set(found.of("notify"))
    assert not missing, f"failures that were not kept: {some(missing)}"


def assert_attempts(found: Found) -> None:
    """Every attempt that was charged is accounted for: it failed, its process died, it runs or succeeded."""
    for row in found.rows:
        last = row.state in ("running", "resolved")
        assert row.attempts == row.failures + row.crashes + last, f"charged otherwise: {row}"


def in_doubt(ledger: Ledger) -> Counter[Run]:
    """Return what was handed to the store again, or spooled, because it may not have arrived: how often.

    It may have arrived each time, and each time have run.
    """
    handed = Counter((line.who, (line.key, line.number)) for line in ledger.lines() if line.what == "handed")
    imported = {(line.who, (line.key, line.number)) for line in ledger.lines() if line.what == "imported"}
    return +Counter({run: times - 1 + (run in imported) for run, times in handed.items()})


def assert_runs_bounded(ledger: Ledger, losses: int, doubted: Counter[Run]) -> None:
    """Nothing ran more often than it failed, lost its process, or was handed over."""
    runs = Counter((line.who, (line.key, line.number)) for line in ledger.lines() if line.what == "started")
    for (handler, order), times in runs.items():
        fails = handler == "ship" and order[1] % SHIP_FAILS_ONCE == 0
        assert times <= 1 + fails + losses + doubted[handler, order], (
            f"{handler} ran {times} times for {order}"
        )


def assert_tokens(ledger: Ledger) -> None:
    """No token was granted twice, or settled twice, or settled after another one was granted."""
    granted: dict[str, dict[int, float]] = defaultdict(dict)
    begun: dict[Order, float] = {}
    settled: set[Order] = set()
    for line in ledger.lines():
        lease = (line.key, line.number)
        match line.what:
            case "granted":
                assert line.number not in granted[line.key], f"granted twice: {lease}"
                granted[line.key][line.number] = line.at
            case "settling":
                begun[lease] = line.at
            case "settled":
                assert lease not in settled, f"settled twice: {lease}"
                settled.add(lease)
                later = [token for token, at in granted[line.key].items() if at < begun[lease]]
                assert max(later, default=line.number) == line.number, (
                    f"settled with an old token: {lease}, after {later}"
                )


def assert_order(ledger: Ledger, tolerated: AbstractSet[Run] = frozenset()) -> None:
    """Orders of one key are shipped one at a time: none begins before all that came before it have ended.

    Of what is ``tolerated``, whoever had lost its lease may begin late, when it is done with.
    """
    began: dict[str, set[int]] = defaultdict(set)
    ended: dict[str, set[int]] = defaultdict(set)
    for line in ledger.lines():
        if line.who != "ship":
            continue
        late = ("ship", (line.key, line.number)) in tolerated and line.number in ended[line.key]
        if line.what == "started" and not late:
            assert line.number >= max(began[line.key], default=0), f"{line} after {max(began[line.key])}"
            under_way = {it for it in began[line.key] - ended[line.key] if it < line.number}
            assert not under_way, f"{line} while {some(under_way)} had not ended"
            began[line.key].add(line.number)
        elif line.what == "ended":
            ended[line.key].add(line.number)


def some(orders: object) -> str:
    """Return the first few of many."""
    assert isinstance(orders, (AbstractSet, list))
    return f"{sorted(orders)[:10]} ({len(orders)})"
