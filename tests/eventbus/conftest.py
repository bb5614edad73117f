"""What the tests of the bus share: a store in memory, and a queue on it."""

from __future__ import annotations

import pytest

from eventbus_dlq import DeadLetterQueue, MemoryStore


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def dlq(store: MemoryStore) -> DeadLetterQueue:
    return DeadLetterQueue(store, capture_timeout=0.0)
