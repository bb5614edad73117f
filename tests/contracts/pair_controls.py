"""The steps of a program that operators take, each asserting that store and model answer alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Literal

from letters import build_process
from model import Model, Row
from model_controls import ClosedScope

from eventbus.controls import Control, Scope
from eventbus.errors import Paused
from eventbus.retry import RetryPolicy
from eventbus_dlq.letter import DeadLetter
from eventbus_dlq.stats import Stats
from eventbus_dlq.store import DeadLetterStore

LIVE = 30.0
TELLING = 25.0


def seen(letter: DeadLetter) -> tuple[object, ...]:
    """Return of a stored letter what :meth:`Row.seen` returns."""
    kind = "" if letter.error is None else str(letter.error.kind)
    return (
        letter.id, letter.tenant, letter.state, letter.reason, kind, letter.retry_at, letter.attempts,
        letter.retries, letter.crashes, letter.token, letter.lease_until, letter.waits,
        letter.redelivery.attempts,
    )  # fmt: skip


def seen_control(control: Control) -> tuple[object, ...]:
    """Return of a control what :meth:`ClosedScope.seen` returns."""
    return (
        control.scope, control.state, control.since, control.until, control.drained_at, control.version,
    )  # fmt: skip


class ControlSteps:
    """A store and its model; the names of the methods are the steps of a program."""

    def __init__(self, store: DeadLetterStore, model: Model) -> None:
        self.store = store
        self.model = model
        self.controls: list[Control] = []
        self.version = 0
        self.changes = 0
        self.tellers = 0

    async def announce(self, handler: str) -> None:
        """Let a process announce a handler."""
        await self.store.announce(build_process(id=handler, handlers=(handler,), beat_at=self.model.now))
        self.model.announced[handler] = self.model.operators.live[handler] = self.model.now

    # -- scopes

    async def close(self, scope: Scope, state: Literal["paused", "draining"], lasts: float | None) -> None:
        """Close a scope."""
        now = self.model.now
        until = None if lasts is None else now + timedelta(seconds=lasts)
        control = await self.store.close_scope(
            scope, state, reason="their bank is down", by="ann", until=until, now=now
        )
        closed = ClosedScope(scope, state, now, until, control.version)
        assert (seen_control(control), control.reason, control.by) == (
            closed.seen(), "their bank is down", "ann",
        )  # fmt: skip
        assert all(control.version > earlier.version for earlier in self.controls)
        self.model.operators.close(closed)
        self.controls.append(control)

    async def open(self, scopes: list[Scope] | None) -> None:
        """Open scopes; None opens all."""
        controls = await self.store.open_scopes(scopes, now=self.model.now)
        removed = self.model.operators.open(scopes)
        assert sorted(map(seen_control, controls), key=_version) == sorted(
            (it.seen() for it in removed), key=_version
        )
        for row in self.model.free():
            # What another control has parked, which has ended, comes back now or with the next unpark.
            theirs = any(it.scope.covers(row.tenant, *row.key) for it in removed)
            if theirs or str((await self.store.get(row.id)).state) != "parked":
                assert removed
                self.model.unpark(row)

    async def open_one(self, number: int) -> None:
        """Open one of the scopes that are closed, if there is one."""
        closed = list(self.model.operators.closed)
        if closed:
            await self.open([closed[number % len(closed)]])

    async def unpark(self, limit: int) -> None:
        """Let some letters come back that no control closes any more."""
        more = await self.store.unpark(limit=limit, now=self.model.now)
        self.model.operators.expire(self.model.now)
        free = self.model.free()
        assert more or len(free) <= limit
        for row in free[:limit]:
            self.model.unpark(row)

    async def expire(self, limit: int) -> None:
        """Let the controls that last a minute come to their end, and some letters come back."""
        self.model.now += timedelta(seconds=60)
        await self.unpark(limit)

    def check_refusal(self, row: Row, refusal: Paused) -> None:
        """Assert that a refusal names a control that closes the letter, if there is one."""
        closing = self.model.operators.closing(row.key, row.tenant, self.model.now)
        named = None if refusal.control is None else refusal.control.scope
        assert named in ([it.scope for it in closing] or [None])

    async def parked(self, row: Row) -> bool:
        """Look whether the store has parked a letter that it may park, and if so, as it should."""
        letter = await self.store.get(row.id)
        if letter.state != "parked":
            return False
        assert letter.reason in self.model.closing(row)
        self.model.hold(row, str(letter.reason))
        return True

    async def _parked(
        self, closed: list[Row], wanted: Mapping[str, int], limit: int, claimed: Counter[str]
    ) -> None:
        """Find out what a claim has parked: all that is closed, of whom it has found too little."""
        for row in closed:
            handler = row.key[1]
            is_short = sum(claimed.values()) < limit and claimed[handler] < wanted[handler]
            assert await self.parked(row) or not is_short

    async def drain(self, scope: Scope, process: str) -> None:
        """Drain a scope, and let one process say that it runs nothing of it."""
        await self.close(scope, "draining", None)
        await self.acknowledge(process, "all")

    async def acknowledge(self, process: str, says: Literal["all", "old", "none"]) -> None:
        """Let a process beat, and say of all drains, of those that are over, or of none that it is done."""
        await self.announce(process)
        now = self.model.now
        current = {it.version for it in self.model.operators.closed.values()}
        drains = [it for it in self.controls if it.state == "draining" and says != "none"]
        if says == "old":
            drains = [it for it in drains if it.version not in current]
        live_since = now - timedelta(seconds=LIVE)
        drained = await self.store.acknowledge(process, drains, live_since=live_since, now=now)
        versions = {it.version for it in drains}
        expected = self.model.operators.acknowledge(process, versions, self.model.running(), live_since, now)
        assert sorted(map(seen_control, drained), key=_version) == sorted(
            (it.seen() for it in expected), key=_version
        )

    # -- the rest of the configuration

    async def configure(
        self, key: tuple[str | None, str | None], attempts: int | None, automatic_retries: bool | None
    ) -> None:
        """Set a schedule, or forget it (0), and the switch."""
        handler, event = key
        operators, before = self.model.operators, self._settings()
        answer = await self.store.configure(
            now=self.model.now, by="ann", handler=handler, event=event,
            redelivery=RetryPolicy(attempts=attempts) if attempts else None,
            forget_redelivery=attempts == 0, automatic_retries=automatic_retries,
        )  # fmt: skip
        if attempts == 0:
            operators.schedules.pop(key, None)
        elif attempts is not None:
            operators.schedules[key] = attempts
        if automatic_retries is not None:
            operators.automatic_retries = automatic_retries
        operators.changes += bool(attempts) or before != self._settings()
        assert answer == await self.store.configuration()

    def _settings(self) -> tuple[object, ...]:
        operators = self.model.operators
        return (dict(operators.schedules), operators.automatic_retries)

    # -- announcements

    async def tell(self, limit: int, confirms: bool) -> None:
        """Take announcements as somebody new, and confirm them or not."""
        self.tellers += 1
        now, operators = self.model.now, self.model.operators
        told = await self.store.claim_announcements(
            limit=limit, owner=f"teller-{self.tellers}", lease=TELLING, now=now
        )
        free = operators.free_notices(now)
        assert [it.at for it in told] == [it.at for it in free[:limit]]
        for announcement in told:
            values = (
                announcement.dead_letter_id, announcement.handler_id, announcement.reason, announcement.at,
            )  # fmt: skip
            matching = [it for it in free if it.key in {None, announcement.key} and it.seen() == values]
            assert matching
            notice = next((it for it in matching if it.key is not None), matching[0])
            operators.tell(notice, announcement.key, now, TELLING)
            free.remove(notice)
            if confirms:
                operators.notices.remove(notice)
        if confirms:
            await self.store.confirm_announcements([it.key for it in told])

    # -- looking

    async def compare_controls(self) -> None:
        """Assert that what is set is as the model has it, and that the version has told of changes."""
        operators = self.model.operators
        configuration = await self.store.configuration()
        assert configuration is not None
        in_order = sorted(operators.closed.values(), key=lambda it: (it.since, it.version))
        assert [seen_control(it) for it in configuration.controls] == [it.seen() for it in in_order]
        assert {
            (it.handler, it.event): it.redelivery.attempts for it in configuration.schedules
        } == operators.schedules
        assert configuration.automatic_retries is operators.automatic_retries
        has_changed, self.changes = operators.changes > self.changes, operators.changes
        assert (configuration.version > self.version) is has_changed
        assert (configuration.version == self.version) is not has_changed
        self.version = configuration.version
        assert await self.store.configuration(known=self.version) is None

    def with_scopes(self, stats: Stats, tenants: Collection[str] | None) -> Stats:
        """Return statistics with the scopes that are closed."""
        now = self.model.now
        shown = sorted(
            (
                it
                for it in self.model.operators.closed.values()
                if (it.until is None or now < it.until) and (tenants is None or it.scope.tenant in tenants)
            ),
            key=lambda it: (it.since, it.version),
        )
        paused = tuple(it.scope for it in shown if it.reason == "paused")
        draining = tuple(it.scope for it in shown if it.reason == "draining")
        return replace(stats, paused=paused, draining=draining)


def _version(shown: tuple[object, ...]) -> str:
    return f"{shown[-1]:>20}"
