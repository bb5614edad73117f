"""Running what is due, durable deliveries and failures alike: claim it, run it through the bus, settle it."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from eventbus.log import Log
from eventbus_dlq.capture import moment
from eventbus_dlq.claiming import claim_of
from eventbus_dlq.errors import StoreLocked, StoreUnavailable
from eventbus_dlq.letter import DeadLetterState
from eventbus_dlq.results import Results
from eventbus_dlq.room import Room
from eventbus_dlq.run import Run
from eventbus_dlq.runner import Runner
from eventbus_dlq.store import Lease

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from eventbus.ports import Clock, Redeliverer
    from eventbus_dlq.leases import LeaseKeeper
    from eventbus_dlq.letter import DeadLetter
    from eventbus_dlq.outage import Outage
    from eventbus_dlq.probing import Probing
    from eventbus_dlq.schedules import Schedules
    from eventbus_dlq.store import Claim, DeadLetterStore, Settlement
    from eventbus_dlq.telling import Moved
    from eventbus_dlq.unsettled import Unsettled

_log = Log()

_FRESH = frozenset({DeadLetterState.ACCEPTED})
_FRESH_AND_FAILED = _FRESH | {DeadLetterState.PENDING}
_FIRST_WAIT = 0.05
_LONGEST_WAIT = 1.0
_PATIENCE = 5.0
"""Seconds that the store has to answer once the bus stops, in all."""
_LEAST_PATIENCE = 0.5
"""Seconds of it that are left for what has been cut short."""


class DurableWorker:
    """Claims what is due, has it run through the bus, and settles it in batches.

    That is what was accepted and has not run, and, while failures are retried automatically, what is pending
    and whose time has come.

    One task talks to the store. It hands over what has ended and the next claim together, so that one
    transaction carries both.

    Args:
        outage: told of a store that is unavailable, and of one that is not.
        owner: whose claims they are, and nobody else's.
        lease: seconds for which a delivery is claimed.
        concurrency: how many deliveries are claimed at a time.
        keep_succeeded: whether deliveries that succeed are kept as resolved.
        probing: says what may be claimed of a handler that keeps failing.
        moved: told where each letter is that has run.
        see_controls: has the gate learn what the store says now.
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
        schedules: Schedules,
        concurrency: int,
        keep_succeeded: bool,
        probing: Probing,
        moved: Moved,
        see_controls: Callable[[], Awaitable[None]],
    ) -> None:
        self._see_controls = see_controls
        self._store = store
        self._bus = bus
        self._keeper = keeper
        self._clock = clock
        self._unsettled = unsettled
        self._outage = outage
        self._owner = owner
        self._lease = lease
        self._probing = probing
        self._room = Room(concurrency, probing)
        self._results = Results(
            store=store,
            bus=bus,
            keeper=keeper,
            clock=clock,
            unsettled=unsettled,
            outage=outage,
            room=self._room,
            changed=self.wake,
            moved=moved,
        )
        self._runner = Runner(
            bus=bus,
            clock=clock,
            schedules=schedules,
            concurrency=concurrency,
            keep_succeeded=keep_succeeded,
            probing=probing,
            end=self._end,
            drop=self._drop,
        )
        self._claimed_on_accept: deque[Run] = deque()
        self._states = _FRESH_AND_FAILED
        self._behind = 0
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

    def retry(self, automatic: bool) -> None:
        """Say whether what is pending is claimed, too."""
        self._states = _FRESH_AND_FAILED if automatic else _FRESH
        self.wake()

    def look(self) -> None:
        """Look for work that this process has accepted: what is promised after it comes behind it."""
        self._behind += 1
        self.wake()

    def promise(self, dead_letter_id: str, handler_id: str) -> bool:
        """Set room aside for a delivery that is on its way into the store; False when there is none.

        What is promised has to be kept, given back or broken.
        """
        return not self._halted and self._room.promise(dead_letter_id, handler_id, tasks=self._runner.tasks)

    def keep_promise(self, letter: DeadLetter) -> None:
        """Run a delivery that was claimed as it was accepted."""
        self._room.promised.discard(letter.id)
        run = Run(claim_of(letter))
        if self._hold(run):
            if self._behind:
                self._claimed_on_accept.append(run)
            else:
                self._runner.add(run)
        self._runner.begin()

    def give_back_promised(self, letter: DeadLetter) -> None:
        """Release a delivery that was claimed as it was accepted, if it was."""
        self._room.promised.discard(letter.id)
        run = self._room.held[letter.id] = Run(claim_of(letter))
        self._end(run, None)

    def break_promise(self, letter: DeadLetter) -> None:
        """Give back the room for a delivery that is not known to be in the store, claimed for here."""
        self._room.promised.discard(letter.id)
        self._look = self._in_doubt = True
        self._leave_room(letter.handler_id)

    def give_back_closed(self) -> None:
        """Give back what has not begun, and whose scope an operator has closed."""
        if not self._bus.gate:
            return
        self._runner.give_back_closed()
        for run in [it for it in self._claimed_on_accept if self._runner.is_closed(it.claim.letter)]:
            self._claimed_on_accept.remove(run)
            self._end(run, None)

    def halt(self) -> None:
        """Claim nothing any more, and give back what has not begun."""
        self._halted = True
        self._let_next_begin()
        self._runner.halt()
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

    async def come_to_rest(self) -> None:
        """Return when the store has answered, and knows of all that has ended; called after :meth:`halt`.

        From then on :meth:`serve` may be cancelled: no claim is granted whose answer nobody waits for.
        """
        began = anyio.current_time()
        with anyio.move_on_after(_PATIENCE):
            while not self._ended_for_good and (self._at_store or self._results or self._room.promised):
                await self._rested.wait()
        self._patience = max(_LEAST_PATIENCE, _PATIENCE - (anyio.current_time() - began))

    async def finish(self) -> None:
        """Record what has ended since; what the store does not take is left to a rescue."""
        with anyio.move_on_after(self._patience):
            while self._results:
                if not await self._results.record(self._results.take()):
                    await anyio.sleep(_FIRST_WAIT)
        for dead_letter_id in self._room.held:
            _log.warning("worker.left", dead_letter=dead_letter_id)

    async def _turn(self) -> bool:
        """Hand over what has ended, and claim what there is room for, in one go.

        Returns False when the store cannot be reached.
        """
        ended = self._results.take()
        free = self._room.free(ended=len(ended))
        wanted: Mapping[str, int] = {}
        if self._look and free > 0 and not self._halted:
            wanted = self._room.wanted(free, self._bus.handlers)
            self._look = not wanted  # what wakes from here on asks for another look
            if not wanted and not self._room.full:  # circuits hold back all of it
                self._unsettled.leave(self._room.held, self._unsettled.mark())
        if not wanted:
            self._let_next_begin()
            return await self._results.record(ended)
        if not ended:
            return await self._claim(wanted, free)
        answers: list[bool] = []

        async def claim() -> None:
            answers.append(await self._claim(wanted, free))

        async with anyio.create_task_group() as group:
            group.start_soon(claim)
            # handed over first, so that the claim meets what this sets free in its sequences
            answers.append(await self._results.record(ended))
        return all(answers)

    async def _claim(self, wanted: Mapping[str, int], limit: int) -> bool:
        """Claim and begin to run; return False when the store cannot be reached."""
        behind = self._behind
        mark = self._unsettled.mark()
        try:
            if self._in_doubt:
                await self._take_back()
            claims = await self._store.claim_due(
                wanted,
                states=self._states,
                limit=limit,
                owner=self._owner,
                lease=self._lease,
                now=moment(self._clock.time_ns()),
            )
        except Exception as error:  # whatever it is, the worker must not end
            self._look = self._in_doubt = True
            if isinstance(error, StoreUnavailable):
                self._outage.met(error, during="claim")
            else:
                _log.warning("worker.cannot_claim", held=len(self._room.held), exc_info=error)
            return False
        if claims:  # to find nothing is no write
            self._outage.over()
        self._room.note_claimed(claims, wanted, limit)
        for claim in claims:
            run = Run(claim)
            if self._hold(run):
                self._runner.add(run)
        await self._look_whether_open(claims)
        if self._room.backlog:
            self._look = True
        elif not self._room.full:
            self._unsettled.leave(self._room.held, mark)
        if self._room.backlog or self._behind == behind:
            self._let_next_begin()
        self._runner.begin()
        return True

    async def _look_whether_open(self, claims: Sequence[Claim]) -> None:
        """Learn what the store has opened, if this was granted, or it would be given back to it."""
        if self._bus.gate and any(self._runner.is_closed(claim.letter) for claim in claims):
            await self._see_controls()

    async def _take_back(self) -> None:
        """Give back what was claimed by calls that have failed, perhaps after their commit."""
        now = moment(self._clock.time_ns())
        leased = await self._store.leased(now=now, owner=self._owner)
        room = self._room
        unknown = [
            Lease(dead_letter_id=it.dead_letter_id, token=it.token)
            for it in leased
            if it.dead_letter_id not in room.held and it.dead_letter_id not in room.promised
        ]
        if unknown:
            with suppress(StoreLocked):  # then they are left to a rescue
                await self._store.release(unknown, now=now)
        self._in_doubt = False

    # -- what it has in hand

    def _let_next_begin(self) -> None:
        """Let what was claimed as it was accepted begin: what was accepted before it has been looked for."""
        self._behind = 0
        while self._claimed_on_accept:
            self._runner.add(self._claimed_on_accept.popleft())
        self._runner.begin()

    def _hold(self, run: Run) -> bool:
        """Keep the lease of a run; return False when the bus stops, and it is given back instead."""
        lease = run.claim.lease
        self._room.held[lease.dead_letter_id] = run
        if self._halted or not self._probing.admits(run):
            self._end(run, None)
            return False
        self._keeper.watch(lease, run.lose)
        return True

    def _end(self, run: Run, settlement: Settlement | None) -> None:
        """Have a run recorded; without a settlement it is given back uncharged."""
        run.ended = True
        run.settlement = settlement
        self._results.add(run)
        self._give_back_room(run)

    def _drop(self, run: Run) -> None:
        """Record nothing of a run."""
        run.ended = True
        self._give_back_room(run)
        self._results.close(run, lost=run.lost)

    def _give_back_room(self, run: Run) -> None:
        self._probing.gave_up(run)
        letter = run.claim.letter
        if letter.ordering_key is not None:
            self._look = True  # for what is next in its sequence
        self._leave_room(letter.handler_id)

    def _leave_room(self, handler_id: str) -> None:
        if self._room.leave(handler_id):
            self._look = True  # for what there was no room for
        self._something.set()
