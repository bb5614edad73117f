"""A table of the shop's own: who writes an order there publishes it in the same transaction."""

from __future__ import annotations

import asyncio

from addresses import PATIENCE, asynchronous_engine, plain
from pydantic import BaseModel
from sqlalchemy import Column, Integer, MetaData, Table, Text, create_engine
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from eventbus import EventBus, Receipt

TAKEN_BACK = 4
"""Every so many orders one is rolled back."""
SYNCHRONOUS = 3
"""Every so many orders one goes by a synchronous session."""

own_orders = Table(
    "shop_orders",
    MetaData(),
    Column("key", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
)


def make_own_table(url: str) -> None:
    """Make the table of the shop's own, where there is none yet."""
    engine = create_engine(plain(url))
    own_orders.metadata.create_all(engine)
    engine.dispose()


class Sessions:
    """Writes orders down, and publishes them, in transactions of the shop's own."""

    def __init__(self, url: str, bus: EventBus) -> None:
        synchronous = plain(url)
        waits = {"timeout": PATIENCE} if synchronous.startswith("sqlite") else {}
        self._bus = bus
        self._engine = create_engine(synchronous, connect_args=waits)
        self._async_engine = asynchronous_engine(url)

    async def publish(self, order: BaseModel, *, key: str, number: int) -> Receipt | None:
        """Return the receipt when the transaction is committed, or None when it was rolled back."""
        if number % SYNCHRONOUS == 0:
            return await asyncio.to_thread(self._publish, order, key, number)
        async with AsyncSession(self._async_engine) as session:
            await session.execute(own_orders.insert().values(key=key, number=number))
            receipt = await self._bus.publish(order, tenant=key, session=session)
            if number % TAKEN_BACK == 0:
                await session.rollback()
                return None
            await session.commit()
            return receipt

    def _publish(self, order: BaseModel, key: str, number: int) -> Receipt | None:
        with Session(self._engine) as session:
            session.execute(own_orders.insert().values(key=key, number=number))
            receipt = self._bus.publish_in(session, order, tenant=key)
            if number % TAKEN_BACK == 0:
                session.rollback()
                return None
            session.commit()
            return receipt

    async def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()
        await self._async_engine.dispose()
