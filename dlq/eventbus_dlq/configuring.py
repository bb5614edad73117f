"""What operators have set in the store, as this process knows it: read again and again, and told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbus.log import Log
from eventbus_dlq.control_store import Configuration

if TYPE_CHECKING:
    from collections.abc import Callable

    from eventbus_dlq.store import DeadLetterStore

_log = Log()

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
        known = self.current.version
        answer = await self._store.configuration(known=known)
        if answer is not None and answer.version < known:
            _log.warning("configuration.went_back", known=known, version=answer.version)
            self._go_by(answer)  # the store has been put back to an earlier state
        elif answer is not None:
            self.take(answer)
        return self.current

    def take(self, configuration: Configuration) -> None:
        """Take note of a configuration that the store has answered with; an older one changes nothing."""
        if configuration.version > self.current.version:  # else it was overtaken by a later answer
            self._go_by(configuration)

    def _go_by(self, configuration: Configuration) -> None:
        self.current = configuration
        for listener in self._listeners:
            listener(configuration)
