"""Running durable deliveries: claim what is due, run it through the bus, settle it."""

from __future__ import annotations

from collections import Counter, deque
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from eventbus.errors import BusClosed
from eventbus.log import Log
from eventbus.stored import FailedAgain, Unhandled
from eventbus_dlq.capture import moment
from eventbus_dlq.claiming import claim_of
from eventbus_dlq.errors import StoreLocked, StoreUnavailable
from eventbus_dlq.letter import DeadLetterState
from eventbus_dlq.run import Run
from eventbus_dlq.settling import duration_of, settled_later, settlement_of, stored_delivery
from eventbus_dlq.store import Lease
from eventbus_dlq.telling import tell_settled

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from eventbus.failure import Failure
    from eventbus.ports import Clock, Redeliverer
    from eventbus.stored import RedeliveryOutcome
    from eventbus_dlq.leases import LeaseKeeper
    from eventbus_dlq.letter import DeadLetter
    from eventbus_dlq.outage import Outage
    from eventbus_dlq.store import Claim, DeadLetterStore, Settlement
    from eventbus_dlq.unsettled import Unsettled

_log = Log()

_STATES = frozenset({DeadLetterState.ACCEPTED})
_SHORT_WAIT = 0.005
_FIRST_WAIT = 0.05
_LONGEST_WAIT = 1.0
_PATIENCE = 5.0
"""Seconds that the store has to answer once the bus stops, in all."""
_LEAST_PATIENCE = 0.5
"""Seconds of it that are left for what has been cut short."""
_HELD = 4
"""How many deliveries are held at most for each one that may run at a time: those that have ended and are
not recorded yet are among them."""
_MAX_REFUSED = 30
"""How often a store may refuse to record a run, when it does not say that this will pass."""


