"""The deliveries that this process has accepted and that have not settled: what ``wait_idle`` waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from eventbus_dlq.errors import DeadLetterNotFound, StoreUnavailable
from eventbus_dlq.letter import DeadLetterState

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from eventbus_dlq.store import DeadLetterStore

_MOST = 100_000
_UNDER_WAY = frozenset({DeadLetterState.ACCEPTED, DeadLetterState.RUNNING})


class Unsettled:
    """Follows deliveries from their acceptance until they have settled.

    Those that a worker of this process runs are crossed off by it. The others, which another process
    may have taken, are looked up in the store when somebody waits for them.

    Args:
        handlers: returns the handler ids of this process; of others nothing is waited for.
        is_spooling: tells whether some may still be on their way into the store.
    """

    def __init__(
        self,
        store: DeadLetterStore,
        *,
        handlers: Callable[[], Collection[str]],
        is_spooling: Callable[[], bool],
    ) -> None:
        self._store = store
        self._handlers = handlers
        self._is_spooling = is_spooling
        self._expected: dict[str, int] = {}
        self._marks = 0
        self._elsewhere: dict[str, None] = {}
        self._changed: anyio.Event | None = None  # while somebody waits
        self._ended = False

    def expect(self, dead_letter_id: str) -> None:
        """Wait for a delivery from now on."""
        self._expected[dead_letter_id] = self._marks
        while len(self._expected) > _MOST:  # others have run the oldest, or they wait for very long
            oldest = next(iter(self._expected))
            del self._expected[oldest]
            self.expect_elsewhere([oldest])

    def expect_elsewhere(self, dead_letter_ids: Iterable[str]) -> None:
        """Wait for deliveries of which the store alone knows whether they have been committed."""
        self._elsewhere.update(dict.fromkeys(dead_letter_ids))
        self._forget_the_first()

    def mark(self) -> int:
        """Return what tells those that are expected now from later ones."""
        self._marks += 1
        return self._marks

    def cross_off(self, dead_letter_id: str) -> None:
        """Wait for a delivery no longer."""
        self._expected.pop(dead_letter_id, None)
        self._elsewhere.pop(dead_letter_id, None)
        self.tell()

    def leave(self, held: Collection[str], mark: int) -> None:
        """Take note that nothing was left to claim of what was expected before ``mark``.

        What is not ``held`` here is in other hands, or waits for its turn. Maybe nobody will cross it
        off, so that there is an end to how many are remembered.
        """
        left = [it for it, since in self._expected.items() if since < mark and it not in held]
        for dead_letter_id in left:
            del self._expected[dead_letter_id]
        self.expect_elsewhere(left)
        if left:
            self.tell()

    def _forget_the_first(self) -> None:
        while len(self._elsewhere) > _MOST:
            del self._elsewhere[next(iter(self._elsewhere))]

    def tell(self) -> None:
        """Have who waits look again."""
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set()

    def end(self) -> None:
        """Let everybody go who waits: nothing will be run here any more."""
        self._ended = True
        self.tell()

    async def wait(self) -> None:
        """Return when all have settled, failed, or are held back; :meth:`tell` makes it look again."""
        while not self._ended:
            changed = self._changed = self._changed or anyio.Event()
            if not (self._expected or await self._any_elsewhere()):
                return
            if changed is self._changed:
                await changed.wait()

    async def _any_elsewhere(self) -> bool:
        """Look up what is not held here, up to the first that is under way."""
        if self._elsewhere and self._is_spooling():
            return True  # not to be found there yet
        for dead_letter_id in list(self._elsewhere):
            try:
                letter = await self._store.get(dead_letter_id)
            except DeadLetterNotFound:
                pass
            except StoreUnavailable:
                return True
            else:
                if letter.state in _UNDER_WAY and letter.handler_id in self._handlers():
                    return True
            self._elsewhere.pop(dead_letter_id, None)
        return False
