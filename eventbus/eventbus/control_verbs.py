"""The verbs that stop and start deliveries, as a bus has them: each goes to its dead-letter queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from eventbus.controls import Control
    from eventbus_dlq import DeadLetterQueue


class ControlVerbs:
    """What an operator may ask of a bus: to begin nothing of a tenant, an event or a handler."""

    @property
    def dlq(self) -> DeadLetterQueue:
        """The dead-letter queue.

        Raises:
            NoDeadLetterQueue: the bus was made without one.
        """
        raise NotImplementedError

    async def pause(
        self,
        tenant: str | None = None,
        event: str | None = None,
        handler: str | None = None,
        *,
        reason: str,
        by: str,
        until: datetime | None = None,
    ) -> Control:
        """Begin no delivery of a scope until it is resumed; see :meth:`DeadLetterQueue.pause`."""
        return await self.dlq.pause(tenant, event, handler, reason=reason, by=by, until=until)

    async def drain(
        self,
        tenant: str | None = None,
        event: str | None = None,
        handler: str | None = None,
        *,
        reason: str,
        by: str,
        until: datetime | None = None,
        wait: bool = True,
    ) -> Control:
        """Pause a scope and wait until nothing of it runs; see :meth:`DeadLetterQueue.drain`."""
        return await self.dlq.drain(tenant, event, handler, reason=reason, by=by, until=until, wait=wait)

    async def resume(
        self,
        tenant: str | None = None,
        event: str | None = None,
        handler: str | None = None,
        *,
        reason: str | None = None,
        by: str | None = None,
    ) -> Control | None:
        """Open exactly this scope again; see :meth:`DeadLetterQueue.resume`."""
        return await self.dlq.resume(tenant, event, handler, reason=reason, by=by)

    async def resume_all(self, *, reason: str | None = None, by: str | None = None) -> tuple[Control, ...]:
        """Open every scope again; see :meth:`DeadLetterQueue.resume_all`."""
        return await self.dlq.resume_all(reason=reason, by=by)

    async def controls(self) -> tuple[Control, ...]:
        """Return the scopes that are closed; see :meth:`DeadLetterQueue.controls`."""
        return await self.dlq.controls()
