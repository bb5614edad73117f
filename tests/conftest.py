"""What all tests share: async ones run on asyncio and on trio; a store in memory, and a queue on it."""

from __future__ import annotations

import pytest

from eventbus_dlq import DeadLetterQueue, MemoryStore


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    backend: str = request.param
    return backend


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def dlq(store: MemoryStore) -> DeadLetterQueue:
    return DeadLetterQueue(store, capture_timeout=0.0)
