"""What operators have set in the store, as this process knows it: read again and again, and told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbus_dlq.control_store import Configuration

if TYPE_CHECKING:
    from collections.abc import Callable

    from eventbus_dlq.store import DeadLetterStore

REFRESH = 0.5
"""Seconds between two looks at what operators have set in other processes."""


class Configuring:
    """Holds the latest configuration of the store, and tells its listeners of each that is newer.

    Attributes:
        current: the latest that is known here; that of a store where nothing was ever set until the first
            look.
    """

    def __init__(self, store: DeadLetterStore) -> None:
        self.current = Configuration()
        self._store = store
        self._listeners: list[Callable[[Configuration], None]] = []

    def listen(self, listener: Callable[[Configuration], None]) -> None:
        """Have ``listener`` called with each configuration that is newer than the one before."""
        self._listeners.append(listener)

    async def refresh(self) -> Configuration:
        """Look whether the store has a newer one, and return the latest.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        newer = await self._store.configuration(known=self.current.version)
        if newer is not None:
            self.take(newer)
        return self.current

    def take(self, configuration: Configuration) -> None:
        """Take note of a configuration that the store has answered with; an older one changes nothing."""
        if configuration.version <= self.current.version:
            return  # an answer that was overtaken by a later one
        self.current = configuration
        for listener in self._listeners:
            listener(configuration)
