"""Recording how a run ended, and giving a claim back, although the store may be away for a moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from eventbus.log import Log
from eventbus_dlq.capture import moment
from eventbus_dlq.errors import DeadLetterNotFound, StoreLocked, StoreUnavailable

if TYPE_CHECKING:
    from eventbus.ports import Clock
    from eventbus_dlq.leases import LeaseKeeper
    from eventbus_dlq.store import DeadLetterStore, Lease, Settlement

_log = Log()

_FIRST_WAIT = 0.05
_LONGEST_WAIT = 1.0
_RELEASE_PATIENCE = 5.0  # seconds that a release may take, whose caller has been cancelled


class Recorder:
    """Records single runs, those of replays and of abandoned threads; a worker settles its own in batches.

    Args:
        timeout: seconds for which a settlement is tried again while the store is unavailable.
    """

    def __init__(self, *, store: DeadLetterStore, keeper: LeaseKeeper, clock: Clock, timeout: float) -> None:
        self._store = store
        self._keeper = keeper
        self._clock = clock
        self._timeout = timeout

    async def settle(self, settlement: Settlement) -> bool:
        """Record how a run ended; return False when its lease was lost, and nothing was recorded.

        While it is tried again the lease is kept alive, and a cancellation of the caller has to wait.

        Raises:
            StoreUnavailable: the store was away for too long; the lease runs out, and a rescue follows.
        """
        try:
            return await self._settle_once(settlement)
        except StoreUnavailable as error:
            if not error.retryable:
                raise
            unavailable = error
        with anyio.CancelScope(shield=True), self._keeper.keeping([settlement.lease]):
            return await self._settle_again(settlement, unavailable)
        return False  # the lease is lost meanwhile

    async def release(self, lease: Lease) -> None:
        """Give a claim back uncharged, even when the caller has been cancelled; a rescue does if it fails."""
        with anyio.move_on_after(_RELEASE_PATIENCE, shield=True) as scope:
            try:
                await self._store.release([lease], now=moment(self._clock.time_ns()))
            except StoreUnavailable as error:
                _log.warning("lease.not_released", dead_letter=lease.dead_letter_id, error=str(error))
        if scope.cancelled_caught:
            _log.warning("lease.not_released", dead_letter=lease.dead_letter_id, error="no answer in time")

    async def _settle_once(self, settlement: Settlement) -> bool:
        return not await self._store.settle([settlement], now=moment(self._clock.time_ns()))

    async def _settle_again(self, settlement: Settlement, unavailable: StoreUnavailable) -> bool:
        deadline = anyio.current_time() + self._timeout
        wait = _FIRST_WAIT
        while unavailable.retryable and anyio.current_time() + wait <= deadline:
            await anyio.sleep(wait)
            try:
                return await self._settle_once(settlement) or await self._is_recorded(settlement)
            except StoreLocked as error:  # others write to its sequence, one after another: there is a gap
                unavailable, wait = error, _FIRST_WAIT
            except StoreUnavailable as error:
                unavailable, wait = error, min(wait * 2, _LONGEST_WAIT)
        raise unavailable

    async def _is_recorded(self, settlement: Settlement) -> bool:
        """Tell whether a settlement whose answer was lost had been committed."""
        lease = settlement.lease
        try:
            letter = await self._store.get(lease.dead_letter_id)
        except DeadLetterNotFound:
            return settlement.forget
        return (letter.token, letter.state) == (lease.token, settlement.state)
