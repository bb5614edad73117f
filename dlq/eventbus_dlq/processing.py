"""Running by hand what is due: claimed at once, run a few at a time, and accounted for."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import anyio

from eventbus.errors import BusClosed, EventBusError, OrderDeadlock, Paused
from eventbus.ids import new_id
from eventbus.log import Log
from eventbus_dlq.capture import moment
from eventbus_dlq.errors import LeaseLost, PayloadRedacted, StoreUnavailable
from eventbus_dlq.letter import DeadLetterState
from eventbus_dlq.replay import HandlerMissing
from eventbus_dlq.run import Run
from eventbus_dlq.store import Lease

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventbus.ports import Clock, Redeliverer
    from eventbus_dlq.leases import LeaseKeeper
    from eventbus_dlq.probing import Probing
    from eventbus_dlq.replay import Replayer
    from eventbus_dlq.store import Claim, DeadLetterStore

_log = Log()

_DUE = frozenset({DeadLetterState.ACCEPTED, DeadLetterState.PENDING})
_LARGEST_LIMIT = 1_000
_PATIENCE = 5.0
"""Seconds that claims may take to be given back when their caller was cancelled."""


@dataclass(slots=True)
class Processed:
    """The account of what was run by hand.

    Attributes:
        claimed: how many were due and were taken for a run.
        resolved: those that succeeded.
        pending: those that failed, and are due again.
        exhausted: those that failed, or could not be run, and now wait for a person.
        released: those that were given back, because the bus stopped or their handler's circuit opened, or
            whose lease was lost.
    """

    claimed: int = 0
    resolved: int = 0
    pending: int = 0
    exhausted: int = 0
    released: int = 0


class Processor:
    """Runs what is due when it is asked to, whatever the worker of this process does.

    Args:
        replayer: runs a claimed letter and settles it.
        probing: says what may be claimed, and may begin, of a handler that keeps failing.
        owner: what the owner of its claims begins with.
        lease: seconds for which a letter is claimed.
        concurrency: how many run at a time.
    """

    def __init__(
        self,
        *,
        store: DeadLetterStore,
        bus: Redeliverer,
        keeper: LeaseKeeper,
        replayer: Replayer,
        probing: Probing,
        clock: Clock,
        owner: str,
        lease: float,
        concurrency: int,
    ) -> None:
        self._store = store
        self._bus = bus
        self._keeper = keeper
        self._replayer = replayer
        self._probing = probing
        self._clock = clock
        self._owner = owner
        self._lease = lease
        self._concurrency = concurrency

    async def process(self, limit: int) -> Processed:
        """Run up to ``limit`` letters that are due now, once each, and return the account.

        Raises:
            ValueError: the limit is not between 1 and 1,000.
            StoreUnavailable: the store cannot be reached. What had been run is recorded as far as it could
                be; the leases of the rest run out.
        """
        if type(limit) is not int or not 1 <= limit <= _LARGEST_LIMIT:
            raise ValueError(f"limit={limit!r} must be an int from 1 to {_LARGEST_LIMIT:,}")
        claims = await self._claim(limit)
        processed = Processed(claimed=len(claims))
        waiting = deque(Run(claim) for claim in claims)
        held_back: list[Lease] = []
        lost: set[Lease] = set()
        trouble: list[StoreUnavailable] = []
        for claim in claims:
            self._keeper.watch(claim.lease, partial(lost.add, claim.lease))

        async def work() -> None:
            while waiting:
                run = waiting.popleft()
                lease = run.claim.lease
                if lease in lost:
                    self._keeper.tell_lost(lease)
                    processed.released += 1
                    continue
                if not self._probing.admits(run):  # its circuit has opened since
                    held_back.append(lease)
                    processed.released += 1
                    continue
                try:
                    await self._run(run, processed)
                except StoreUnavailable as error:
                    trouble.append(error)

        try:
            async with anyio.create_task_group() as group:
                for _ in range(min(self._concurrency, len(claims))):
                    group.start_soon(work)
        finally:
            await self._give_back([*held_back, *(run.claim.lease for run in waiting)])
        if trouble:
            raise trouble[0]
        return processed

    async def _claim(self, limit: int) -> Sequence[Claim]:
        owner = f"{self._owner}:{new_id()}"  # tells these claims from any others
        try:
            return await self._store.claim_due(
                self._probing.wanted(limit),
                states=_DUE,
                limit=limit,
                owner=owner,
                lease=self._lease,
                now=moment(self._clock.time_ns()),
            )
        except BaseException:  # a cancellation ends the wait and not the claim
            with anyio.move_on_after(_PATIENCE, shield=True):
                await self._take_back(owner)
            raise

    async def _run(self, run: Run, processed: Processed) -> None:
        try:
            outcome = await self._replayer.run(run)
        except (BusClosed, HandlerMissing, LeaseLost, OrderDeadlock, Paused):
            processed.released += 1
        except PayloadRedacted:
            processed.exhausted += 1
        else:
            match outcome.state:
                case DeadLetterState.RESOLVED:
                    processed.resolved += 1
                case DeadLetterState.PENDING:
                    processed.pending += 1
                case DeadLetterState.EXHAUSTED:
                    processed.exhausted += 1
                case _:  # its thread has not returned: it is settled when it does
                    pass

    async def _take_back(self, owner: str) -> None:
        """Give back what a claim was granted whose answer nobody waited for."""
        now = moment(self._clock.time_ns())
        try:
            leased = await self._store.leased(now=now, owner=owner)
        except EventBusError as error:
            _log.warning("process.left_to_a_rescue", owner=owner, error=str(error))
            return
        await self._give_back([Lease(dead_letter_id=it.dead_letter_id, token=it.token) for it in leased])

    async def _give_back(self, leases: Sequence[Lease]) -> None:
        """Release what was claimed and not begun, although the caller may have been cancelled."""
        for lease in leases:
            self._keeper.forget(lease)
        if not leases:
            return
        with anyio.move_on_after(_PATIENCE, shield=True):
            try:
                await self._store.release(leases, now=moment(self._clock.time_ns()))
            except EventBusError as error:
                _log.warning("process.left_to_a_rescue", letters=len(leases), error=str(error))
