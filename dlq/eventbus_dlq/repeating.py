"""Doing something again and again while the bus runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from eventbus_dlq.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from eventbus.ports import Clock

_log = structlog.get_logger("eventbus")


def every(
    seconds: float, work: Callable[[], Awaitable[None]], *, clock: Clock, name: str
) -> Callable[[], Awaitable[None]]:
    """Return what does ``work`` now and then every so many seconds; one that fails does not end it.

    Args:
        seconds: how long it pauses after each time.
        work: what is done.
        clock: what measures the pauses.
        name: what it is called in log lines.
    """

    async def repeat() -> None:
        while True:
            try:
                await work()
            except StoreUnavailable as error:
                _log.warning(f"{name}.failed", error=str(error))
            except Exception:
                _log.exception(f"{name}.failed")
            await clock.sleep(seconds)

    return repeat
