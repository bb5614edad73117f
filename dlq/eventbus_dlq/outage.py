"""A store that is down, told of once: when it begins, in the log once a minute, and when it is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbus.log import Log

if TYPE_CHECKING:
    from eventbus.ports import Clock
    from eventbus.telemetry import Telemetry

_log = Log()

REMIND_EVERY = 60.0
"""Seconds between two log lines about one outage."""


class Outage:
    """Gathers what everybody meets who uses a store, so that an outage is told of once and not by each.

    Used in one event loop.

    Attributes:
        error: what was met last; None while there is no outage.
    """

    def __init__(self, *, telemetry: Telemetry, clock: Clock) -> None:
        self._telemetry = telemetry
        self._clock = clock
        self._began = 0.0
        self._told = 0.0
        self._refused = 0
        self.error: Exception | None = None

    def met(self, error: Exception, *, during: str) -> None:
        """Take note that the store could not be used for what is called ``during``."""
        now = self._clock.monotonic()
        is_new, self.error = self.error is None, error
        self._refused += 1
        if is_new:
            self._began = self._told = now
            _log.warning("store.unavailable", error=str(error), during=during)
            self._telemetry.emit("store.unavailable", error=str(error))
        elif now - self._told >= REMIND_EVERY:
            self._told = now
            seconds = round(now - self._began, 1)
            _log.warning(
                "store.still_unavailable",
                error=str(error),
                during=during,
                seconds=seconds,
                refused=self._refused,
            )

    def over(self) -> None:
        """Take note that the store has taken a write."""
        if self.error is None:
            return
        seconds, refused = round(self._clock.monotonic() - self._began, 1), self._refused
        self.error = None
        self._refused = 0
        _log.warning("store.available", seconds=seconds, refused=refused)
        self._telemetry.emit("store.available", seconds=seconds, refused=refused)
