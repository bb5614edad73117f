"""How the runs of a worker ended, and having the store record it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from eventbus.errors import BusClosed
from eventbus.log import Log
from eventbus_dlq.capture import moment
from eventbus_dlq.errors import StoreLocked, StoreUnavailable
from eventbus_dlq.telling import tell_settled

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from eventbus.ports import Clock, Redeliverer
    from eventbus_dlq.leases import LeaseKeeper
    from eventbus_dlq.outage import Outage
    from eventbus_dlq.room import Room
    from eventbus_dlq.run import Run
    from eventbus_dlq.store import DeadLetterStore, Lease
    from eventbus_dlq.telling import Moved
    from eventbus_dlq.unsettled import Unsettled

_log = Log()

_SHORT_WAIT = 0.005
_LONGEST_WAIT = 1.0
_MAX_REFUSED = 30
"""How often a store may refuse to record a run, when it does not say that this will pass."""


class Results:
    """Runs that have ended, until the store has recorded them.

    What the store cannot take now is kept and handed over again; what it refuses does not hold up the
    others.

    Args:
        room: left by what is recorded.
        outage: told of a store that is unavailable, and of one that is not.
        changed: called when there is something to record that was put off.
        moved: told where each letter is that was recorded.
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
        room: Room,
        changed: Callable[[], None],
        moved: Moved,
    ) -> None:
        self._store = store
        self._bus = bus
        self._keeper = keeper
        self._clock = clock
        self._unsettled = unsettled
        self._outage = outage
        self._room = room
        self._changed = changed
        self._moved = moved
        self._ended: list[Run] = []

    def __bool__(self) -> bool:
        """Tell whether anything waits to be recorded."""
        return bool(self._ended)

    def add(self, run: Run) -> None:
        """Have a run recorded with what ends next."""
        self._ended.append(run)

    def take(self) -> list[Run]:
        """Return what has ended since the last call, for :meth:`record`."""
        ended, self._ended = self._ended, []
        return ended

    async def record(self, runs: Sequence[Run]) -> bool:
        """Record how runs ended; return False when the store cannot be reached, and they are kept."""
        settled = [run for run in runs if run.settlement is not None]
        given_back = [run for run in runs if run.settlement is None]
        recorded = not settled or await self._record(settled)
        released = not given_back or await self._record(given_back)
        return recorded and released

    def close(self, run: Run, *, lost: bool, recorded: bool = True) -> None:
        """Let go of a run: it is recorded, or its lease is lost, or left to run out."""
        lease, settlement = run.claim.lease, run.settlement
        self._keeper.forget(lease)
        self._room.held.pop(lease.dead_letter_id, None)
        if lost:
            self._keeper.tell_lost(lease)
        elif recorded and settlement is not None:
            if self._bus.telemetry:
                now = moment(self._clock.time_ns())
                tell_settled(
                    self._bus.telemetry, run.claim.letter, settlement, duration=run.duration, now=now
                )
            self._moved(settlement.state, settlement.retry_at)
        self._unsettled.cross_off(lease.dead_letter_id)

    async def _record(self, runs: Sequence[Run]) -> bool:
        try:
            lost = await self._hand_over(runs)
        except StoreLocked as error:
            return await self._record_others(runs, error.dead_letter_ids)
        except Exception as error:  # whatever it is, the worker must not end
            return await self._record_later(runs, error)
        self._outage.over()
        for run in runs:
            self.close(run, lost=run.claim.lease in lost)
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
                recorded = self._add_again(run) and recorded
        return recorded

    def _add_again(self, run: Run) -> bool:
        """Have a run recorded a little later; False when the bus is closing, and it cannot wait."""
        run.held_up += 1

        async def later() -> None:
            try:
                await anyio.sleep(min(_SHORT_WAIT * 2**run.held_up, _LONGEST_WAIT))
            finally:
                self._ended.append(run)
                self._changed()

        try:
            self._bus.serve(later)
        except BusClosed:
            self._ended.append(run)
            return False
        return True

    async def _record_later(self, runs: Sequence[Run], error: Exception) -> bool:
        """Keep runs that could not be recorded; one that the store refuses must not hold up the others."""
        if isinstance(error, StoreUnavailable):
            self._outage.met(error, during="settle")
            if error.retryable:
                self._ended[:0] = runs
                return False
        else:
            _log.warning("worker.cannot_settle", runs=len(runs), exc_info=error)
        if len(runs) > 1:
            return all([await self.record([run]) for run in runs])
        (run,) = runs
        run.refused += 1
        if run.refused < _MAX_REFUSED:
            self._ended.append(run)
            return False
        _log.error("worker.gave_up", dead_letter=run.claim.lease.dead_letter_id, exc_info=error)
        self.close(run, lost=False, recorded=False)  # its lease runs out: again and again, and it is poison
        return True
