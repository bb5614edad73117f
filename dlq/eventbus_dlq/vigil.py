"""For how long a store has been watched, and its leases could be kept alive meanwhile."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_LATE = 1.1
"""How many intervals a look counts for at most: with them an owner that is alive is never still for a lease
when an outage ends that no look has met, and has another interval to beat."""
_BROKEN = 2.0
"""How many intervals may be between two looks of one vigil."""
_AFTER_A_BREAK = 0.5
"""How many intervals a look counts for that comes later still: an event loop may be as busy all the time."""


class Vigil:
    """The time for which this process has watched a store that took writes.

    An owner whose heartbeat stands still is dead only if it could have beaten. So time counts between two
    looks that are a regular interval apart, each of them with a write of this process that was committed. One
    that comes late counts for little more than an interval, and one that comes very late for less and begins
    the vigil anew: the store may have been away, or this machine with all its processes may have been frozen.

    Args:
        interval: seconds between two looks.

    Attributes:
        seconds: for how long there was no break, up to the last look.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._looked_at: float | None = None
        self.seconds = 0.0

    def go_on(self, now: float) -> float | None:
        """Take note of a look whose write was committed; return for how many seconds it counts.

        Nothing that was seen before counts any more when it is None.

        Args:
            now: seconds of a clock that never goes backwards.
        """
        before, self._looked_at = self._looked_at, now
        if before is None:
            return None
        if now - before > _BROKEN * self._interval:
            self.seconds = 0.0
            return _AFTER_A_BREAK * self._interval
        counted = min(now - before, _LATE * self._interval)
        self.seconds += counted
        return counted

    def end(self) -> None:
        """Take note that the store did not take a write, or did not answer."""
        self._looked_at = None
        self.seconds = 0.0


def _counting_suspension() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _steadiest() -> Callable[[], float]:
    try:
        _counting_suspension()
    except (AttributeError, OSError):  # not every system has it
        return time.monotonic
    return _counting_suspension


elapsed = _steadiest()
"""Returns seconds of a clock that never goes backwards. Where it can it counts those of a suspended machine,
too: a server's clock goes on meanwhile, and the leases of the machine's processes run out."""
