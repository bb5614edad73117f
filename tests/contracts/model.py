"""A store told twice: every verb goes to a real store and to a few plain numbers beside it."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from letters import NOW, build_error, build_letter
from steps import lease_of

from eventbus.classify import Kind
from eventbus_dlq.errors import DeadLetterNotFound, InvalidTransition, LeaseHeld
from eventbus_dlq.letter import DeadLetter, DeadLetterState, Verb
from eventbus_dlq.store import Claim, DeadLetterStore, Lease, Settlement

Key = tuple[str, str]
OPEN = {"accepted", "pending", "exhausted", "parked"}
CLOSED = {"resolved", "discarded", "archived"}
FROM = {
    Verb.RESOLVE: OPEN,
    Verb.DISCARD: OPEN,
    Verb.ARCHIVE: OPEN,
    Verb.RESTORE: CLOSED,
    Verb.SNOOZE: {"pending", "exhausted"},
}
TO = {
    Verb.RESOLVE: "resolved",
    Verb.DISCARD: "discarded",
    Verb.ARCHIVE: "archived",
    Verb.RESTORE: "exhausted",
    Verb.SNOOZE: "pending",
}
LEASE = 30.0


@dataclass
class Row:
    """What the model knows of one letter."""

    id: str
    tenant: str | None
    state: str
    kind: str
    retry_at: datetime | None
    attempts: int
    token: int
    lease_until: datetime | None
    retries: int = 0
    crashes: int = 0
    before: str | None = None

    def seen(self) -> tuple[object, ...]:
        """Return what a letter of the store must show."""
        return (
            self.id, self.tenant, self.state, self.kind, self.retry_at, self.attempts, self.token,
            self.lease_until, self.retries, self.crashes,
        )  # fmt: skip


def seen(letter: DeadLetter) -> tuple[object, ...]:
    """Return of a stored letter what :meth:`Row.seen` returns."""
    return (
        letter.id, letter.tenant, letter.state, letter.error.kind, letter.retry_at, letter.attempts,
        letter.token, letter.lease_until, letter.retries, letter.crashes,
    )  # fmt: skip


async def outcome(call: Awaitable[object]) -> type[Exception] | None:
    """Return the class of the error that ``call`` ends in, or None when it succeeds."""
    try:
        await call
    except (DeadLetterNotFound, LeaseHeld, InvalidTransition) as error:
        return type(error)
    return None


class Pair:
    """A store and its model; each verb asserts that both answer alike."""

    def __init__(self, store: DeadLetterStore) -> None:
        self.store = store
        self.rows: dict[Key, Row] = {}
        self.ids: dict[Key, str] = {}
        self.leases: list[Lease] = []
        self.now = NOW

    def id_of(self, key: Key) -> str:
        """Return the latest id that ``key`` had, also when it is deleted; else an unknown one."""
        return self.ids.get(key, "0195f0a0-0000-7000-8000-000000000000")

    def lease(self, number: int) -> Lease:
        """Return one of all the leases that were ever given out; 0 is the latest."""
        return (
            self.leases[-1 - number % len(self.leases)]
            if self.leases
            else Lease(dead_letter_id="none", token=1)
        )

    def owned(self, lease: Lease) -> Row | None:
        """Return the row that ``lease`` is current for."""
        for row in self.rows.values():
            if (row.id, row.token, row.state) == (lease.dead_letter_id, lease.token, "running"):
                return row
        return None

    async def tick(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)

    async def add(self, arrivals: list[tuple[Key, DeadLetterState, str | None, Kind, int]]) -> None:
        """Add letters in one call."""
        letters = [self._letter(*arrival) for arrival in arrivals]
        answers = await self.store.add(letters)
        expected = [self._expect_add(letter) for letter in letters]
        assert list(answers) == expected

    def _letter(
        self, key: Key, state: DeadLetterState, tenant: str | None, kind: Kind, attempts: int
    ) -> DeadLetter:
        values: dict[str, Any] = {"retry_at": self.now if state == "pending" else None}
        if state == "running":
            until = self.now + timedelta(seconds=LEASE)
            values |= {"token": 1, "lease_owner": "publisher", "lease_until": until}
        letter = build_letter(
            event_id=key[0], event_name=key[0], handler_id=key[1], state=state, tenant=tenant,
            error=build_error(kind), attempts=attempts, history=(), created_at=self.now,
            updated_at=self.now, **values,
        )  # fmt: skip
        if state == "running":
            self.leases.append(lease_of(letter))
        return letter

    def _expect_add(self, letter: DeadLetter) -> str:
        key = (letter.event_id, letter.handler_id)
        row = self.rows.get(key)
        if row is None:
            self.rows[key] = Row(
                letter.id, letter.tenant, letter.state, letter.error.kind, letter.retry_at,
                letter.attempts, letter.token, letter.lease_until,
            )  # fmt: skip
            self.ids[key] = letter.id
        elif row.state != "running":
            row.token = max(row.token + (letter.state == "running"), letter.token)
            row.state, row.before, row.kind = letter.state, None, letter.error.kind
            row.attempts += letter.attempts
            row.retry_at, row.lease_until = letter.retry_at, letter.lease_until
        return self.ids[key]

    async def claim(self, keys: list[Key]) -> None:
        """Claim letters in one call."""
        asked = [self.id_of(key) for key in keys]
        answers = await self.store.claim(asked, owner="worker-1", lease=LEASE, now=self.now)
        expected = [self._expect_claim(key) for key in keys]
        assert [type(answer) for answer in answers] == expected
        self.leases += [answer.lease for answer in answers if isinstance(answer, Claim)]

    def _expect_claim(self, key: Key) -> type:
        row = self.rows.get(key)
        if row is None:
            return DeadLetterNotFound
        if row.state == "running":
            if row.lease_until is not None and self.now < row.lease_until:
                return LeaseHeld
            row.crashes += 1
        elif row.state not in {"accepted", "pending", "exhausted"}:
            return InvalidTransition
        else:
            row.before = row.state
        row.state = "running"
        row.attempts, row.retries, row.token = row.attempts + 1, row.retries + 1, row.token + 1
        row.lease_until = self.now + timedelta(seconds=LEASE)
        return Claim

    async def crash(self, key: Key) -> None:
        """Let the one who claims a letter die, and another one take it over."""
        await self.claim([key])
        await self.tick(LEASE + 1)
        await self.claim([key])

    async def heartbeat(self, number: int) -> None:
        """Extend one of the leases ever given out."""
        lease = self.lease(number)
        lost = await self.store.heartbeat([lease], lease=LEASE, now=self.now)
        row = self.owned(lease)
        assert list(lost) == ([] if row else [lease])
        if row:
            row.lease_until = self.now + timedelta(seconds=LEASE)

    async def settle(self, number: int, state: DeadLetterState, kind: Kind, uncharged: bool) -> None:
        """Settle under one of the leases ever given out."""
        lease = self.lease(number)
        retry_at = self.now + timedelta(seconds=60) if state == "pending" else None
        settlement = Settlement(
            lease=lease, state=state, retry_at=retry_at, error=build_error(kind), uncharged=uncharged
        )
        lost = await self.store.settle([settlement], now=self.now)
        row = self.owned(lease)
        assert list(lost) == ([] if row else [lease])
        if row:
            row.state, row.kind, row.retry_at, row.lease_until = state, kind, retry_at, None
            row.attempts, row.retries = row.attempts - uncharged, row.retries - uncharged

    async def release(self, number: int) -> None:
        """Release one of the leases ever given out."""
        lease = self.lease(number)
        lost = await self.store.release([lease], now=self.now)
        row = self.owned(lease)
        assert list(lost) == ([] if row else [lease])
        if row is None:
            return
        if row.before is None:
            row.state, row.retry_at = "pending", row.retry_at or self.now
        else:
            row.state, row.attempts, row.retries = row.before, row.attempts - 1, row.retries - 1
        row.lease_until = None

    async def change(self, key: Key, verb: Verb) -> None:
        """Carry out a person's verb."""
        row = self.rows.get(key)
        until = self.now + timedelta(seconds=600) if verb is Verb.SNOOZE else None
        refusal = self._refusal(row, FROM[verb])
        change = self.store.change(self.id_of(key), verb, now=self.now, by="ann", until=until)
        assert await outcome(change) is refusal
        if row is not None and refusal is None:
            row.state, row.retry_at = TO[verb], until

    async def delete(self, key: Key) -> None:
        """Delete a letter."""
        refusal = self._refusal(self.rows.get(key), OPEN | CLOSED)
        assert await outcome(self.store.delete(self.id_of(key))) is refusal
        if refusal is None:
            del self.rows[key]

    def _refusal(self, row: Row | None, allowed: set[str]) -> type[Exception] | None:
        if row is None:
            return DeadLetterNotFound
        if row.state == "running":
            return LeaseHeld
        return None if row.state in allowed else InvalidTransition
