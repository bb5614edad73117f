"""Which sequences are blocked, as far as this process knows."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

from eventbus_dlq.store import SequenceKey

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from eventbus.ports import Redeliverer
    from eventbus_dlq.letter import DeadLetter
    from eventbus_dlq.store import DeadLetterStore

_NOTHING = nullcontext()

REFRESH = 1.0
"""Seconds between two looks at what other processes have stored."""


class BlockedSequences:
    """Knows the sequences that have open letters: those in the store, and what is on its way there.

    No transient delivery of theirs may run: it would leapfrog what is stored.

    Args:
        is_spooling: tells whether some may have been stored in the spool, where no look sees them yet.
    """

    def __init__(self, store: DeadLetterStore, *, is_spooling: Callable[[], bool] = lambda: False) -> None:
        self._store = store
        self._is_spooling = is_spooling
        self._stored: frozenset[SequenceKey] = frozenset()
        self._underway: Counter[SequenceKey] = Counter()
        self._since: dict[SequenceKey, int] = {}  # what the store may have taken since that look
        self._looks = 0
        self._lock = threading.Lock()  # ``publish_in`` comes from any thread

    def is_blocked(self, handler_id: str, ordering_key: str) -> bool:
        """Tell whether deliveries of a handler and key have to queue up behind stored ones."""
        key = SequenceKey(handler_id, ordering_key)
        return key in self._stored or key in self._since or key in self._underway

    def storing(self, letters: Sequence[DeadLetter]) -> AbstractContextManager[None]:
        """Block the sequences of ``letters``, which the block stores, until a later look has seen them."""
        keys = [SequenceKey(it.handler_id, it.ordering_key) for it in letters if it.ordering_key is not None]
        return self._storing(keys) if keys else _NOTHING

    @contextmanager
    def _storing(self, keys: Sequence[SequenceKey]) -> Generator[None]:
        with self._lock:
            self._underway.update(keys)
        try:
            yield
        finally:
            with self._lock:
                self._since.update(dict.fromkeys(keys, self._looks))
                self._underway.subtract(keys)
                for key in keys:
                    if not self._underway[key]:
                        del self._underway[key]

    async def refresh(self, bus: Redeliverer) -> None:
        """Look at what is stored; costs nothing while nobody here asks for an order.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        handlers = bus.ordered_handlers
        if not (handlers or self._stored or self._since):
            return
        with self._lock:
            self._looks += not self._is_spooling()  # else what was stored before counts as stored since
            look = self._looks
        stored = await self._store.blocked(handlers)
        with self._lock:
            self._stored = stored
            self._since = {key: since for key, since in self._since.items() if since >= look}
