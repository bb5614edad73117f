"""Outage mode: what a worker asks the circuits of its handlers, and tells them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from eventbus.circuit import CircuitState
from eventbus.classify import Category
from eventbus.retry import MAX_WAIT
from eventbus.stored import FailedAgain, Succeeded
from eventbus_dlq.capture import moment
from eventbus_dlq.caution import Caution
from eventbus_dlq.letter import DeadLetterState, Reason
from eventbus_dlq.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from datetime import datetime

    from eventbus.breaker import Breaker
    from eventbus.circuit import Permit
    from eventbus.failure import Failure
    from eventbus.ports import Clock, Redeliverer
    from eventbus.stored import RedeliveryOutcome
    from eventbus_dlq.letter import DeadLetter
    from eventbus_dlq.store import Claim, Settlement

_MOST_TURNS = 10
"""How many probes a delivery that has probed again and again leaves to others, at most."""


class Probing:
    """Keeps a worker from running the backlog of a handler into a wall.

    While the circuit of a handler is open nothing of it is claimed; then one delivery, and more as they
    succeed. Until a handler has answered once in this process no more begin at a time than it takes to open
    its circuit, see :class:`Caution`.

    Args:
        ring: told of a moment at which a delivery of a handler may begin although none may now.
        changed: called when there may be more to claim.

    Attributes:
        steady: the handlers of which any number of deliveries may be claimed; always the same set.
    """

    def __init__(
        self,
        *,
        bus: Redeliverer,
        clock: Clock,
        ring: Callable[[datetime], None],
        changed: Callable[[], None],
    ) -> None:
        self._bus = bus
        self._breakers = bus.breakers
        self.steady = bus.breakers.steady
        self._clock = clock
        self._ring = ring
        self._breakers.on_change = lambda _: changed()
        self._caution = Caution(bus=bus, changed=changed)

    # -- before a claim

    def room(self, handler_id: str, running: int) -> int | None:
        """Return how many more deliveries of a handler may be claimed, of which so many run; None for any."""
        breaker = self._breakers.of(handler_id)
        if breaker is None:
            self.steady.add(handler_id)
            return None
        if breaker.is_closed:
            return self._caution.room(handler_id, running, at_most=breaker.until_open)
        allowance = breaker.allowance()
        if not allowance and (at := breaker.next_probe_at()) is not None:
            self._ring(at)
        return allowance

    def lets_through(self, handler_id: str, running: int) -> bool:
        """Tell whether one more delivery of a handler may be claimed as it is accepted, while so many run."""
        breaker = self._breakers.of(handler_id)
        return breaker is None or (breaker.is_closed and running < breaker.until_open)

    def filled(self, handler_id: str) -> None:
        """Take note that as many deliveries of a handler have been claimed as :meth:`room` let through."""
        breaker = self._breakers.of(handler_id)
        if breaker is not None and breaker.is_closed:
            self._caution.filled(handler_id)

    def is_open(self, handler_id: str) -> bool:
        """Tell whether a handler's deliveries are held back: nobody knows for how long."""
        if handler_id in self.steady:
            return False
        breaker = self._breakers.of(handler_id)
        return breaker is not None and breaker.state in (CircuitState.OPEN, CircuitState.PROBING)

    def wanted(self, limit: int) -> Mapping[str, int]:
        """Return how many deliveries of each handler may be claimed by hand, of which none runs yet."""
        wanted: dict[str, int] = {}
        for handler_id in self._bus.handlers:
            breaker = self._breakers.of(handler_id)
            allowance = None if breaker is None else breaker.allowance()
            if allowance != 0:
                wanted[handler_id] = limit if allowance is None else min(allowance, limit)
        return wanted

    def handlers(self) -> Collection[str]:
        """Return the handlers of this process whose deliveries are not held back."""
        return [handler_id for handler_id in self._bus.handlers if not self.is_open(handler_id)]

    # -- a run

    def attend(self, claim: Claim) -> Run:
        """Return a run that a person has asked for, and no circuit keeps from beginning.

        Its success is as good as that of a probe, and its failure is held against its schedule.
        """
        run = Run(claim)
        run.by_hand = True
        run.breaker = breaker = self._breakers.of(claim.letter.handler_id)
        run.permit = None if breaker is None else breaker.attend()
        return run

    def admits(self, run: Run) -> bool:
        """Give a run that was claimed its permit; return False when there is none, and it is given back."""
        run.breaker = breaker = self._breakers.of(run.claim.letter.handler_id)
        if breaker is None:
            return True
        run.permit = breaker.begin()
        return run.permit is not None

    def may_begin(self, run: Run) -> bool:
        """Tell whether a run may still begin: else its circuit has opened since, and it is given back."""
        breaker = run.breaker
        if breaker is None or breaker.is_current(run.permit):
            return True
        run.permit = breaker.begin()
        return run.permit is not None

    def ended(self, run: Run, outcome: RedeliveryOutcome) -> None:
        """Tell the circuit how a run has ended; note whether that is held against its schedule."""
        permit, run.permit = run.permit, None
        if run.breaker is not None and permit is not None:
            is_excused = self._report(run.breaker, permit, run.claim.letter, outcome)
            run.excused = is_excused and not run.by_hand

    def gave_up(self, run: Run) -> None:
        """Take note that a run was given back, lost, or cut short: nothing is known of how it ended."""
        permit, run.permit = run.permit, None
        if run.breaker is not None and permit is not None:
            run.breaker.cancelled(permit)

    def judged(self, run: Run, settlement: Settlement, failure: Failure) -> Settlement:
        """Return how a failure is recorded: one that is excused leaves the schedule where it was."""
        if not run.excused or run.breaker is None or settlement.reason not in (None, Reason.ATTEMPTS):
            return settlement
        return excused(settlement, run.claim.letter, failure, run.breaker, now=moment(self._clock.time_ns()))

    def _report(
        self, breaker: Breaker, permit: Permit, letter: DeadLetter, outcome: RedeliveryOutcome
    ) -> bool:
        is_excused = answered = False
        if isinstance(outcome, Succeeded):
            breaker.succeeded(permit)
            answered = True
        elif isinstance(outcome, FailedAgain):
            error = outcome.failure.error
            is_excused = breaker.failed(permit, error, delivery=letter.event_id)
            answered = error.category is Category.PERMANENT
        else:
            breaker.cancelled(permit)
        if answered and breaker.is_closed:
            self.steady.add(letter.handler_id)
        return is_excused


def excused(
    settlement: Settlement, letter: DeadLetter, failure: Failure, breaker: Breaker, *, now: datetime
) -> Settlement:
    """Return the settlement of a failure that is an outage's: pending, and not held against the schedule.

    It is due at the next probe; one that has probed before leaves the next ones to others, as many as it
    has had, so that those which fail for reasons of their own do not take every probe. While others succeed
    it waits as its schedule says. What the failing side asks for is honoured.
    """
    probes = letter.attempts - letter.retries - 1
    wait = breaker.retry_after(turns=min(max(probes, 0), _MOST_TURNS))
    if breaker.state is not CircuitState.OPEN:
        schedule = settlement.redelivery or letter.redelivery
        wait = schedule.wait_before(max(letter.retries, 1), seed=letter.idempotency_key)
    wait = min(max(wait, failure.retry_after or 0.0), MAX_WAIT)
    return replace(
        settlement,
        state=DeadLetterState.PENDING,
        reason=None,
        retry_at=now + timedelta(seconds=wait),
        excused=True,
    )
