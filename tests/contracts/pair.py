"""A store and its model, told the same; each verb asserts that both answer alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Literal

from letters import NOW, build_delivery, build_error, build_letter
from model import AT_REST, CLOSED, FROM, LEASE, OPEN, UNHANDLED_AFTER, Model, Row
from model_controls import Key
from pair_controls import ControlSteps, seen
from steps import find_all, heartbeat, lease_of

from eventbus.classify import Kind
from eventbus.controls import Scope
from eventbus.errors import Paused
from eventbus.retry import RetryPolicy
from eventbus_dlq.errors import DeadLetterNotFound, InvalidTransition, LeaseHeld
from eventbus_dlq.letter import DeadLetter, DeadLetterState, Reason, Verb
from eventbus_dlq.recount import recount
from eventbus_dlq.stats import Stats
from eventbus_dlq.store import Claim, DeadLetterStore, Lease, Leased, SequenceKey, Settlement, Spooled

SPOOL = "spool-1"
UNKNOWN_ID = "0195f0a0-0000-7000-8000-000000000000"
ORDERING_KEYS: Mapping[str, str | None] = {"e1": "a", "e2": "a", "e3": "a", "e4": "b", "e5": None}
PRIORITIES = {"e1": 5, "e2": 1, "e3": 5, "e4": 5, "e5": 9}
Arrival = tuple[Key, DeadLetterState, str | None, Kind, int]
Delivery = tuple[Key, str | None, Reason | None]


async def outcome(call: Awaitable[object]) -> type[Exception] | None:
    """Return the class of the error that ``call`` ends in, or None when it succeeds."""
    try:
        await call
    except (DeadLetterNotFound, LeaseHeld, InvalidTransition) as error:
        return type(error)
    return None


class Pair(ControlSteps):
    """A store and its model; the names of the methods are the steps of a program."""

    def __init__(self, store: DeadLetterStore) -> None:
        super().__init__(store, Model(NOW))
        self.ids: dict[Key, str] = {}
        self.leases: list[Lease] = []
        self.tokens: dict[str, int] = {}
        self.first_runs: dict[SequenceKey, int] = {}

    # -- time

    async def tick(self, seconds: float) -> None:
        """Let time pass."""
        self.model.now += timedelta(seconds=seconds)

    async def reopen(self) -> None:
        """Close the store and open it again."""
        await self.store.close()
        await self.store.open()

    # -- taking in

    async def accept(self, deliveries: list[Delivery]) -> None:
        """Accept deliveries in one call."""
        letters = [self._delivery(*it) for it in deliveries]
        answers = await self.store.accept(letters)
        expected = [self.model.accept(row_of(letter)) for letter in letters]
        assert [tuple(it) for it in answers] == [(row.id, row.state) for row in expected]
        self._remember(expected)

    async def add(self, arrivals: list[Arrival]) -> None:
        """Add letters in one call."""
        letters = [self._failure(*arrival) for arrival in arrivals]
        answers = await self.store.add(letters)
        expected = [self.model.add(row_of(letter)) for letter in letters]
        assert list(answers) == [row.id for row in expected]
        self._remember(expected)

    async def spool(self, writes: list[Arrival | Delivery], gap: int) -> None:
        """Import writes; with a gap, somebody else was faster."""
        letters = [self._failure(*it) if len(it) == 5 else self._delivery(*it) for it in writes]
        spooled = [Spooled("accept" if it.error is None else "add", it) for it in letters]
        start, end = self.model.position + gap, self.model.position + gap + 10
        answer = await self.store.import_spool(SPOOL, spooled, start=start, end=end, now=self.model.now)
        assert answer is (gap == 0)
        if answer:
            self.model.position = end
            self._remember([self._imported(verb, letter) for verb, letter in spooled])
        assert await self.store.spool_position(SPOOL) == self.model.position

    def _imported(self, verb: Literal["add", "accept"], letter: DeadLetter) -> Row:
        row = row_of(letter)
        return self.model.accept(row) if verb == "accept" else self.model.add(row, spooled=True)

    def _delivery(self, key: Key, tenant: str | None, held: Reason | None) -> DeadLetter:
        delivery = build_delivery(**self._common(key), tenant=tenant)
        if held is None:
            return delivery
        # What its process knows of the scope, if the store closes it, is what the store knows.
        closing = self.model.operators.closing(key, tenant, self.model.now)
        reason = Reason(closing[0].reason) if closing else held
        return replace(delivery, state=DeadLetterState.PARKED, reason=reason)

    def _failure(
        self, key: Key, state: DeadLetterState, tenant: str | None, kind: Kind, attempts: int
    ) -> DeadLetter:
        values: dict[str, Any] = {"retry_at": self.model.now if state == "pending" else None}
        if state == "running":
            until = self.model.now + timedelta(seconds=LEASE)
            values |= {"token": 1, "lease_owner": "publisher", "lease_until": until}
        values |= self._common(key)
        letter = build_letter(
            state=state, tenant=tenant, error=build_error(kind), attempts=attempts, history=(), **values
        )
        if state == "running":
            self.leases.append(lease_of(letter))
        return letter

    def _common(self, key: Key) -> dict[str, Any]:
        event, handler = key
        return {
            "event_id": event,
            "event_name": event,
            "handler_id": handler,
            "ordering_key": ORDERING_KEYS[event],
            "priority": PRIORITIES[event],
            "created_at": self.model.now,
            "updated_at": self.model.now,
        }

    def _remember(self, rows: list[Row]) -> None:
        self.ids |= {row.key: row.id for row in rows}

    # -- running

    async def claim(self, keys: list[Key]) -> None:
        """Claim letters in one call."""
        asked = [self.ids.get(key, UNKNOWN_ID) for key in keys]
        answers = await self.store.claim(asked, owner="worker-1", lease=LEASE, now=self.model.now)
        expected = [self._expect_claim(self.model.rows.get(key)) for key in keys]
        assert [type(answer) for answer in answers] == expected
        for key, answer in zip(keys, answers, strict=True):
            if isinstance(answer, Paused):
                self.check_refusal(self.model.rows[key], answer)
        self.leases += [answer.lease for answer in answers if isinstance(answer, Claim)]

    def _expect_claim(self, row: Row | None) -> type:
        if row is None:
            return DeadLetterNotFound
        if row.state == "running":
            return LeaseHeld
        if row.is_held:
            return Paused
        if not self.model.may_run(row):
            return InvalidTransition
        if self.model.closing(row):
            return Paused
        self._begin(row)
        return Claim

    def _begin(self, row: Row) -> None:
        """Begin a run in the model; a sequence's first runs keep the order of acceptance."""
        if row.ordering_key is not None and row.state == "accepted":
            sequence = SequenceKey(row.key[1], row.ordering_key)
            assert row.number >= self.first_runs.get(sequence, 0)
            self.first_runs[sequence] = row.number
        self.model.claim(row)

    async def claim_due(self, wanted: dict[str, int], states: set[DeadLetterState], limit: int) -> None:
        """Claim what is due; between letters that have been due for equally long the store may choose."""
        expected = self.model.due(wanted, states, limit)
        closed = self.model.due_and_closed(wanted, states)
        unsure = any(row.since is None and row.state == "accepted" for row in self.model.rows.values())
        claims = await self.store.claim_due(
            wanted, states=states, limit=limit, owner="worker-2", lease=LEASE, now=self.model.now
        )
        by_id = {row.id: row for row in self.model.rows.values()}
        claimed = [by_id[claim.letter.id] for claim in claims]
        assert len(set(claimed)) == len(claimed) == len(expected)
        assert [self._urgency(it, states, unsure) for it in claimed] == [
            self._urgency(it, states, unsure) for it in expected
        ]
        assert all(count <= wanted[handler] for handler, count in Counter(r.key[1] for r in claimed).items())
        for row in claimed:
            self._begin(row)
        await self._parked(closed, wanted, limit, Counter(row.key[1] for row in claimed))
        assert [seen(claim.letter) for claim in claims] == [row.seen() for row in claimed]
        self.leases += [claim.lease for claim in claims]

    def _urgency(self, row: Row, states: set[DeadLetterState], unsure: bool) -> tuple[object, ...]:
        since = self.model.due_since(row, states)
        assert since is not None
        return (row.priority,) if unsure else (row.priority, since)

    def lease(self, number: int) -> Lease:
        """Return one of all the leases that were ever given out; 0 is the latest."""
        if not self.leases:
            return Lease(dead_letter_id="none", token=1)
        return self.leases[-1 - number % len(self.leases)]

    async def heartbeat(self, number: int) -> None:
        """Extend one of the leases ever given out."""
        lease = self.lease(number)
        lost = await heartbeat(self.store, [lease], lease=LEASE, now=self.model.now)
        row = self._expect_lease(lease, lost)
        if row:
            row.lease_until = self.model.now + timedelta(seconds=LEASE)

    async def settle(
        self, number: int, state: DeadLetterState, kind: Kind | None, uncharged: bool, forget: bool,
        excused: bool = False, redelivery: int | None = None,
    ) -> None:  # fmt: skip
        """Settle under one of the leases ever given out."""
        lease = self.lease(number)
        retry_at = self.model.now + timedelta(seconds=60) if state == "pending" else None
        error, reruns = None if kind is None else build_error(kind), 0 if uncharged else number % 3
        settlement = Settlement(
            lease=lease, state=state, retry_at=retry_at, error=error, uncharged=uncharged, forget=forget,
            reruns=reruns, excused=excused, redelivery=redelivery and RetryPolicy(attempts=redelivery),
        )  # fmt: skip
        row = self._expect_lease(lease, await self.store.settle([settlement], now=self.model.now))
        if row:
            self.model.settle(
                row, state, kind=kind, uncharged=uncharged, reruns=reruns, retry_at=retry_at, forget=forget,
                excused=excused, redelivery=redelivery,
            )  # fmt: skip

    async def release(self, number: int) -> None:
        """Release one of the leases ever given out."""
        lease = self.lease(number)
        row = self._expect_lease(lease, await self.store.release([lease], now=self.model.now))
        if row:
            self.model.release(row)

    def _expect_lease(self, lease: Lease, lost: object) -> Row | None:
        row = self.model.owned(lease.dead_letter_id, lease.token)
        assert list(lost) == ([] if row else [lease])  # type: ignore[call-overload]  # a sequence of leases
        return row

    async def rescue(self, number: int, max_crashes: int, beats: bool) -> None:
        """Take back one of the letters that run; not when its owner beats in between."""
        now = self.model.now
        leased = sorted(await self.store.leased(now=now), key=lambda it: it.dead_letter_id)
        rows = sorted((it for it in self.model.rows.values() if self._is_leased(it)), key=lambda it: it.id)
        assert [(it.dead_letter_id, it.token, it.lease_until) for it in leased] == [
            (row.id, row.token, row.lease_until) for row in rows
        ]
        if not leased:
            return
        watched, row = leased[number % len(leased)], rows[number % len(rows)]
        if beats:
            await self.tick(1.0)
            lease = Lease(dead_letter_id=row.id, token=row.token)
            assert await heartbeat(self.store, [lease], lease=LEASE, now=self.model.now) == []
            row.lease_until = self.model.now + timedelta(seconds=LEASE)
        await self._rescue(watched, None if beats else row, max_crashes)

    async def _rescue(self, watched: Leased, row: Row | None, max_crashes: int) -> None:
        letters = await self.store.rescue([watched], max_crashes=max_crashes, now=self.model.now)
        if row is not None:
            self.model.rescue(row, max_crashes)
        assert [seen(letter) for letter in letters] == ([] if row is None else [row.seen()])

    def _is_leased(self, row: Row) -> bool:
        if row.state != "running" or row.lease_until is None:
            return False
        return not self.store.judges_leases or row.lease_until <= self.model.now

    async def crash(self, key: Key, max_crashes: int) -> None:
        """Let the one who claims a letter die, and let somebody take it back."""
        await self.claim([key])
        await self.tick(LEASE + 1)
        row = self.model.rows.get(key)
        if row is not None and row.state == "running":
            (watched,) = [
                it for it in await self.store.leased(now=self.model.now) if it.dead_letter_id == row.id
            ]
            await self._rescue(watched, row, max_crashes)

    async def hold(self, scope: Scope, state: Literal["paused", "draining"], lasts: float | None) -> None:
        """Close a scope, and let a worker meet what is due."""
        await self.close(scope, state, lasts)
        wanted = {"charge": 3, "audit": 3}
        await self.claim_due(wanted, {DeadLetterState.ACCEPTED, DeadLetterState.PENDING}, 2)

    async def come_back(self, key: Key) -> None:
        """Close a letter, let what is behind it be held for a minute, and restore the letter."""
        await self.change(key, Verb.RESOLVE)
        await self.hold(Scope(), "paused", 60.0)
        await self.change(key, Verb.RESTORE)

    async def fail_and_requeue(self, key: Key) -> None:
        """Run a letter until it is exhausted, and give it another chance."""
        await self.claim([key])
        await self.settle(0, DeadLetterState.EXHAUSTED, Kind.BUG, False, False)
        await self.change(key, Verb.REQUEUE)

    async def work(
        self, state: DeadLetterState, kind: Kind, excused: bool = False, redelivery: int | None = None
    ) -> None:
        """Run the most urgent delivery, as a worker does."""
        before = len(self.leases)
        wanted = {"charge": 1, "audit": 1}
        await self.claim_due(wanted, {DeadLetterState.ACCEPTED, DeadLetterState.PENDING}, 1)
        if len(self.leases) > before:
            error = None if state == "resolved" else kind
            await self.settle(0, state, error, False, True, excused, redelivery)

    # -- deciding

    async def change(self, key: Key, verb: Verb) -> None:
        """Carry out a person's verb."""
        row = self.model.rows.get(key)
        until = self.model.now + timedelta(seconds=600) if verb is Verb.SNOOZE else None
        refusal = refusal_of(row, verb)
        dead_letter_id = self.ids.get(key, UNKNOWN_ID)
        change = self.store.change(dead_letter_id, verb, now=self.model.now, by="ann", until=until)
        assert await outcome(change) is refusal
        if row is not None and refusal is None:
            self.model.change(row, verb, until)

    async def delete(self, key: Key) -> None:
        """Delete a letter."""
        row = self.model.rows.get(key)
        refusal = refusal_of(row, Verb.DELETE)
        assert await outcome(self.store.delete(self.ids.get(key, UNKNOWN_ID))) is refusal
        if row is not None and refusal is None:
            self.model.delete(row)

    async def exhaust_unhandled(self) -> None:
        """Give up what nobody has announced a handler for."""
        since = self.model.now - timedelta(seconds=UNHANDLED_AFTER)
        answer = await self.store.exhaust_unhandled(since=since, now=self.model.now)
        assert set(answer) == self.model.exhaust_unhandled()

    # -- looking

    async def compare(self) -> None:
        """Assert that every letter is as the model has it, and that the statistics are a recount."""
        rows = list(self.model.rows.values())
        letters = [await self.store.get(row.id) for row in rows]
        assert [seen(letter) for letter in letters] == [row.seen() for row in rows]
        assert {item.id for item in await find_all(self.store)} == {letter.id for letter in letters}
        for letter in letters:
            assert letter.token >= self.tokens.get(letter.id, 0)
            self.tokens[letter.id] = letter.token
        keyed = [it for it in rows if it.ordering_key is not None and it.state in OPEN]
        expected = {SequenceKey(it.key[1], str(it.ordering_key)) for it in keyed}
        assert await self.store.blocked({"charge", "audit"}) == expected
        await self.compare_controls()
        await self._compare_stats(letters, self.model.now)

    async def _compare_stats(self, letters: list[DeadLetter], now: datetime) -> None:
        stats = await self.store.stats(now=now)
        rows = self.model.rows.values()
        assert stats.by_state == Counter(row.state for row in rows)
        assert stats.by_kind == Counter(row.kind for row in rows if row.kind)
        assert stats.recovery.pending == sum(row.state not in CLOSED for row in rows)
        assert_same(stats, self.with_scopes(recount(letters, now), None))
        for scope in ({"acme"}, {"globex", "acme"}, set[str]()):
            own = [letter for letter in letters if letter.tenant in scope]
            expected = self.with_scopes(recount(own, now), scope)
            assert_same(await self.store.stats(now=now, tenants=scope), expected)


