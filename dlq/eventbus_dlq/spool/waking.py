"""From a thread into an event loop, asyncio's or trio's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import anyio
from anyio.lowlevel import current_token

from eventbus.log import Log

if TYPE_CHECKING:
    from collections.abc import Callable

    from eventbus.ports import Clock

T = TypeVar("T")

_log = Log()


class _Loop:
    """The event loop that runs here."""

    def __init__(self) -> None:
        native: Any = current_token().native_token
        on_asyncio = isinstance(native, asyncio.AbstractEventLoop)
        self._call: Callable[[Callable[[], object]], object] = (
            native.call_soon_threadsafe if on_asyncio else native.run_sync_soon
        )

    def call_soon(self, call: Callable[[], object]) -> bool:
        """Have ``call`` called in the loop, from any thread; False when the loop is closed."""
        try:
            self._call(call)
        except RuntimeError:  # trio's RunFinishedError is one
            return False
        return True


class Answer(Generic[T]):
    """One outcome, given by a thread to the task that waits for it. To be made in the task's loop.

    Args:
        about: names the work, for the log line of a failure that nobody waits for any more; without it
            such a failure is of no interest.
    """

    def __init__(self, about: Callable[[], object] | None = None) -> None:
        self._loop = _Loop()
        self._about = about
        self._given = anyio.Event()
        self._outcome: T | Exception | None = None
        self._abandoned = False

    async def wait(self) -> T:
        """Return the outcome, or raise it. A cancellation ends the wait and not the work."""
        try:
            await self._given.wait()
        except BaseException:
            self._abandoned = True
            self._report()
            raise
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return cast("T", self._outcome)

    def give(self, outcome: T | Exception) -> None:
        """Wake who waits, from any thread."""

        def given() -> None:
            self._outcome = outcome
            self._given.set()
            if self._abandoned:
                self._report()

        if not self._loop.call_soon(given):
            self._outcome = outcome
            self._report()

    def _report(self) -> None:
        if self._about is not None and isinstance(self._outcome, Exception):
            _log.error("spool.append_failed", dead_letters=self._about(), error=str(self._outcome))


class Bell:
    """Wakes one task that waits, from any thread."""

    def __init__(self) -> None:
        self._loop: _Loop | None = None
        self._rung = anyio.Event()

    def listen(self) -> None:
        """Ring in the event loop that runs here, from now on."""
        self._loop = _Loop()

    def ring(self) -> None:
        """Wake the task, or let its next wait return at once; from any thread."""
        if self._loop is not None:
            self._loop.call_soon(lambda: self._rung.set())

    def reset(self) -> None:
        """Wait for what is rung from now on."""
        self._rung = anyio.Event()

    async def wait(self, clock: Clock, *, at_most: float) -> bool:
        """Return True when it has rung since the last reset; False when ``at_most`` seconds have passed."""

        async def give_up() -> None:
            await clock.sleep(at_most)
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(give_up)
            await self._rung.wait()
            group.cancel_scope.cancel()
        return self._rung.is_set()
