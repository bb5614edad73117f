"""A bus under control, for tests: what it has run, in order, and looks at what is parked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio

from eventbus import Envelope, EventBus
from eventbus_dlq import DeadLetter, DeadLetterQuery, DeadLetterQueue, DeadLetterStore

WHY: Any = {"reason": "moving to a new database", "by": "ann"}


class Shop:
    """A bus with handlers that note what they are given.

    Attributes:
        bus: the bus.
        ran: (handler, tenant, payload) of every run that has ended, in order.
    """

    def __init__(self, store: DeadLetterStore, *, bus: dict[str, Any] | None = None, **queue: Any) -> None:
        self.store = store
        self.bus = EventBus(dlq=DeadLetterQueue(store, **{"poll": 0.05, **queue}), **(bus or {}))
        self.ran: list[tuple[str, str | None, Any]] = []

    def handle(self, event: str, handler_id: str, **options: Any) -> Shop:
        """Subscribe a handler that notes and returns."""

        async def handler(payload: Any, envelope: Envelope) -> None:
            self.ran.append((handler_id, envelope.tenant, payload))

        self.bus.subscribe(event, handler, id=handler_id, **options)
        return self

    def hang(self, event: str, handler_id: str, **options: Any) -> Hanging:
        """Subscribe a handler that runs until the test lets it go."""
        hanging = Hanging(self, handler_id)
        self.bus.subscribe(event, hanging.handler, id=handler_id, **options)
        return hanging

    def payloads(self, handler_id: str) -> list[Any]:
        """Return what a handler was given, in order."""
        return [payload for name, _, payload in self.ran if name == handler_id]

    async def letters(self, **query: Any) -> list[DeadLetter]:
        """Return what the store has, oldest first."""
        page = await self.store.find(DeadLetterQuery(**query), order="oldest", limit=1_000)
        return [await self.store.get(it.id) for it in page.items]


class Hanging:
    """A handler that begins and does not end.

    Attributes:
        began: the payloads with which it has begun, in order.
    """

    def __init__(self, shop: Shop, handler_id: str) -> None:
        self.began: list[Any] = []
        self._shop = shop
        self._id = handler_id
        self._let_go = anyio.Event()

    async def handler(self, payload: Any, envelope: Envelope) -> None:
        """Run until it is let go."""
        self.began.append(payload)
        await self._let_go.wait()
        self._shop.ran.append((self._id, envelope.tenant, payload))

    def let_go(self) -> None:
        """Let all that run end, and all that come later."""
        self._let_go.set()


async def until(there: Callable[[], bool], *, within: float = 10) -> None:
    """Return when something has come about."""
    with anyio.fail_after(within):
        while not there():
            await anyio.sleep(0.005)
