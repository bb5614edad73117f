"""From a spool file into the store, in order, each write once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio.to_thread

from eventbus.log import Log
from eventbus_dlq.capture import moment
from eventbus_dlq.errors import StoreUnavailable
from eventbus_dlq.spool.records import decoded
from eventbus_dlq.spool.refused import set_aside

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eventbus.ports import Clock
    from eventbus_dlq.spool.file import SpoolFile
    from eventbus_dlq.spool.records import Record
    from eventbus_dlq.store import DeadLetterStore, Spooled

_log = Log()


class Importer:
    """Imports one file. How far it is stands in the store, committed with the writes themselves.

    Args:
        file: the file.
        store: where to.
        clock: for the time of the imports.
        committed: called with what was committed, and the position behind it.
        position: where to begin; None to ask the store.
    """

    def __init__(
        self,
        file: SpoolFile,
        store: DeadLetterStore,
        clock: Clock,
        *,
        committed: Callable[[Sequence[Spooled], int], None],
        position: int | None = None,
    ) -> None:
        self.file = file
        self._store = store
        self._clock = clock
        self._committed = committed
        self._position = position
        self._stuck_at: int | None = None
        self._aside: set[int] = set()

    async def import_batch(self) -> bool:
        """Import what comes next; False when nothing was left.

        Raises:
            StoreUnavailable: the store takes nothing now.
            Exception: whatever else keeps it from going on; it may be tried again.
        """
        if self._position is None:
            self._position = await self._known_position()
            self._committed([], self._position)
        batch, end = await anyio.to_thread.run_sync(self.file.read, self._position)
        if end == self._position:
            return False
        writes: list[tuple[Record, Spooled]] = []
        for record in batch:
            try:
                writes.append((record, decoded(record.body)))
            except ValueError as error:
                await self._set_aside(record, error)
        await self._import(writes, end)
        return True

    async def _known_position(self) -> int:
        position = await self._store.spool_position(self.file.id)
        if position == self._stuck_at:
            raise StoreUnavailable(
                f"the store says that {self.file.path} is imported up to {position}, and does not go on there"
            )
        return position

    async def _import(self, writes: Sequence[tuple[Record, Spooled]], end: int) -> bool:
        """Import writes and go on to ``end``; False when the position is another one by now."""
        try:
            return await self._commit([write for _, write in writes], end)
        except Exception as error:
            if not writes or _is_retryable(error):
                raise
        if len(writes) == 1:
            return await self._import_or_refuse(*writes[0], end)
        *others, last = writes  # one of them spoils the batch
        for record, write in others:
            if not await self._import([(record, write)], record.position + record.end - record.start):
                return False
        return await self._import([last], end)

    async def _commit(self, writes: Sequence[Spooled], end: int) -> bool:
        assert self._position is not None
        start, now = self._position, moment(self._clock.time_ns())
        if await self._store.import_spool(self.file.id, writes, start=start, end=end, now=now):
            self._position, self._stuck_at = end, None
            self._committed(writes, end)
            return True
        self._position, self._stuck_at = None, start  # most likely an import that we saw fail was committed
        return False

    async def _import_or_refuse(self, record: Record, write: Spooled, end: int) -> bool:
        """Try a write once more, and go on without it if the store takes anything but that one."""
        assert self._position is not None
        if not await self._commit([], self._position):
            return False
        try:
            return await self._commit([write], end)
        except Exception as error:
            if _is_retryable(error):
                raise
            await self._set_aside(record, error)
        return await self._commit([], end)

    async def _set_aside(self, record: Record, refusal: Exception) -> None:
        if record.position in self._aside:
            return
        reason = f"{type(refusal).__name__}: {refusal}"
        kept = await anyio.to_thread.run_sync(set_aside, self.file.path, record.position, record.body, reason)
        self._aside.add(record.position)
        _log.error("spool.refused", file=str(kept), position=record.position, reason=reason)


def _is_retryable(error: Exception) -> bool:
    return isinstance(error, StoreUnavailable) and error.retryable
