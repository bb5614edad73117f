"""Running durable deliveries: claim what is due, run it through the bus, settle it."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING

import anyio
import structlog

from eventbus.errors import BusClosed
from eventbus.stored import FailedAgain, Unhandled
from eventbus_dlq.capture import moment
from eventbus_dlq.errors import StoreUnavailable
from eventbus_dlq.letter import DeadLetterState
from eventbus_dlq.run import Run
from eventbus_dlq.settling import duration_of, settled_later, settlement_of, stored_delivery
from eventbus_dlq.telling import tell_settled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eventbus.failure import Failure
    from eventbus.ports import Clock, Redeliverer
    from eventbus.stored import RedeliveryOutcome
    from eventbus_dlq.leases import LeaseKeeper
    from eventbus_dlq.store import Claim, DeadLetterStore, Lease, Settlement
    from eventbus_dlq.unsettled import Unsettled

_log = structlog.get_logger("eventbus")

_STATES = frozenset({DeadLetterState.ACCEPTED})
_FIRST_WAIT = 0.05
_LONGEST_WAIT = 1.0
_PATIENCE = 5.0
"""Seconds that the store has to answer once the bus stops."""
_MAX_REFUSED = 30
"""How often a store may refuse to record a run, when it does not say that this will pass."""


class DurableWorker:
    """Claims accepted deliveries, runs them through the bus, and settles them in batches.

    One task talks to the store. It hands over what has ended and the next claim together, so that one
    transaction carries both. Handlers run in tasks of the bus; a task goes on to the next delivery, so
    that handlers that never wait cost no task of their own.

    Args:
        owner: whose claims they are.
        lease: seconds for which a delivery is claimed.
        concurrency: how many deliveries are claimed at a time.
        keep_succeeded: whether deliveries that succeed are kept as resolved.
    """

    def __init__(
        self,
        *,
        store: DeadLetterStore,
        bus: Redeliverer,
        keeper: LeaseKeeper,
        clock: Clock,
        unsettled: Unsettled,
        owner: str,
        lease: float,
        concurrency: int,
        keep_succeeded: bool,
    ) -> None:
        self._store = store
        self._bus = bus
        self._keeper = keeper
        self._clock = clock
        self._unsettled = unsettled
        self._owner = owner
        self._lease = lease
        self._concurrency = concurrency
        self._keep_succeeded = keep_succeeded
        self._held: dict[str, Run] = {}
        self._waiting: deque[Run] = deque()
        self._running: Counter[str] = Counter()
        self._ended: list[Run] = []
        self._full: set[str] = set()
        self._spare = False
        self._look = True
        self._halted = False
        self._something = anyio.Event()
        self._trouble = _FIRST_WAIT
        self._at_store = False
        self._rested = anyio.Event()

    # -- what others tell it

    def wake(self) -> None:
        """Look for work: something may have become claimable."""
        self._look = True
        self._something.set()

    def halt(self) -> None:
        """Claim nothing any more, and give back what has not begun."""
        self._halted = True
        while self._waiting:
            self._end(self._waiting.popleft(), None)
        self._something.set()

    # -- the task that talks to the store

    async def serve(self) -> None:
        """Claim and settle until cancelled."""
        while True:
            await self._something.wait()
            self._something = anyio.Event()
            self._at_store = True
            try:
                reached = await self._turn()
            finally:
                self._at_store = False
                self._rested.set()
                self._rested = anyio.Event()
            if not reached:
                await anyio.sleep(self._trouble)
                self._trouble = min(self._trouble * 2, _LONGEST_WAIT)
                self._something.set()
            else:
                self._trouble = _FIRST_WAIT

    async def drain(self) -> None:
        """Return when the store has answered, and knows of all that has ended; called after :meth:`halt`.

        From then on :meth:`serve` may be cancelled: no claim is granted whose answer nobody waits for.
        """
        with anyio.move_on_after(_PATIENCE):
            while self._at_store or self._ended:
                await self._rested.wait()

    async def finish(self) -> None:
        """Record what has ended since; what the store does not take is left to a rescue."""
        with anyio.move_on_after(_PATIENCE):
            while self._ended:
                if not await self._settle(self._take_ended()):
                    await anyio.sleep(_FIRST_WAIT)
        for run in self._held.values():
            _log.warning("worker.left", dead_letter=run.claim.lease.dead_letter_id)

    async def _turn(self) -> bool:
        """Hand over what has ended, and claim what there is room for, in one go.

        Returns False when the store cannot be reached.
        """
        ended = self._take_ended()
        free = self._concurrency - len(self._held) + len(ended)
        wanted: Mapping[str, int] = {}
        if self._look and free > 0 and not self._halted:
            wanted = self._wanted(free)
        if not wanted:
            return await self._settle(ended)
        if not ended:
            return await self._claim(wanted, free)
        answers: list[bool] = []

        async def claim() -> None:
            answers.append(await self._claim(wanted, free))

        async with anyio.create_task_group() as group:
            group.start_soon(claim)
            # handed over first, so that the claim meets what this sets free in its sequences
            answers.append(await self._settle(ended))
        return all(answers)

    def _wanted(self, free: int) -> Mapping[str, int]:
        """Return how many deliveries of each handler can be run now."""
        wanted: dict[str, int] = {}
        self._full.clear()
        for handler_id, limit in self._bus.handlers.items():
            room = free if limit is None else min(free, limit - self._running[handler_id])
            if room > 0:
                wanted[handler_id] = room
            else:
                self._full.add(handler_id)
        return wanted

    async def _claim(self, wanted: Mapping[str, int], limit: int) -> bool:
        """Claim and begin to run; return False when the store cannot be reached."""
        self._look = False  # what wakes from here on asks for another look
        mark = self._unsettled.mark()
        try:
            claims = await self._store.claim_due(
                wanted,
                states=_STATES,
                limit=limit,
                owner=self._owner,
                lease=self._lease,
                now=moment(self._clock.time_ns()),
            )
        except Exception as error:  # whatever it is, the worker must not end
            self._look = True
            self._unavailable("worker.cannot_claim", error)
            return False
        claimed: Counter[str] = Counter()
        for claim in claims:
            claimed[claim.letter.handler_id] += 1
            self._take(claim)
        self._full.update(name for name, number in claimed.items() if number == wanted.get(name))
        if len(claims) >= limit:
            self._look = True
        elif not self._full:
            self._unsettled.leave(self._held, mark)
        self._begin()
        return True

    def _take(self, claim: Claim) -> None:
        run = Run(claim)
        self._held[claim.lease.dead_letter_id] = run
        self._running[claim.letter.handler_id] += 1
        if self._halted:
            self._end(run, None)
            return
        self._keeper.watch(claim.lease, run.lose)
        self._waiting.append(run)

    async def _settle(self, runs: Sequence[Run]) -> bool:
        """Record how runs ended; return False when the store cannot be reached, and they are kept."""
        if not runs:
            return True
        now = moment(self._clock.time_ns())
        settlements = [run.settlement for run in runs if run.settlement is not None]
        releases = [run.claim.lease for run in runs if run.settlement is None]
        lost: set[Lease] = set()
        try:
            if settlements:
                lost.update(await self._store.settle(settlements, now=now))
            if releases:
                lost.update(await self._store.release(releases, now=now))
        except Exception as error:  # whatever it is, the worker must not end
            return await self._settle_later(runs, error)
        for run in runs:
            self._close(run, lost=run.claim.lease in lost)
        return True

    async def _settle_later(self, runs: Sequence[Run], error: Exception) -> bool:
        """Keep runs that could not be recorded; one that the store refuses must not hold up the others."""
        self._unavailable("worker.cannot_settle", error)
        if isinstance(error, StoreUnavailable) and error.retryable:
            self._ended[:0] = runs
            return False
        if len(runs) > 1:
            return all([await self._settle([run]) for run in runs])
        (run,) = runs
        run.refused += 1
        if run.refused < _MAX_REFUSED:
            self._ended.append(run)
            return False
        _log.error("worker.gave_up", dead_letter=run.claim.lease.dead_letter_id, exc_info=error)
        self._close(run, lost=False, recorded=False)  # its lease runs out: again and again, and it is poison
        return True

    def _close(self, run: Run, *, lost: bool, recorded: bool = True) -> None:
        """Let go of a run: it is recorded, or its lease is lost, or left to run out."""
        lease = run.claim.lease
        self._keeper.forget(lease)
        self._held.pop(lease.dead_letter_id, None)
        if lost:
            self._keeper.tell_lost(lease)
        elif recorded and run.settlement is not None:
            now = moment(self._clock.time_ns())
            tell_settled(
                self._bus.telemetry, run.claim.letter, run.settlement, duration=run.duration, now=now
            )
        self._unsettled.cross_off(lease.dead_letter_id)

    def _take_ended(self) -> list[Run]:
        ended, self._ended = self._ended, []
        return ended

    def _unavailable(self, what: str, error: Exception) -> None:
        unexpected = None if isinstance(error, StoreUnavailable) else error
        _log.warning(what, error=str(error), held=len(self._held), exc_info=unexpected)
        self._bus.telemetry.emit("store.unavailable", error=str(error))

    # -- the tasks that run handlers

    def _begin(self) -> None:
        """Have somebody run what waits."""
        if self._waiting and not self._spare:
            self._spare = True
            self._bus.spawn(self._run_some)

    async def _run_some(self) -> None:
        """Run what waits, one after another; another task goes on when a handler of this one waits."""
        self._spare = False
        with anyio.CancelScope() as scope:
            while self._waiting:
                run = self._waiting.popleft()
                self._begin()
                if run.lost:
                    self._drop(run)
                    continue
                run.scope = scope
                await self._run(run)
                run.scope = None
                if scope.cancel_called:
                    break  # the scope is used up
        self._begin()

    async def _run(self, run: Run) -> None:
        try:
            outcome = await self._bus.redeliver(stored_delivery(run.claim.letter))
        except BaseException as error:
            if run.lost:
                self._drop(run)
            elif isinstance(error, Exception) and not isinstance(error, BusClosed):
                _log.exception("worker.failed", dead_letter=run.claim.lease.dead_letter_id)
                self._drop(run)  # its lease runs out, and what does this again and again is poison
                return
            else:
                self._end(run, None)
                if isinstance(error, BusClosed):
                    return
            raise
        if run.lost:
            self._drop(run)
        else:
            self._conclude(run, outcome)

    def _conclude(self, run: Run, outcome: RedeliveryOutcome) -> None:
        """Decide what is to be recorded of a run that has ended."""
        if isinstance(outcome, Unhandled):  # unsubscribed since it was claimed; others may have it
            self._end(run, None)
            return
        settlement = settlement_of(
            run.claim, outcome, now=moment(self._clock.time_ns()), keep_succeeded=self._keep_succeeded
        )
        run.duration = duration_of(outcome)
        if isinstance(outcome, FailedAgain) and outcome.failure.thread_done is not None:
            assert settlement is not None
            failure = outcome.failure
            self._bus.spawn(lambda: self._end_after_thread(run, settlement, failure))
            return
        self._end(run, settlement)

    async def _end_after_thread(self, run: Run, settlement: Settlement, failure: Failure) -> None:
        """Hold the lease until the handler's abandoned thread has returned, and settle then."""
        assert failure.thread_done is not None
        with anyio.CancelScope() as scope:
            run.scope = scope
            try:
                await failure.thread_done.wait()
            except BaseException:
                if not run.lost:  # the bus has waited for its grace; the thread and the lease go on
                    handler_id = failure.handler_id
                    _log.warning(
                        "shutdown.thread_left", handler_id=handler_id, dead_letter=run.claim.letter.id
                    )
                    self._close(run, lost=False, recorded=False)
                raise
        run.scope = None
        if run.lost:
            self._drop(run)
            return
        now = moment(self._clock.time_ns())
        self._end(run, settled_later(settlement, run.claim.letter, failure, now))

    def _end(self, run: Run, settlement: Settlement | None) -> None:
        """Have a run recorded; without a settlement it is given back uncharged."""
        run.ended = True
        run.settlement = settlement
        self._ended.append(run)
        self._give_back_room(run)

    def _drop(self, run: Run) -> None:
        """Record nothing of a run."""
        run.ended = True
        self._give_back_room(run)
        self._close(run, lost=run.lost)

    def _give_back_room(self, run: Run) -> None:
        letter = run.claim.letter
        self._running[letter.handler_id] -= 1
        if letter.handler_id in self._full or letter.ordering_key is not None:
            self._look = True  # for what there was no room for, or what is next in its sequence
        self._something.set()
