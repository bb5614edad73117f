"""What is to be told of: the letters that have become exhausted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from eventbus.ids import new_id
from eventbus_dlq.control_store import Announcement
from eventbus_dlq.letter import DeadLetterState

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from eventbus_dlq.letter import DeadLetter


@dataclass(frozen=True, slots=True)
class _Taken:
    owner: str
    until: datetime


class Announcements:
    """Announcements that were not told yet, the oldest first, and who is telling them."""

    def __init__(self) -> None:
        self._waiting: dict[str, Announcement] = {}
        self._taken: dict[str, _Taken] = {}

    def note(self, letter: DeadLetter, *, at: datetime) -> None:
        """Announce a letter that was something else before, if it is exhausted now."""
        if letter.state is not DeadLetterState.EXHAUSTED:
            return
        key = new_id()
        self._waiting[key] = Announcement(
            key=key,
            dead_letter_id=letter.id,
            event_id=letter.event_id,
            event_name=letter.event_name,
            handler_id=letter.handler_id,
            tenant=letter.tenant,
            reason=letter.reason,
            at=at,
        )

    def claim(self, *, limit: int, owner: str, lease: float, now: datetime) -> Sequence[Announcement]:
        """Take up to ``limit`` that nobody else tells, for ``lease`` seconds."""
        free = [it for key, it in self._waiting.items() if self._is_free(key, owner, now)][:limit]
        until = now + timedelta(seconds=lease)
        self._taken |= {it.key: _Taken(owner, until) for it in free}
        return free

    def confirm(self, keys: Collection[str]) -> None:
        """Forget what was told."""
        for key in keys:
            self._waiting.pop(key, None)
            self._taken.pop(key, None)

    def _is_free(self, key: str, owner: str, now: datetime) -> bool:
        taken = self._taken.get(key)
        return taken is None or taken.owner == owner or taken.until <= now
