"""The verbs for dead letters, as the bus offers them: each goes to the same verb of its queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from eventbus.retry import RetryPolicy
    from eventbus_dlq import (
        Configuration,
        DeadLetter,
        DeadLetterQuery,
        DeadLetterQueue,
        Operation,
        Page,
        Processed,
        ReplayOutcome,
        Stats,
    )
    from eventbus_dlq.store import Order


class DeadLetterVerbs:
    """What can be asked of a bus about its dead letters, and done to them."""

    @property
    def dlq(self) -> DeadLetterQueue:
        """The dead-letter queue.

        Raises:
            NoDeadLetterQueue: the bus was made without one.
        """
        raise NotImplementedError

    async def dead_letters(
        self,
        query: DeadLetterQuery | None = None,
        *,
        limit: int = 50,
        cursor: str | None = None,
        order: Order = "newest",
    ) -> Page:
        """Return a page of dead letters; see :meth:`DeadLetterQueue.dead_letters`."""
        return await self.dlq.dead_letters(query, limit=limit, cursor=cursor, order=order)

    async def dead_letter(self, dead_letter_id: str) -> DeadLetter:
        """Return one dead letter, whole; see :meth:`DeadLetterQueue.dead_letter`."""
        return await self.dlq.dead_letter(dead_letter_id)

    async def stats(self) -> Stats:
        """Return the dead letters in numbers; see :meth:`DeadLetterQueue.stats`."""
        return await self.dlq.stats()

    async def replay(
        self, dead_letter_id: str, *, by: str | None = None, note: str | None = None
    ) -> ReplayOutcome:
        """Run one dead letter again with its handler; see :meth:`DeadLetterQueue.replay`."""
        return await self.dlq.replay(dead_letter_id, by=by, note=note)

    async def replay_all(
        self, query: DeadLetterQuery, *, by: str | None = None, note: str | None = None
    ) -> Operation:
        """Run every dead letter of a query again; see :meth:`DeadLetterQueue.replay_all`."""
        return await self.dlq.replay_all(query, by=by, note=note)

    async def process_due(self, limit: int = 100) -> Processed:
        """Run what is due now, by hand; see :meth:`DeadLetterQueue.process_due`."""
        return await self.dlq.process_due(limit)

    async def requeue(
        self, dead_letter_id: str, *, by: str | None = None, note: str | None = None
    ) -> DeadLetter:
        """Make one dead letter due now; see :meth:`DeadLetterQueue.requeue`."""
        return await self.dlq.requeue(dead_letter_id, by=by, note=note)

    async def requeue_all(
        self, query: DeadLetterQuery, *, by: str | None = None, note: str | None = None
    ) -> Operation:
        """Make every dead letter of a query due now; see :meth:`DeadLetterQueue.requeue_all`."""
        return await self.dlq.requeue_all(query, by=by, note=note)

    async def configure(
        self,
        *,
        handler: str | None = None,
        event: str | None = None,
        redelivery: RetryPolicy | None = None,
        forget_redelivery: bool = False,
        automatic_retries: bool | None = None,
        by: str | None = None,
    ) -> Configuration:
        """Set how failures are retried, for every process; see :meth:`DeadLetterQueue.configure`."""
        return await self.dlq.configure(
            handler=handler,
            event=event,
            redelivery=redelivery,
            forget_redelivery=forget_redelivery,
            automatic_retries=automatic_retries,
            by=by,
        )

    async def configuration(self) -> Configuration:
        """Return what operators have set; see :meth:`DeadLetterQueue.configuration`."""
        return await self.dlq.configuration()

    async def resolve(
        self, dead_letter_id: str, *, by: str | None = None, note: str | None = None
    ) -> DeadLetter:
        """Say that a dead letter is done; see :meth:`DeadLetterQueue.resolve`."""
        return await self.dlq.resolve(dead_letter_id, by=by, note=note)

    async def discard(
        self, dead_letter_id: str, *, by: str | None = None, note: str | None = None
    ) -> DeadLetter:
        """Give a dead letter up; see :meth:`DeadLetterQueue.discard`."""
        return await self.dlq.discard(dead_letter_id, by=by, note=note)

    async def archive(
        self, dead_letter_id: str, *, by: str | None = None, note: str | None = None
    ) -> DeadLetter:
        """Close a dead letter and keep it; see :meth:`DeadLetterQueue.archive`."""
        return await self.dlq.archive(dead_letter_id, by=by, note=note)

    async def restore(
        self, dead_letter_id: str, *, by: str | None = None, note: str | None = None
    ) -> DeadLetter:
        """Open a closed dead letter again; see :meth:`DeadLetterQueue.restore`."""
        return await self.dlq.restore(dead_letter_id, by=by, note=note)

    async def snooze(
        self, dead_letter_id: str, *, until: datetime, by: str | None = None, note: str | None = None
    ) -> DeadLetter:
        """Put a dead letter off until a moment; see :meth:`DeadLetterQueue.snooze`."""
        return await self.dlq.snooze(dead_letter_id, until=until, by=by, note=note)

    async def delete(self, dead_letter_id: str) -> None:
        """Remove a dead letter for good; see :meth:`DeadLetterQueue.delete`."""
        await self.dlq.delete(dead_letter_id)
