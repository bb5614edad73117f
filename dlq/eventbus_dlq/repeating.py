"""Doing something again and again while the bus runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbus.log import Log
from eventbus_dlq.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from eventbus.ports import Clock
    from eventbus_dlq.outage import Outage

_log = Log()
_AGAIN = 1.0


def every(
    seconds: float, work: Callable[[], Awaitable[None]], *, clock: Clock, outage: Outage, name: str
) -> Callable[[], Awaitable[None]]:
    """Return what does ``work`` now and then every so many seconds; one that fails does not end it.

    While the store is unavailable it is tried again after a second.

    Args:
        seconds: how long it pauses after each time.
        work: what is done.
        clock: what measures the pauses.
        outage: told of a store that is unavailable.
        name: what it is called in log lines.
    """

    async def repeat() -> None:
        while True:
            pause = seconds
            try:
                await work()
            except StoreUnavailable as error:
                outage.met(error, during=name)
                pause = min(pause, _AGAIN)
            except Exception:
                _log.exception(f"{name}.failed")
            await clock.sleep(pause)

    return repeat
