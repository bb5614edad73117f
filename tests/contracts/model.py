"""What a store should do, told a second time: in plain numbers, and as slowly as it likes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from model_controls import Key, Notice, Operators

OPEN = {"accepted", "running", "pending", "exhausted", "parked"}
AT_REST = OPEN - {"running"}
CLOSED = {"resolved", "discarded", "archived"}
FROM = {
    "resolve": AT_REST,
    "discard": AT_REST,
    "archive": AT_REST,
    "restore": CLOSED,
    "snooze": {"pending", "exhausted"},
    "requeue": {"pending", "exhausted"},
    "delete": AT_REST | CLOSED,
}
TO = {
    "resolve": "resolved",
    "discard": "discarded",
    "archive": "archived",
    "restore": "exhausted",
    "snooze": "pending",
    "requeue": "pending",
}
LEASE = 30.25
UNHANDLED_AFTER = 3_600.0


@dataclass(eq=False)
class Row:
    """What the model knows of one letter."""

    id: str
    key: Key
    ordering_key: str | None
    priority: int
    tenant: str | None
    created_at: datetime
    state: str
    kind: str = ""
    retry_at: datetime | None = None
    attempts: int = 0
    token: int = 0
    lease_until: datetime | None = None
    reason: str | None = None
    retries: int = 0
    crashes: int = 0
    before: str | None = None
    waits: bool = False
    redelivery: int = 5
    since: datetime | None = None
    """When an accepted one became claimable; None when nobody can say."""
    number: int = field(default=0)

    def blocks(self) -> bool:
        """Tell whether it holds back what is accepted behind it."""
        if self.state == "running":
            return self.before != "accepted"
        return self.state in {"pending", "exhausted", "parked"}

    def seen(self) -> tuple[object, ...]:
        """Return what a letter of the store must show."""
        return (
            self.id, self.tenant, self.state, self.reason, self.kind, self.retry_at, self.attempts,
            self.retries, self.crashes, self.token, self.lease_until, self.waits, self.redelivery,
        )  # fmt: skip

    @property
    def is_held(self) -> bool:
        """Whether a control has parked it."""
        return self.state == "parked" and self.reason in {"paused", "draining"}


class Model:
    """All rows, and what each verb makes of them. ``now`` is the only clock."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.rows: dict[Key, Row] = {}
        self.announced: dict[str, datetime] = {}
        self.operators = Operators()
        self.position = 0
        self._stored = 0

    # -- sequences

    def line(self, row: Row, *, besides: bool = False) -> list[Row]:
        """Return the open letters of the sequence of ``row``, the first one first."""
        if row.ordering_key is None:
            return []
        own = [
            it
            for it in self.rows.values()
            if (it.key[1], it.ordering_key) == (row.key[1], row.ordering_key) and it.state in OPEN
        ]
        return sorted((it for it in own if not (besides and it is row)), key=lambda it: it.number)

    def opened(self, row: Row) -> None:
        """Give a letter that is open now its place."""
        heads = [it for it in self.line(row, besides=True) if not it.waits]
        row.waits = bool(heads)
        if heads and heads[0].state != "running" and row.number < heads[0].number:
            row.waits, heads[0].waits = False, True
        self.hold_back(row)

    def left(self, row: Row, moment: datetime | None) -> None:
        """Let the sequence of a letter go on that is open no more."""
        line = self.line(row, besides=True)
        if line and not row.waits:
            head = line[0]
            head.waits = False
            if (head.state, head.reason) == ("parked", "sequence"):
                head.state, head.reason = "accepted", None
            head.since = moment
        row.waits = False

    def hold_back(self, row: Row) -> None:
        """Park what waits in a sequence that is blocked."""
        line = self.line(row)
        if any(it.blocks() for it in line):
            for it in line:
                if it.state == "accepted" and it.waits:
                    it.state, it.reason = "parked", "sequence"

    def _moved(self, row: Row, state: str) -> None:
        was_open, row.state = row.state in OPEN, state
        row.lease_until = row.lease_until if state == "running" else None
        if was_open and state not in OPEN:
            self.left(row, self.now)
        elif state in OPEN and not was_open:
            self.opened(row)
        else:
            self.hold_back(row)

    # -- controls

    def closing(self, row: Row) -> list[str]:
        """Return why a letter would be parked, for each control that closes it."""
        return [it.reason for it in self.operators.closing(row.key, row.tenant, self.now)]

    def hold(self, row: Row, reason: str) -> None:
        """Park a letter that a control closes."""
        row.before, row.reason = row.state, reason
        self._moved(row, "parked")

    def free(self) -> list[Row]:
        """Return what controls have parked and none closes any more, the oldest first."""
        held = [it for it in self.rows.values() if it.is_held and not self.closing(it)]
        return sorted(held, key=lambda it: (it.created_at, it.number))

    def unpark(self, row: Row) -> None:
        """Let a letter go back to its former state."""
        before, row.before = row.before, None
        row.reason, row.since = None, row.created_at
        assert before is not None
        self._moved(row, before)

    def running(self) -> list[tuple[Key, str | None]]:
        """Return whose letters run."""
        return [(it.key, it.tenant) for it in self.rows.values() if it.state == "running"]

    def _exhausted(self, row: Row) -> None:
        """Note what is to be told of a letter that is exhausted since now."""
        notice = Notice(dead_letter_id=row.id, handler=row.key[1], reason=row.reason, at=self.now)
        self.operators.notices.append(notice)

    # -- taking in

    def accept(self, arrived: Row) -> Row:
        """Keep a delivery, unless it is known."""
        known = self.rows.get(arrived.key)
        return known or self._take_in(arrived)

    def _take_in(self, arrived: Row) -> Row:
        if not arrived.is_held:
            return self._store(arrived)
        reason, arrived.state, arrived.reason = arrived.reason, "accepted", None
        row = self._store(arrived)
        if row.state == "accepted" and not row.waits and self.closing(row):
            self.hold(row, reason or "")
        return row

    def add(self, arrived: Row, *, spooled: bool = False) -> Row:
        """Keep a failure, or merge it."""
        known = self.rows.get(arrived.key)
        if known is None:
            return self._store(arrived)
        if known.state == "running" or (spooled and known.state in CLOSED):
            return known
        known.token = max(known.token + (arrived.state == "running"), arrived.token)
        known.kind, known.reason, known.before = arrived.kind, arrived.reason, None
        known.attempts += arrived.attempts
        known.retry_at, known.lease_until = arrived.retry_at, arrived.lease_until
        known.since, known.redelivery = self.now, arrived.redelivery
        was_exhausted = known.state == "exhausted"
        self._moved(known, arrived.state)
        if known.state == "exhausted" and not was_exhausted:
            self._exhausted(known)
        return known

    def _store(self, arrived: Row) -> Row:
        self._stored += 1
        arrived.number = self._stored
        arrived.since = arrived.created_at
        self.rows[arrived.key] = arrived
        if arrived.state in OPEN:
            self.opened(arrived)
        if arrived.state == "exhausted":
            self._exhausted(arrived)
        return arrived

    # -- running

    def owned(self, dead_letter_id: str, token: int) -> Row | None:
        """Return the row that a lease is current for."""
        for row in self.rows.values():
            if (row.id, row.token, row.state) == (dead_letter_id, token, "running"):
                return row
        return None

    def may_run(self, row: Row) -> bool:
        """Tell whether a claim of ``row`` by its id succeeds."""
        return row.state in {"accepted", "pending", "exhausted"} and not row.waits

    def claim(self, row: Row) -> None:
        """Take a letter for a run."""
        row.before, row.state = row.state, "running"
        row.attempts, row.token = row.attempts + 1, row.token + 1
        row.retries += row.before != "accepted"
        row.lease_until = self.now + timedelta(seconds=LEASE)

    def due_since(self, row: Row, states: Iterable[str]) -> datetime | None:
        """Return since when ``row`` is due; None when it is not."""
        if row.waits or row.state not in states:
            return None
        if row.state == "accepted":
            return row.since or self.now
        return row.retry_at if row.retry_at is not None and row.retry_at <= self.now else None

    def due(self, wanted: Mapping[str, int], states: Iterable[str], limit: int) -> list[Row]:
        """Return what is to be claimed, the most urgent first."""
        found = [(it.priority, moment, it.number, it) for it in self.rows.values()
                 if (moment := self.due_since(it, states)) is not None and not self.closing(it)]  # fmt: skip
        left, chosen = dict(wanted), list[Row]()
        for _, _, _, row in sorted(found, key=lambda it: it[:3]):
            if left.get(row.key[1], 0) > 0 and len(chosen) < limit:
                left[row.key[1]] -= 1
                chosen.append(row)
        return chosen

    def due_and_closed(self, wanted: Mapping[str, int], states: Iterable[str]) -> list[Row]:
        """Return what may be parked because it is wanted, due and closed."""
        due = [it for it in self.rows.values() if self.due_since(it, states) is not None]
        return [it for it in due if wanted.get(it.key[1], 0) > 0 and self.closing(it)]

    def settle(self, row: Row, state: str, *, kind: str | None, uncharged: bool, excused: bool,
               reruns: int, retry_at: datetime | None, forget: bool,
               redelivery: int | None) -> None:  # fmt: skip
        """End a run."""
        forgotten = forget and state == "resolved" and row.kind == ""
        if row.before is not None:
            row.attempts -= uncharged
            row.retries -= (uncharged or excused) and row.before != "accepted"
        row.redelivery = redelivery or row.redelivery
        row.attempts += reruns
        row.kind = row.kind if kind is None else kind
        row.retry_at, row.reason, row.before = retry_at, None, None
        self._moved(row, state)
        if state == "exhausted":
            self._exhausted(row)
        if forgotten:
            del self.rows[row.key]

    def release(self, row: Row) -> None:
        """Give a letter back."""
        before, row.before = row.before, None
        if before is None:
            row.retry_at = row.retry_at or self.now
        else:
            row.attempts, row.retries = row.attempts - 1, row.retries - (before != "accepted")
        row.since = self.now
        self._moved(row, before or "pending")

    def rescue(self, row: Row, max_crashes: int) -> None:
        """Take a letter back from an owner that has died."""
        before, row.before = row.before, None
        row.crashes += 1
        row.since = self.now
        if row.crashes >= max_crashes:
            row.kind, row.reason, row.retry_at = row.kind or "unknown", "poison", None
            self._moved(row, "exhausted")
            self._exhausted(row)
            return
        if before in {None, "pending"}:
            row.retry_at = row.retry_at or self.now
        self._moved(row, before or "pending")

    # -- deciding

    def change(self, row: Row, verb: str, until: datetime | None) -> None:
        """Carry out a person's verb."""
        row.retry_at, row.reason, row.before = until, None, None
        if verb == "requeue":
            row.retry_at, row.retries = self.now, 0
        self._moved(row, TO[verb])

    def delete(self, row: Row) -> None:
        """Remove a letter."""
        if row.state in OPEN:
            self.left(row, None)
        del self.rows[row.key]

    def exhaust_unhandled(self) -> set[str]:
        """Give up what nobody has had a handler for."""
        since = self.now - timedelta(seconds=UNHANDLED_AFTER)
        orphans = [it for it in self.rows.values() if self._is_orphan(it, since)]
        for row in orphans:
            row.reason, row.retry_at = "unhandled", None
            self._moved(row, "exhausted")
            self._exhausted(row)
        return {row.id for row in orphans}

    def _is_orphan(self, row: Row, since: datetime) -> bool:
        announced = self.announced.get(row.key[1])
        return (
            row.state == "accepted"
            and not row.waits
            and row.created_at < since
            and (announced is None or announced < since)
        )

    # -- what always holds

    def check(self, claimed: Callable[[Row], bool] = lambda row: row.before is not None) -> None:
        """Assert what holds of every sequence, whatever was done."""
        for row in self.rows.values():
            if row.state not in OPEN or row.ordering_key is None:
                assert not row.waits
                continue
            line = self.line(row)
            heads = [it for it in line if not it.waits]
            assert len(heads) == 1
            assert sum(it.state == "running" and claimed(it) for it in line) <= 1
            if any(it.blocks() for it in line):
                assert all(it.state != "accepted" for it in line if it.waits)
