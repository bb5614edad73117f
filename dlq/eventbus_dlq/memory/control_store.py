"""The part of the memory store that operators use: controls, schedules, announcements."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from eventbus_dlq.letter import DeadLetterState
from eventbus_dlq.memory import parking
from eventbus_dlq.memory.announcements import Announcements
from eventbus_dlq.memory.controls import Controls
from eventbus_dlq.memory.processes import Processes
from eventbus_dlq.memory.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from datetime import datetime

    from eventbus.controls import Control, Scope
    from eventbus.retry import RetryPolicy
    from eventbus_dlq.control_store import Announcement, Closing, Configuration


class MemoryControlStore:
    """Keeps what operators have set beside the letters, under the lock of all of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows = Rows()
        self._processes = Processes()
        self._controls = Controls()
        self._announcements = Announcements()
        self._was_opened = False

    async def configuration(self, *, known: int | None = None) -> Configuration | None:
        """Return what operators have set; None when its version is still ``known``."""
        with self._lock:
            return None if known == self._controls.version else self._controls.configuration()

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
        with self._lock:
            if forget_redelivery:
                self._controls.forget_schedule((handler, event))
            if redelivery is not None:
                self._controls.set_schedule((handler, event), redelivery, by=by, now=now)
            if automatic_retries is not None:
                self._controls.set_automatic_retries(automatic_retries)
            return self._controls.configuration()

    async def close_scope(
        self, scope: Scope, state: Closing, *, reason: str, by: str, until: datetime | None, now: datetime
    ) -> Control:
        """Close a scope, whether it is closed or not; return its control."""
        with self._lock:
            return self._controls.close(scope, state, reason=reason, by=by, until=until, now=now)

    async def open_scopes(self, scopes: Collection[Scope] | None, *, now: datetime) -> Sequence[Control]:
        """Remove the controls of these scopes, None for all, and let the first 1,000 letters go back."""
        with self._lock:
            opened = self._controls.open(scopes)
            if opened:
                self._was_opened = parking.unpark(self._rows, self._controls, limit=1_000, now=now)
            return opened

    async def unpark(self, *, limit: int, now: datetime) -> bool:
        """Let letters go back that no control closes any more; tell whether there are more of them."""
        with self._lock:
            if self._controls.expire(now) or self._was_opened:
                self._was_opened = parking.unpark(self._rows, self._controls, limit=limit, now=now)
            return self._was_opened

    async def acknowledge(
        self, process_id: str, drains: Collection[Control], *, live_since: datetime, now: datetime
    ) -> Sequence[Control]:
        """Note what a process runs nothing of any more; return the controls that are drained by that."""
        with self._lock:
            self._controls.acknowledge(process_id, drains)
            live = {it.id for it in self._processes.all() if it.beat_at >= live_since}
            return self._controls.drain(live, self._is_running, now=now)

    def _is_running(self, scope: Scope) -> bool:
        running = (it.letter for it in self._rows if it.letter.state is DeadLetterState.RUNNING)
        return any(scope.covers(it.tenant, it.event_name, it.handler_id) for it in running)

    async def claim_announcements(
        self, *, limit: int, owner: str, lease: float, now: datetime
    ) -> Sequence[Announcement]:
        """Take announcements that were not told yet, the oldest first, for ``lease`` seconds."""
        with self._lock:
            return self._announcements.claim(limit=limit, owner=owner, lease=lease, now=now)

    async def confirm_announcements(self, keys: Collection[str]) -> None:
        """Forget announcements: they were told."""
        with self._lock:
            self._announcements.confirm(keys)
