"""Keeping a lease alive while its run goes on, and noticing when it is lost."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import structlog

from eventbus_dlq.capture import moment
from eventbus_dlq.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventbus.ports import Clock
    from eventbus_dlq.store import DeadLetterStore, Lease

_log = structlog.get_logger("eventbus")


class LeaseKeeper:
    """Beats the heart of leases every third of their length."""

    def __init__(self, store: DeadLetterStore, *, clock: Clock, lease: float) -> None:
        self._store = store
        self._clock = clock
        self._lease = lease

    @asynccontextmanager
    async def keeping(self, leases: Sequence[Lease]) -> AsyncGenerator[None]:
        """Keep ``leases`` alive inside the block; the block is cancelled when all of them are lost.

        A store that cannot be reached for a moment loses nothing: the next beat tries again.
        """
        error: BaseException | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(self._beat, list(leases), group.cancel_scope)
            try:
                yield
            except anyio.get_cancelled_exc_class():
                raise
            except BaseException as raised:  # the group would wrap it
                error = raised
            group.cancel_scope.cancel()
        if error is not None:
            raise error

    async def _beat(self, leases: list[Lease], block: anyio.CancelScope) -> None:
        while leases:
            await anyio.sleep(self._lease / 3)
            try:
                lost = await self._store.heartbeat(
                    leases, lease=self._lease, now=moment(self._clock.time_ns())
                )
            except StoreUnavailable as error:
                _log.warning("heartbeat.failed", error=str(error), letters=len(leases))
                continue
            if lost:
                _log.error("lease.lost", letters=[lease.dead_letter_id for lease in lost])
                leases = [lease for lease in leases if lease not in lost]
        block.cancel()
