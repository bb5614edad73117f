"""The part of ``SqlStore`` that operators use: controls, schedules, announcements."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio

from eventbus_adapters.sql import announcing, configuring, draining
from eventbus_adapters.sql.access import Access

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from eventbus.controls import Control, Scope
    from eventbus.retry import RetryPolicy
    from eventbus_dlq.control_store import Announcement, Closing, Configuration

_LOCKED = 0.25
"""Seconds after which it is worth to look again at letters that somebody else's transaction has locked."""


class SqlControlStore(Access):
    """Keeps what operators have set beside the letters, in the same database."""

    async def configuration(self, *, known: int | None = None) -> Configuration | None:
        """Return what operators have set; None when its version is still ``known``."""
        return await self._read(partial(configuring.configuration, known=known))

    async def configure(
        self,
        *,
        now: datetime,
        by: str | None = None,
        handler: str | None = None,
        event: str | None = None,
        redelivery: RetryPolicy | None = None,
        forget_redelivery: bool = False,
        automatic_retries: bool | None = None,
    ) -> Configuration:
        """Set or forget a schedule, or turn the switch, or both; return everything as it is then."""
        work = partial(
            configuring.configure,
            now=now,
            by=by,
            handler=handler,
            event=event,
            redelivery=redelivery,
            forget_redelivery=forget_redelivery,
            automatic_retries=automatic_retries,
        )
        return await self._change(work, lambda: "configure", apart=True)

    async def close_scope(
        self, scope: Scope, state: Closing, *, reason: str, by: str, until: datetime | None, now: datetime
    ) -> Control:
        """Close a scope, whether it is closed or not; return its control."""
        work = partial(
            configuring.close_scope, scope=scope, state=state, reason=reason, by=by, until=until, now=now
        )
        return await self._change(work, lambda: f"close {scope}", apart=True)

    async def open_scopes(self, scopes: Collection[Scope] | None, *, now: datetime) -> Sequence[Control]:
        """Remove the controls of these scopes, None for all, and let the first 1,000 letters go back."""
        wanted = None if scopes is None else tuple(scopes)
        work = partial(configuring.open_scopes, scopes=wanted, now=now)
        return await self._change(work, lambda: f"open {wanted or 'everything'}", apart=True)

    async def unpark(self, *, limit: int, now: datetime) -> bool:
        """Let letters go back that no control closes any more; tell whether some may be left."""
        if not await self._read(partial(configuring.is_unfinished, now=now)):
            return False
        work = partial(configuring.unpark, limit=limit, now=now)
        unparked = await self._change(work, lambda: "let letters go back", apart=True)
        if unparked.left and not unparked.went:
            await anyio.sleep(_LOCKED)
        return unparked.left

    async def acknowledge(
        self, process_id: str, drains: Collection[Control], *, live_since: datetime, now: datetime
    ) -> Sequence[Control]:
        """Note what a process runs nothing of any more; return the controls that are drained by that.

        What the process has claimed before this call is stored before its acknowledgement is.
        """
        if drains:
            note = partial(draining.acknowledge, process_id=process_id, drains=tuple(drains))
            await self._change(note, lambda: f"acknowledge of {process_id}")
        if not await self._read(partial(draining.has_ended, live_since=live_since)):
            return []
        work = partial(draining.drain, live_since=live_since, now=now)
        return await self._change(work, lambda: "drain", apart=True)

    async def claim_announcements(
        self, *, limit: int, owner: str, lease: float, now: datetime
    ) -> Sequence[Announcement]:
        """Take announcements that were not told yet, the oldest first, for ``lease`` seconds."""
        if not await self._read(announcing.has_announcements):
            return []
        work = partial(announcing.claim_announcements, limit=limit, owner=owner, lease=lease, now=now)
        return await self._change(work, lambda: "claim announcements")

    async def confirm_announcements(self, keys: Collection[str]) -> None:
        """Forget announcements: they were told."""
        work = partial(announcing.confirm_announcements, keys=tuple(keys))
        await self._change(work, lambda: f"confirm announcements {keys}")
