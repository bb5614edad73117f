"""Seeing letters into the store: at once, again while it is unavailable, and into the spool after that."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import anyio

from eventbus_dlq.errors import SpoolUnavailable, StoreUnavailable
from eventbus_dlq.letter import DeadLetterState
from eventbus_dlq.moves import released
from eventbus_dlq.store import Kept, Spooled

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import Literal

    from eventbus_dlq.letter import DeadLetter
    from eventbus_dlq.outage import Outage
    from eventbus_dlq.spool import Spool
    from eventbus_dlq.store import DeadLetterStore

T = TypeVar("T")

_FIRST_WAIT = 0.05
_LONGEST_WAIT = 1.0
_MOST_TOKENS = 1 << 32
_MOST_TIMES = 1 << 16
_ACCEPTED = DeadLetterState.ACCEPTED


class Committer:
    """Hands new letters to the store, or to the spool while the store is away.

    Both writes are harmless to repeat, so that one whose outcome is unknown is simply done again.

    Args:
        timeout: seconds for which a write is tried again while the store is unavailable.
        spool: where it goes after that; None to give up.
        outage: told of a store that is unavailable, and of one that is not.
    """

    def __init__(
        self, store: DeadLetterStore, *, timeout: float, spool: Spool | None, outage: Outage
    ) -> None:
        self._store = store
        self._outage = outage
        self._timeout = timeout
        self._spool = spool

    def add(self, letters: Sequence[DeadLetter]) -> Awaitable[Sequence[str]]:
        """Commit new failures; return the ids under which they are kept, in order.

        Raises:
            StoreUnavailable: neither the store nor a spool has taken them.
        """
        return self._commit("add", self._store.add, letters, again=list, answer=_ids)

    def accept(self, letters: Sequence[DeadLetter], *, again: bool = False) -> Awaitable[Sequence[Kept]]:
        """Commit deliveries that have not run; return where each is kept, in order.

        ``again`` says that they were handed over before, and that nobody knows what became of them.

        Raises:
            StoreUnavailable: neither the store nor a spool has taken them.
        """
        if again:
            letters = _accepted_again(letters, times=_MOST_TIMES)
        return self._commit("accept", self._store.accept, letters, again=_accepted_again, answer=_as_accepted)

    def _commit(
        self,
        verb: Literal["add", "accept"],
        write: Callable[[Sequence[DeadLetter]], Awaitable[Sequence[T]]],
        letters: Sequence[DeadLetter],
        *,
        again: Callable[[Sequence[DeadLetter]], Sequence[DeadLetter]],
        answer: Callable[[Sequence[DeadLetter]], Sequence[T]],
    ) -> Awaitable[Sequence[T]]:
        """Hand letters to the store, and after that, as ``again`` makes them each time, to store or spool."""
        arriving = _Arriving(letters, again)
        if self._spool is None:
            return self._try(write, arriving)
        return self._commit_or_spool(verb, write, arriving, answer, spool=self._spool)

    async def _commit_or_spool(
        self,
        verb: Literal["add", "accept"],
        write: Callable[[Sequence[DeadLetter]], Awaitable[Sequence[T]]],
        arriving: _Arriving,
        answer: Callable[[Sequence[DeadLetter]], Sequence[T]],
        *,
        spool: Spool,
    ) -> Sequence[T]:
        letters = arriving.letters
        unavailable: StoreUnavailable | None = None
        if not spool.is_waiting:
            with anyio.move_on_after(self._timeout or math.inf):  # a store that hangs is unavailable too
                try:
                    return await self._try(write, arriving)
                except StoreUnavailable as error:
                    unavailable = error
            if unavailable is None:
                unavailable = StoreUnavailable(f"the store has not answered for {self._timeout:g} s")
                self._outage.met(unavailable, during="capture")
        try:
            await spool.append([Spooled(verb, letter) for letter in arriving.again()])
        except SpoolUnavailable as error:
            reason = unavailable or "what was spooled before is not in the store yet"
            raise StoreUnavailable(f"{reason}; and the spool failed too: {error}") from error
        return answer(letters)

    async def _try(
        self,
        write: Callable[[Sequence[DeadLetter]], Awaitable[Sequence[T]]],
        arriving: _Arriving,
    ) -> Sequence[T]:
        """Hand letters to the store, again and again while it is unavailable for the moment."""
        try:
            answer = await write(arriving.letters)
        except StoreUnavailable as error:
            self._outage.met(error, during="capture")
            unavailable = error
        else:
            self._outage.over()
            return answer
        deadline = anyio.current_time() + self._timeout
        wait = _FIRST_WAIT
        while unavailable.retryable and anyio.current_time() + wait <= deadline:
            await anyio.sleep(wait)
            wait = min(wait * 2, _LONGEST_WAIT)
            if self._spool is not None and self._spool.is_waiting:
                break  # others have given up meanwhile, and this one goes behind them
            try:
                answer = await write(arriving.again())
            except StoreUnavailable as error:
                self._outage.met(error, during="capture")
                unavailable = error
            else:
                self._outage.over()
                return answer
        raise unavailable


class _Arriving:
    """Letters on their way into a store or a spool.

    Attributes:
        letters: as they were handed over last, or will be first.
    """

    def __init__(
        self, letters: Sequence[DeadLetter], again: Callable[[Sequence[DeadLetter]], Sequence[DeadLetter]]
    ) -> None:
        self.letters = letters
        self._again = again

    def again(self) -> Sequence[DeadLetter]:
        """Return the letters for another time: each time they differ from all times before."""
        self.letters = self._again(self.letters)
        return self.letters


def _accepted_again(letters: Sequence[DeadLetter], *, times: int = 1) -> Sequence[DeadLetter]:
    """Return deliveries as they are spooled, or accepted once more: not claimed by anybody.

    When nobody knows whether they were accepted before, they may have been, have run and be gone: then
    they come as new ones. Their tokens begin above all that were granted for the first ones, so that nobody
    who held those can settle these.
    """
    unclaimed = [
        released(it, _ACCEPTED, now=it.updated_at) if it.state is DeadLetterState.RUNNING else it
        for it in letters
    ]
    return [replace(it, token=it.token + times * _MOST_TOKENS) for it in unclaimed]


def _ids(letters: Sequence[DeadLetter]) -> Sequence[str]:
    return [letter.id for letter in letters]


def _as_accepted(letters: Sequence[DeadLetter]) -> Sequence[Kept]:
    parked = DeadLetterState.PARKED
    return [Kept(it.id, parked if it.state is parked else _ACCEPTED) for it in letters]
