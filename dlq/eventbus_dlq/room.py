"""How many deliveries a worker has in hand, and how many more it may take."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eventbus_dlq.probing import Probing
    from eventbus_dlq.run import Run
    from eventbus_dlq.store import Claim

_HELD = 4
"""How many deliveries are held at most for each one that may run at a time: those that have ended and are
not recorded yet are among them."""


class Room:
    """Counts what is held, what runs for each handler, and what is on its way into the store.

    Args:
        concurrency: how many deliveries may be claimed at a time.
        probing: says how many of a handler's may, when its circuit does not let through any number.

    Attributes:
        held: every claim that is neither recorded nor lost, by dead-letter id.
        promised: ids of deliveries on their way into the store that room has been set aside for.
        full: the handlers that could not take more when the store was last asked.
        held_back: those whose circuit let none of theirs begin then.
        backlog: whether more was left in the store than there was room for.
    """

    def __init__(self, concurrency: int, probing: Probing) -> None:
        self.held: dict[str, Run] = {}
        self.promised: set[str] = set()
        self.full: set[str] = set()
        self.held_back: set[str] = set()
        self._probing = probing
        self.backlog = True
        self._concurrency = concurrency
        self._running: Counter[str] = Counter()
        self._limits: Mapping[str, int | None] = {}

    def free(self, *, ended: int) -> int:
        """Return how many deliveries may be claimed once ``ended`` of those that are held are recorded."""
        return self._concurrency - len(self.held) + ended - len(self.promised)

    def wanted(self, free: int, limits: Mapping[str, int | None]) -> Mapping[str, int]:
        """Return how many deliveries of each handler can be run now, by its own limit and its circuit."""
        wanted: dict[str, int] = {}
        self.full.clear()
        self.held_back.clear()
        self._limits = limits
        steady = self._probing.steady
        for handler_id, limit in limits.items():
            room = free if limit is None else min(free, limit - self._running[handler_id])
            if handler_id not in steady and room > 0:
                room = self._let_through(handler_id, room)
            if room > 0:
                wanted[handler_id] = room
            elif handler_id not in self.held_back:
                self.full.add(handler_id)
        return wanted

    def _let_through(self, handler_id: str, room: int) -> int:
        """Return how many of a handler's deliveries may be claimed where its circuit has a say."""
        probing = self._probing
        let_through = probing.room(handler_id, self._running[handler_id])
        if let_through == 0 and probing.is_open(handler_id):
            self.held_back.add(handler_id)
        return room if let_through is None else min(room, let_through)

    def note_claimed(self, claims: Sequence[Claim], wanted: Mapping[str, int], limit: int) -> None:
        """Count what was claimed, and learn from it what the store has left."""
        claimed = Counter(claim.letter.handler_id for claim in claims)
        self._running.update(claimed)
        for handler_id, number in claimed.items():
            if number == wanted.get(handler_id):
                self.full.add(handler_id)
                if handler_id not in self._probing.steady:
                    self._probing.filled(handler_id)
        self.backlog = len(claims) >= limit

    def promise(self, dead_letter_id: str, handler_id: str, *, tasks: int) -> bool:
        """Set room aside for a delivery on its way into the store; False when there is none.

        There is none while others wait in the store, because they come first, and none when ``tasks``
        tasks run already and the delivery would not begin at once.
        """
        if self.backlog or handler_id in self.full or handler_id not in self._limits:
            return False
        running = self._running[handler_id]
        if handler_id not in self._probing.steady and not self._probing.lets_through(handler_id, running):
            return False
        limit = self._limits[handler_id]
        if limit is not None and running >= limit:
            return False
        promised = len(self.promised)
        if tasks + promised >= self._concurrency or len(self.held) + promised >= _HELD * self._concurrency:
            return False
        self._running[handler_id] += 1
        self.promised.add(dead_letter_id)
        return True

    def leave(self, handler_id: str) -> bool:
        """Take note that one delivery less runs; return whether there was no room for others before."""
        self._running[handler_id] -= 1
        return handler_id in self.full
