"""Seeing letters into the store: at once, again while it is unavailable, and into the spool after that."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

import anyio
import structlog

from eventbus_dlq.errors import SpoolUnavailable, StoreUnavailable
from eventbus_dlq.letter import DeadLetterState
from eventbus_dlq.store import Kept, Spooled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import Literal

    from eventbus_dlq.letter import DeadLetter
    from eventbus_dlq.spool import Spool
    from eventbus_dlq.store import DeadLetterStore

T = TypeVar("T")

_log = structlog.get_logger("eventbus")
_FIRST_WAIT = 0.05
_LONGEST_WAIT = 1.0


class Committer:
    """Hands new letters to the store, or to the spool while the store is away.

    Both writes are harmless to repeat, so that one whose outcome is unknown is simply done again.

    Args:
        timeout: seconds for which a write is tried again while the store is unavailable.
        spool: where it goes after that; None to give up.
    """

    def __init__(self, store: DeadLetterStore, *, timeout: float, spool: Spool | None) -> None:
        self._store = store
        self._timeout = timeout
        self._spool = spool

    async def add(self, letters: Sequence[DeadLetter]) -> Sequence[str]:
        """Commit new failures; return the ids under which they are kept, in order.

        Raises:
            StoreUnavailable: neither the store nor a spool has taken them.
        """
        return await self._commit("add", self._store.add, letters, _ids)

    async def accept(self, letters: Sequence[DeadLetter]) -> Sequence[Kept]:
        """Commit deliveries that have not run; return where each is kept, in order.

        Raises:
            StoreUnavailable: neither the store nor a spool has taken them.
        """
        return await self._commit("accept", self._store.accept, letters, _as_accepted)

    async def _commit(
        self,
        verb: Literal["add", "accept"],
        write: Callable[[Sequence[DeadLetter]], Awaitable[Sequence[T]]],
        letters: Sequence[DeadLetter],
        answer: Callable[[Sequence[DeadLetter]], Sequence[T]],
    ) -> Sequence[T]:
        spool = self._spool
        if spool is None:
            return await self._try(write, letters)
        unavailable: StoreUnavailable | None = None
        if not spool.is_waiting:
            with anyio.move_on_after(self._timeout or math.inf):  # a store that hangs is unavailable too
                try:
                    return await self._try(write, letters)
                except StoreUnavailable as error:
                    unavailable = error
        try:
            await spool.append([Spooled(verb, letter) for letter in letters])
        except SpoolUnavailable as error:
            reason = unavailable or f"the store has not answered for {self._timeout:g} s"
            raise StoreUnavailable(f"{reason}; and the spool failed too: {error}") from error
        return answer(letters)

    async def _try(
        self,
        write: Callable[[Sequence[DeadLetter]], Awaitable[Sequence[T]]],
        letters: Sequence[DeadLetter],
    ) -> Sequence[T]:
        try:
            return await write(letters)
        except StoreUnavailable as error:
            return await self._try_again(write, letters, error)

    async def _try_again(
        self,
        write: Callable[[Sequence[DeadLetter]], Awaitable[Sequence[T]]],
        letters: Sequence[DeadLetter],
        unavailable: StoreUnavailable,
    ) -> Sequence[T]:
        """Hand letters to the store again and again while it is unavailable for the moment."""
        deadline = anyio.current_time() + self._timeout
        wait = _FIRST_WAIT
        while unavailable.retryable and anyio.current_time() + wait <= deadline:
            ids = [letter.id for letter in letters]
            _log.warning("capture.waits", error=str(unavailable), dead_letters=ids)
            await anyio.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT)
            if self._spool is not None and self._spool.is_waiting:
                break  # others have given up meanwhile, and this one goes behind them
            try:
                return await write(letters)
            except StoreUnavailable as error:
                unavailable = error
        raise unavailable


def _ids(letters: Sequence[DeadLetter]) -> Sequence[str]:
    return [letter.id for letter in letters]


def _as_accepted(letters: Sequence[DeadLetter]) -> Sequence[Kept]:
    return [Kept(letter.id, DeadLetterState.ACCEPTED) for letter in letters]
