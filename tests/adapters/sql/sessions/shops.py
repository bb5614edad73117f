"""An application with tables of its own, and both kinds of sessions on them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from anyio import to_thread
from letters import NOW
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from tests.adapters.sql.places import Place

from eventbus_adapters.sql import SqlStore
from eventbus_dlq.letter import DeadLetter
from eventbus_dlq.query import DeadLetterQuery
from eventbus_dlq.store import Kept, SessionStore

Opening = Callable[..., Awaitable["Hand"]]
"""Opens a session on a place, with what engines and sessions take."""


class Base(DeclarativeBase):
    """The application's own tables."""


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)


class Shop:
    """An application with a store, and a session on the same database, of one kind or the other."""

    def __init__(self, store: SqlStore, place: Place) -> None:
        self.store = store
        self.place = place
        self.woken: list[str] = []
        store._wake = lambda: self.woken.append("woken")  # alone: PostgreSQL's own notices come at any time

    async def kept(self) -> set[str]:
        page = await self.store.find(DeadLetterQuery.everything())
        return {it.id for it in page.items}

    async def total(self) -> int:
        return (await self.store.stats(now=NOW)).total


class Hand:
    """One way to use a session; both look the same to a test."""

    def __init__(self, shop: Shop, session: Any) -> None:
        self.shop = shop
        self.session = session
        self._store: SessionStore = shop.store

    async def do(self, name: str, *arguments: Any) -> Any:
        """Call a method of the session's."""
        if isinstance(self.session, AsyncSession):
            called = getattr(self.session, name)(*arguments)
            return await called if hasattr(called, "__await__") else called
        return await to_thread.run_sync(getattr(self.session, name), *arguments)

    async def accept(self, *deliveries: DeadLetter) -> Sequence[Kept]:
        if isinstance(self.session, AsyncSession):
            return await self._store.accept_in(self.session, deliveries)
        return await to_thread.run_sync(self._store.accept_in_sync, self.session, deliveries)

    async def savepoint(self) -> Any:
        """Begin a savepoint; return what commits or rolls it back."""
        return await self.do("begin_nested")


async def ended(savepoint: Any, how: str) -> None:
    """Commit or roll back a savepoint."""
    called = getattr(savepoint, how)()
    if hasattr(called, "__await__"):
        await called
