"""Every test of this folder runs on both databases, with asynchronous and with synchronous sessions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session
from tests.adapters.sql.places import Place, begin_for_savepoints, shared_place
from tests.adapters.sql.sessions.shops import Base, Hand, Opening, Shop

from eventbus_adapters.sql import SqlStore


@pytest.fixture(params=["async", "sync"])
def way(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def anyio_backend(way: str) -> str:
    return "asyncio" if way == "async" else "trio"  # SQLAlchemy's AsyncSession runs on asyncio alone


@pytest.fixture(params=["sqlite", "postgres"])
async def shop(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shop]:
    place = shared_place(request.param, tmp_path)
    store = SqlStore(place.url, busy_timeout=0.3)
    await store.open()
    await to_thread.run_sync(place.run, Base.metadata.create_all)
    yield Shop(store, place)
    await store.close()


@pytest.fixture
async def opening(shop: Shop, way: str) -> AsyncIterator[Opening]:
    """Return what opens a session, closed at the end; it takes what engines take."""
    async with AsyncExitStack() as stack:

        async def opened(place: Place | None = None, session: Any = None, **options: Any) -> Hand:
            there = place or shop.place
            plain = options.pop("plain", False)
            if way == "async":
                engine = there.async_engine(**options)
                stack.push_async_callback(engine.dispose)
                if there.kind == "sqlite" and not plain:
                    begin_for_savepoints(engine.sync_engine)
                made = AsyncSession(engine, **(session or {}))
                stack.push_async_callback(made.close)
                return Hand(shop, made)
            synchronous = there.engine(**options)
            stack.callback(synchronous.dispose)
            if there.kind == "sqlite" and not plain:
                begin_for_savepoints(synchronous)
            kept = Session(synchronous, **(session or {}))
            stack.push_async_callback(to_thread.run_sync, kept.close)
            return Hand(shop, kept)

        yield opened