def row_of(letter: DeadLetter) -> Row:
    """Return what the model keeps of a letter that arrives."""
    return Row(
        id=letter.id, key=(letter.event_id, letter.handler_id), ordering_key=letter.ordering_key,
        priority=letter.priority, tenant=letter.tenant, created_at=letter.created_at, state=str(letter.state),
        kind="" if letter.error is None else str(letter.error.kind), retry_at=letter.retry_at,
        attempts=letter.attempts, token=letter.token, lease_until=letter.lease_until, reason=letter.reason,
        redelivery=letter.redelivery.attempts,
    )  # fmt: skip


def refusal_of(row: Row | None, verb: Verb) -> type[Exception] | None:
    """Return the error that a verb ends in, or None when it is allowed."""
    if row is None:
        return DeadLetterNotFound
    if row.state == "running":
        return LeaseHeld
    assert row.state in AT_REST | CLOSED
    return None if row.state in FROM[verb] else InvalidTransition


def assert_same(stats: Stats, expected: Stats) -> None:
    """Assert that both say the same, with rounding allowed in the averages."""
    for name in Stats.__dataclass_fields__:
        got, want = getattr(stats, name), getattr(expected, name)
        if isinstance(want, float):
            assert abs(got - want) < 1e-3, name
        else:
            assert got == want, name
