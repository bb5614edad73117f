"""Answers from a thread to callers on asyncio or trio.

A :class:`Waiter` is made in the caller's loop and answered from any thread. :func:`deliver` wakes all
waiters of one loop with a single call into it.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

import anyio
from anyio.lowlevel import current_token

from eventbus.log import Log

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TypeAlias

T = TypeVar("T")
_Told = TypeVar("_Told", contravariant=True)

_log = Log()


@dataclass(frozen=True, slots=True)
class Failed:
    """The outcome of work that raised."""

    error: Exception


class Answered(Protocol[_Told]):
    """Somebody who waits for one outcome.

    Attributes:
        loop: what :func:`deliver` calls into; equal for the waiters of one loop.
    """

    loop: Any

    def answer(self, outcome: _Told | Failed) -> None:
        """Wake the caller. Runs in the loop's own thread."""
        ...

    def lost(self, error: Exception) -> None:
        """Report a failure that nobody waits for any more."""
        ...


class Waiter(Answered[T], Protocol[T]):
    """Waits in the loop it was made in."""

    async def wait(self) -> T:
        """Return the outcome, or raise it. A cancellation ends the wait and not the work."""
        ...


def waiter(about: Callable[[], str] | None = None) -> Waiter[Any]:
    """Return a waiter of the running loop.

    ``about`` names the work for the log line of a failure that nobody waits for any more; without it
    such a failure is of no interest.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return _OnTrio(about)
    if asyncio.current_task(loop) is None:  # trio as a guest of asyncio's loop
        return _OnTrio(about)
    return _OnAsyncio(loop, about)


class _Reported:
    """Logs a failure that has lost its caller."""

    __slots__ = ("_about",)
    _about: Callable[[], str] | None

    def lost(self, error: Exception) -> None:
        if self._about is not None:
            _log.error("store.write_failed", work=self._about(), error=str(error))


class _OnAsyncio(_Reported, Generic[T]):
    """A waiter on a bare future: nothing is cheaper on asyncio."""

    __slots__ = ("_future", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, about: Callable[[], str] | None) -> None:
        self._about = about
        self.loop: Any = loop
        self._future: asyncio.Future[T] = loop.create_future()

    async def wait(self) -> T:
        try:
            return await self._future
        except asyncio.CancelledError:
            if not self._future.cancelled() and self._future.done():
                self._report()
            raise

    def answer(self, outcome: T | Failed) -> None:
        if not isinstance(outcome, Failed):
            if not self._future.done():
                self._future.set_result(outcome)
        elif self._future.done():
            self.lost(outcome.error)
        else:
            self._future.set_exception(outcome.error)

    def _report(self) -> None:
        error = self._future.exception()
        if isinstance(error, Exception):
            self.lost(error)


class _OnTrio(_Reported, Generic[T]):
    """A waiter on an event, for every loop that is not asyncio's."""

    __slots__ = ("_abandoned", "_event", "_outcome", "loop")

    def __init__(self, about: Callable[[], str] | None) -> None:
        self._about = about
        self.loop: Any = current_token().native_token
        self._event = anyio.Event()
        self._outcome: T | Failed | None = None
        self._abandoned = False

    async def wait(self) -> T:
        try:
            await self._event.wait()
        except BaseException:
            self._abandoned = True
            if isinstance(self._outcome, Failed):
                self.lost(self._outcome.error)
            raise
        if isinstance(self._outcome, Failed):
            raise self._outcome.error
        return cast("T", self._outcome)

    def answer(self, outcome: T | Failed) -> None:
        self._outcome = outcome
        if self._abandoned and isinstance(outcome, Failed):
            self.lost(outcome.error)
        self._event.set()


class _AtOnce:
    """Stands for a loop where there is none: what is called into it runs at once."""

    def run_sync_soon(self, call: Callable[..., None], *arguments: Any) -> None:
        call(*arguments)


_AT_ONCE = _AtOnce()


class BlockingWaiter(Generic[T]):
    """A waiter for a thread that has no loop."""

    __slots__ = ("_done", "_outcome", "loop")

    def __init__(self) -> None:
        self.loop: Any = _AT_ONCE
        self._done = threading.Event()
        self._outcome: T | Failed | None = None

    def block(self) -> T:
        """Block until the outcome is there; return it, or raise it."""
        self._done.wait()
        if isinstance(self._outcome, Failed):
            raise self._outcome.error
        return cast("T", self._outcome)

    def answer(self, outcome: T | Failed) -> None:
        """Wake the thread."""
        self._outcome = outcome
        self._done.set()

    def lost(self, error: Exception) -> None:
        """Do nothing: a thread that blocks cannot be cancelled, so somebody always waits."""


Answers: TypeAlias = "Sequence[tuple[Answered[Any], Any]]"
"""Waiters with their outcomes; :class:`Failed` is one that raises."""


def deliver(answers: Answers) -> None:
    """Answer every waiter, with one call into each loop. Callable from any thread.

    A loop that is closed by now has nobody left to tell: its failures are logged.
    """
    first = answers[0][0].loop
    if all(waiting.loop is first for waiting, _ in answers):
        _call_into(first, answers)
        return
    of_loop: dict[int, list[tuple[Answered[Any], Any]]] = {}
    for waiting, outcome in answers:
        of_loop.setdefault(id(waiting.loop), []).append((waiting, outcome))
    for group in of_loop.values():
        _call_into(group[0][0].loop, group)


def _call_into(loop: Any, answers: Answers) -> None:
    call = loop.call_soon_threadsafe if isinstance(loop, asyncio.AbstractEventLoop) else loop.run_sync_soon
    try:
        call(_answer_all, answers)
    except RuntimeError:  # trio's RunFinishedError is one
        for waiting, outcome in answers:
            if isinstance(outcome, Failed):
                waiting.lost(outcome.error)


def _answer_all(answers: Answers) -> None:
    for waiting, outcome in answers:
        waiting.answer(outcome)
