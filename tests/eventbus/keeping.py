"""A dead-letter queue for tests of the bus alone: it keeps what it is given, in order, and runs nothing."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import anyio
import anyio.lowlevel

from eventbus import EventBus, SystemClock
from eventbus.acceptance import Acceptance, Accepted
from eventbus.failure import Failure
from eventbus.stored import StoredDelivery

SOME_DAY = datetime(2026, 3, 1, tzinfo=UTC)


@dataclass
class Kept:
    """What was kept of a delivery: how, and as what."""

    how: str
    handler_id: str
    ordering_key: str | None
    payload: Any
    given: Acceptance | Failure
    id: str


class KeepingDlq:
    """Keeps deliveries and failures in ``kept``; a key is blocked from the first that is kept on.

    Attributes:
        refuses: what ``accept`` and its like raise, instead of keeping anything.
        answer: awaited by ``accept`` and ``capture`` after they have taken the rows; None not to wait.
        took: set when they have.
        sessions: the sessions that were given.
    """

    def __init__(self) -> None:
        self.clock = SystemClock()
        self.max_payload = 1_000_000
        self.kept: list[Kept] = []
        self.blocked: set[tuple[str, str]] = set()
        self.refuses: Exception | None = None
        self.answer: anyio.Event | None = None
        self.took = anyio.Event()
        self.sessions: list[Any] = []
        self._failed: set[tuple[str, str]] = set()
        self._ids = map(str, itertools.count(1))

    async def start(self, bus: EventBus) -> None:
        pass

    def halt(self) -> None:
        pass

    async def come_to_rest(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def wait_idle(self) -> None:
        pass

    async def capture(self, failures: Sequence[Failure]) -> Sequence[str]:
        if self.refuses is not None:
            raise self.refuses
        kept = [self._keep(f"captured {failure.reason}", failure) for failure in failures]
        self._failed.update(self._keys(failures))
        await self._answer()
        return [it.id for it in kept]

    async def accept(self, deliveries: Sequence[Acceptance]) -> Sequence[Accepted]:
        accepted = self._take_in(deliveries)
        await self._answer()
        return accepted

    async def accept_in(self, session: Any, deliveries: Sequence[Acceptance]) -> Sequence[Accepted]:
        self.sessions.append(session)
        await anyio.lowlevel.checkpoint()
        return self._take_in(deliveries)

    def accept_in_sync(self, session: Any, deliveries: Sequence[Acceptance]) -> Sequence[Accepted]:
        self.sessions.append(session)
        return self._take_in(deliveries)

    def is_blocked(self, handler_id: str, ordering_key: str) -> bool:
        return (handler_id, ordering_key) in self.blocked

    def _take_in(self, deliveries: Sequence[Acceptance]) -> Sequence[Accepted]:
        if self.refuses is not None:
            raise self.refuses
        accepted: list[Accepted] = []
        for delivery in deliveries:
            kept = self._known(delivery) or self._keep("accepted", delivery)
            parked = (delivery.handler_id, delivery.ordering_key) in self._failed
            accepted.append(Accepted(kept.id, parked))
        return accepted

    def _known(self, given: Acceptance | Failure) -> Kept | None:
        for kept in self.kept:
            if (kept.given.envelope.id, kept.handler_id) == (given.envelope.id, given.handler_id):
                return kept
        return None

    def _keep(self, how: str, given: Acceptance | Failure) -> Kept:
        known = self._known(given)
        if known is not None:
            known.how, known.given = how, given
            return known
        payload = given.envelope.payload
        kept = Kept(how, given.handler_id, given.ordering_key, payload, given, next(self._ids))
        self.kept.append(kept)
        self.blocked.update(self._keys([given]))
        return kept

    def _keys(self, given: Sequence[Acceptance | Failure]) -> set[tuple[str, str]]:
        return {(it.handler_id, it.ordering_key) for it in given if it.ordering_key is not None}

    async def _answer(self) -> None:
        self.took.set()
        if self.answer is None:
            await anyio.lowlevel.checkpoint()
        else:
            await self.answer.wait()

    def story(self) -> list[tuple[str, Any]]:
        """Return how and what was kept, in order."""
        return [(it.how, it.payload) for it in self.kept]


def stored(name: str, handler_id: str, payload: bytes = b"null", **more: Any) -> StoredDelivery:
    """Return a delivery as a queue gives it back; one that has never failed, unless told otherwise."""
    values: dict[str, Any] = {"dead_letter_id": "letter", "event_id": "event", "event_version": 1}
    values |= {"occurred_at": SOME_DAY, "attempt": 1, "first_failed_at": None, "headers": {}}
    return StoredDelivery(event_name=name, handler_id=handler_id, payload=payload, **(values | more))
