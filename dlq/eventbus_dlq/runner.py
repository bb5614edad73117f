"""The tasks of a worker that run claimed deliveries through the bus."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import anyio

from eventbus.errors import BusClosed
from eventbus.log import Log
from eventbus.stored import FailedAgain, Unhandled
from eventbus_dlq.capture import moment
from eventbus_dlq.settling import duration_of, settled_later, settlement_of, stored_delivery

if TYPE_CHECKING:
    from collections.abc import Callable

    from eventbus.failure import Failure
    from eventbus.ports import Clock, Redeliverer
    from eventbus.stored import RedeliveryOutcome
    from eventbus_dlq.letter import DeadLetter
    from eventbus_dlq.probing import Probing
    from eventbus_dlq.run import Run
    from eventbus_dlq.schedules import Schedules
    from eventbus_dlq.store import Settlement

_log = Log()


class Runner:
    """Runs what it is given, in tasks of the bus.

    A task goes on to the next delivery, so that handlers that never wait cost no task of their own.

    Args:
        concurrency: how many deliveries run at a time, at most.
        keep_succeeded: whether deliveries that succeed are kept as resolved.
        probing: asked before a run begins, and told how it has ended.
        end: called with a run and how it is to be recorded; without a settlement it is given back.
        drop: called with a run of which nothing is to be recorded: its lease is lost, or runs out.

    Attributes:
        tasks: how many tasks there are.
    """

    def __init__(
        self,
        *,
        bus: Redeliverer,
        clock: Clock,
        schedules: Schedules,
        concurrency: int,
        keep_succeeded: bool,
        probing: Probing,
        end: Callable[[Run, Settlement | None], None],
        drop: Callable[[Run], None],
    ) -> None:
        self.tasks = 0
        self._bus = bus
        self._clock = clock
        self._schedules = schedules
        self._concurrency = concurrency
        self._keep_succeeded = keep_succeeded
        self._probing = probing
        self._end = end
        self._drop = drop
        self._waiting: deque[Run] = deque()
        self._spare = False

    def add(self, run: Run) -> None:
        """Have a delivery run after those that wait, once :meth:`begin` is called."""
        self._waiting.append(run)

    def begin(self) -> None:
        """Have somebody run what waits."""
        if self._waiting and not self._spare and self.tasks < self._concurrency:
            self._spare = True
            self._bus.spawn(self._run_some)

    def give_back_closed(self) -> None:
        """Give back what has not begun and may not begin now."""
        closed = [run for run in self._waiting if self.is_closed(run.claim.letter)]
        for run in closed:
            self._waiting.remove(run)
            self._end(run, None)

    def is_closed(self, letter: DeadLetter) -> bool:
        """Tell whether an operator has closed the scope of a letter, as far as is known here."""
        gate = self._bus.gate
        if not gate:
            return False
        return gate.closed_by(letter.tenant, letter.event_name, letter.handler_id) is not None

    def halt(self) -> None:
        """Give back what has not begun."""
        while self._waiting:
            self._end(self._waiting.popleft(), None)

    async def _run_some(self) -> None:
        """Run what waits, one after another; another task goes on when a handler of this one waits."""
        self._spare = False
        self.tasks += 1
        try:
            with anyio.CancelScope() as scope:
                while self._waiting:
                    run = self._waiting.popleft()
                    self.begin()
                    if run.lost:
                        self._drop(run)
                        continue
                    if not self._probing.may_begin(run):
                        self._end(run, None)
                        continue
                    run.scope = scope
                    await self._run(run)
                    run.scope = None
                    if scope.cancel_called:
                        break  # the scope is used up
        finally:
            self.tasks -= 1
        self.begin()

    async def _run(self, run: Run) -> None:
        try:
            outcome = await self._bus.redeliver(stored_delivery(run.claim.letter, once=run.runs_once))
        except BaseException as error:
            if run.lost:
                self._drop(run)
            elif isinstance(error, Exception) and not isinstance(error, BusClosed):
                self._fail(run)
                return
            else:
                self._end(run, None)
                if isinstance(error, BusClosed):
                    return
            raise
        if run.lost:
            self._drop(run)
            return
        try:
            self._conclude(run, outcome)
        except Exception:
            self._fail(run)

    def _fail(self, run: Run) -> None:
        """Leave to a rescue what the bus itself fails at; what it does so again and again is poison."""
        _log.exception("worker.failed", dead_letter=run.claim.lease.dead_letter_id)
        self._drop(run)

    def _conclude(self, run: Run, outcome: RedeliveryOutcome) -> None:
        """Decide what is to be recorded of a run that has ended."""
        self._probing.ended(run, outcome)
        if isinstance(outcome, Unhandled):  # unsubscribed since it was claimed; others may have it
            self._end(run, None)
            return
        settlement = settlement_of(
            run.claim,
            outcome,
            clock=self._clock,
            schedules=self._schedules,
            keep_succeeded=self._keep_succeeded,
        )
        run.duration = duration_of(outcome)
        if settlement is None or not isinstance(outcome, FailedAgain):
            self._end(run, settlement)
            return
        failure = outcome.failure
        if failure.thread_done is not None:
            self._bus.spawn(lambda: self._end_after_thread(run, settlement, failure))
            return
        self._end(run, self._probing.judged(run, settlement, failure))

    async def _end_after_thread(self, run: Run, settlement: Settlement, failure: Failure) -> None:
        """Hold the lease until the handler's abandoned thread has returned, and settle then."""
        assert failure.thread_done is not None
        with anyio.CancelScope() as scope:
            run.scope = scope
            try:
                await failure.thread_done.wait()
            except BaseException:
                if not run.lost:  # the bus has waited for its grace; the thread and the lease go on
                    letter = run.claim.letter
                    _log.warning("shutdown.thread_left", handler_id=failure.handler_id, dead_letter=letter.id)
                    self._drop(run)
                raise
        run.scope = None
        if run.lost:
            self._drop(run)
            return
        now = moment(self._clock.time_ns())
        later = settled_later(settlement, run.claim.letter, failure, self._schedules, now)
        self._end(run, self._probing.judged(run, later, failure))
