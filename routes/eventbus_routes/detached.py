"""Work that goes on when its request is gone: it runs in the bus's own tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import anyio
import structlog

from eventbus.errors import BusClosed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from eventbus import EventBus

_log = structlog.get_logger("eventbus.admin")

T = TypeVar("T")


async def run_detached(bus: EventBus, work: Callable[[], Awaitable[T]], *, wait: float) -> T | None:
    """Run ``work`` in the bus's tasks and return its result, or None when it takes over ``wait`` seconds.

    Cancelling the caller, or not waiting any longer, leaves the work running. What it raises is
    raised here, or logged when nobody waits any more.

    Raises:
        BusClosed: the bus is not running, or stopped before the work had ended.
    """
    run = _Detached(work)
    bus.spawn(run)
    try:
        with anyio.move_on_after(wait):
            await run.ended.wait()
    finally:
        run.abandoned = not run.ended.is_set()
    return None if run.abandoned else run.result()


class _Detached(Generic[T]):
    """One piece of work: the callable that the bus runs, and what came of it."""

    def __init__(self, work: Callable[[], Awaitable[T]]) -> None:
        self._work = work
        self._results: list[T] = []
        self._error: Exception | None = None
        self.ended = anyio.Event()
        self.abandoned = False

    async def __call__(self) -> None:
        try:
            self._results.append(await self._work())
        except Exception as error:
            if self.abandoned:
                _log.exception("admin.detached_work_failed")
            self._error = error
        finally:
            self.ended.set()

    def result(self) -> T:
        if self._error is not None:
            raise self._error
        if not self._results:
            raise BusClosed("the bus stopped before the work had ended")
        return self._results[0]