class DurableWorker:
    """Claims accepted deliveries, runs them through the bus, and settles them in batches.

    One task talks to the store. It hands over what has ended and the next claim together, so that one
    transaction carries both. Handlers run in tasks of the bus; a task goes on to the next delivery, so
    that handlers that never wait cost no task of their own.

    Args:
        outage: told of a store that is unavailable, and of one that is not.
        owner: whose claims they are, and nobody else's.
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
        outage: Outage,
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
        self._outage = outage
        self._owner = owner
        self._lease = lease
        self._concurrency = concurrency
        self._keep_succeeded = keep_succeeded
        self._held: dict[str, Run] = {}
        self._waiting: deque[Run] = deque()
        self._next: deque[Run] = deque()
        self._behind = 0
        self._running: Counter[str] = Counter()
        self._limits: Mapping[str, int | None] = {}
        self._promised: set[str] = set()
        self._backlog = True
        self._ended: list[Run] = []
        self._full: set[str] = set()
        self._spare = False
        self._tasks = 0
        self._look = True
        self._in_doubt = False
        self._halted = False
        self._something = anyio.Event()
        self._patience = _PATIENCE
        self._trouble = _FIRST_WAIT
        self._at_store = False
        self._rested = anyio.Event()
        self._ended_for_good = False

    # -- what others tell it

    def wake(self) -> None:
        """Look for work: something may have become claimable."""
        self._look = True
        self._something.set()

    def promise(self, letter: DeadLetter) -> bool:
        """Set room aside for a delivery that is on its way into the store; False when there is none.

        There is none while others wait in the store, because they come first. What is promised has to be
        kept, given back or broken.
        """
        handler_id = letter.handler_id
        others_wait = self._backlog or handler_id in self._full
        if self._halted or others_wait or handler_id not in self._limits:
            return False
        limit = self._limits[handler_id]
        if limit is not None and self._running[handler_id] >= limit:
            return False
        # What waits here begins at once unless all run already; it counts among what is held.
        promised = len(self._promised)
        held = len(self._held) + promised
        if self._tasks + promised >= self._concurrency or held >= _HELD * self._concurrency:
            return False
        self._running[handler_id] += 1
        self._promised.add(letter.id)
        return True

    def keep_promise(self, letter: DeadLetter) -> None:
        """Run a delivery that was claimed as it was accepted."""
        self._promised.discard(letter.id)
        self._hold(Run(claim_of(letter)), self._next if self._behind else self._waiting)
        self._begin()

    def give_back_promised(self, letter: DeadLetter) -> None:
        """Release a delivery that was claimed as it was accepted, if it was."""
        self._promised.discard(letter.id)
        run = self._held[letter.id] = Run(claim_of(letter))
        self._end(run, None)

    def break_promise(self, letter: DeadLetter) -> None:
        """Give back the room for a delivery that is not known to be in the store, claimed for here."""
        self._promised.discard(letter.id)
        self._look = self._in_doubt = True
        self._leave_room(letter.handler_id)

    def look(self) -> None:
        """Look for work that this process has accepted: what is promised after it comes behind it."""
        self._behind += 1
        self.wake()

    def halt(self) -> None:
        """Claim nothing any more, and give back what has not begun."""
        self._halted = True
        self._let_next_begin()
        while self._waiting:
            self._end(self._waiting.popleft(), None)
        self._something.set()

    # -- the task that talks to the store

    async def serve(self) -> None:
        """Claim and settle until cancelled."""
        try:
            await self._serve()
        finally:
            self._ended_for_good = True
            self._rested.set()

    async def _serve(self) -> None:
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
        began = anyio.current_time()
        with anyio.move_on_after(_PATIENCE):
            while not self._ended_for_good and (self._at_store or self._ended or self._promised):
                await self._rested.wait()
        self._patience = max(_LEAST_PATIENCE, _PATIENCE - (anyio.current_time() - began))

    async def finish(self) -> None:
        """Record what has ended since; what the store does not take is left to a rescue."""
        with anyio.move_on_after(self._patience):
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
        free = self._concurrency - len(self._held) + len(ended) - len(self._promised)
        wanted: Mapping[str, int] = {}
        if self._look and free > 0 and not self._halted:
            wanted = self._wanted(free)
        if not wanted:
            self._let_next_begin()
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
        self._limits = self._bus.handlers
        for handler_id, limit in self._limits.items():
            room = free if limit is None else min(free, limit - self._running[handler_id])
            if room > 0:
                wanted[handler_id] = room
            else:
                self._full.add(handler_id)
        return wanted

    async def _claim(self, wanted: Mapping[str, int], limit: int) -> bool:
        """Claim and begin to run; return False when the store cannot be reached."""
        self._look = False  # what wakes from here on asks for another look
        behind = self._behind
        mark = self._unsettled.mark()
        try:
            if self._in_doubt:
                await self._take_back()
            claims = await self._store.claim_due(
                wanted,
                states=_STATES,
                limit=limit,
                owner=self._owner,
                lease=self._lease,
                now=moment(self._clock.time_ns()),
            )
        except Exception as error:  # whatever it is, the worker must not end
            self._look = self._in_doubt = True
            self._unavailable("claim", error)
            return False
        if claims:  # to find nothing is no write
            self._outage.over()
        claimed: Counter[str] = Counter()
        for claim in claims:
            claimed[claim.letter.handler_id] += 1
            self._take(claim)
        self._full.update(name for name, number in claimed.items() if number == wanted.get(name))
        self._backlog = len(claims) >= limit
        if self._backlog:
            self._look = True
        elif not self._full:
            self._unsettled.leave(self._held, mark)
        if self._backlog or self._behind == behind:
            self._let_next_begin()
        self._begin()
        return True

    def _let_next_begin(self) -> None:
        """Let what was claimed as it was accepted begin: what was accepted before it has been looked for."""
        self._behind = 0
        self._waiting.extend(self._next)
        self._next.clear()
        self._begin()

    async def _take_back(self) -> None:
        """Give back what was claimed by calls that have failed, perhaps after their commit."""
        now = moment(self._clock.time_ns())
        leased = await self._store.leased(now=now, owner=self._owner)
        unknown = [
            Lease(dead_letter_id=it.dead_letter_id, token=it.token)
            for it in leased
            if it.dead_letter_id not in self._held and it.dead_letter_id not in self._promised
        ]
        if unknown:
            with suppress(StoreLocked):  # then they are left to a rescue
                await self._store.release(unknown, now=now)
        self._in_doubt = False

    def _take(self, claim: Claim) -> None:
        self._running[claim.letter.handler_id] += 1
        self._hold(Run(claim), self._waiting)

    def _hold(self, run: Run, queue: deque[Run]) -> None:
        claim = run.claim
        self._held[claim.lease.dead_letter_id] = run
        if self._halted:
            self._end(run, None)
            return
        self._keeper.watch(claim.lease, run.lose)
        queue.append(run)

    async def _settle(self, runs: Sequence[Run]) -> bool:
        """Record how runs ended; return False when the store cannot be reached, and they are kept."""
        ended = [run for run in runs if run.settlement is not None]
        given_back = [run for run in runs if run.settlement is None]
        settled = not ended or await self._record(ended)
        released = not given_back or await self._record(given_back)
        return settled and released

    async def _record(self, runs: Sequence[Run]) -> bool:
        try:
            lost = await self._hand_over(runs)
        except StoreLocked as error:
            return await self._record_others(runs, error.dead_letter_ids)
        except Exception as error:  # whatever it is, the worker must not end
            return await self._settle_later(runs, error)
        self._outage.over()
        for run in runs:
            self._close(run, lost=run.claim.lease in lost)
        return True

    async def _hand_over(self, runs: Sequence[Run]) -> Collection[Lease]:
        """Have the store settle runs, or give them back if they have no settlement; return what was lost."""
        now = moment(self._clock.time_ns())
        settlements = [run.settlement for run in runs if run.settlement is not None]
        if settlements:
            return frozenset(await self._store.settle(settlements, now=now))
        return frozenset(await self._store.release([run.claim.lease for run in runs], now=now))

    async def _record_others(self, runs: Sequence[Run], held_up: Collection[str]) -> bool:
        """Record what can be recorded now, and the others when nobody's transaction holds their sequences."""
        others = [run for run in runs if run.claim.lease.dead_letter_id not in held_up]
        recorded = not others or await self._record(others)
        for run in runs:
            if run not in others:
                recorded = self._end_again(run) and recorded
        return recorded

    def _end_again(self, run: Run) -> bool:
        """Have a run recorded a little later; False when the bus is closing, and it cannot wait."""
        run.held_up += 1

        async def later() -> None:
            try:
                await anyio.sleep(min(_SHORT_WAIT * 2**run.held_up, _LONGEST_WAIT))
            finally:
                self._ended.append(run)
                self._look = True  # for what is next in its sequence
                self._something.set()

        try:
            self._bus.serve(later)
        except BusClosed:
            self._ended.append(run)
            return False
        return True

    async def _settle_later(self, runs: Sequence[Run], error: Exception) -> bool:
        """Keep runs that could not be recorded; one that the store refuses must not hold up the others."""
        self._unavailable("settle", error)
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
        elif recorded and run.settlement is not None and self._bus.telemetry:
            now = moment(self._clock.time_ns())
            tell_settled(
                self._bus.telemetry, run.claim.letter, run.settlement, duration=run.duration, now=now
            )
        self._unsettled.cross_off(lease.dead_letter_id)

    def _take_ended(self) -> list[Run]:
        ended, self._ended = self._ended, []
        return ended

    def _unavailable(self, doing: str, error: Exception) -> None:
        if isinstance(error, StoreUnavailable):
            self._outage.met(error, during=doing)
        else:
            _log.warning(f"worker.cannot_{doing}", held=len(self._held), exc_info=error)

    # -- the tasks that run handlers

    def _begin(self) -> None:
        """Have somebody run what waits."""
        if self._waiting and not self._spare and self._tasks < self._concurrency:
            self._spare = True
            self._bus.spawn(self._run_some)

    async def _run_some(self) -> None:
        """Run what waits, one after another; another task goes on when a handler of this one waits."""
        self._spare = False
        self._tasks += 1
        try:
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
        finally:
            self._tasks -= 1
        self._begin()

    async def _run(self, run: Run) -> None:
        try:
            outcome = await self._bus.redeliver(stored_delivery(run.claim.letter))
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
        if letter.ordering_key is not None:
            self._look = True  # for what is next in its sequence
        self._leave_room(letter.handler_id)

    def _leave_room(self, handler_id: str) -> None:
        self._running[handler_id] -= 1
        if handler_id in self._full:
            self._look = True  # for what there was no room for
        self._something.set()
