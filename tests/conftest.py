"""What all tests share: async ones run on asyncio and on trio; a store in memory, and a queue on it."""

from __future__ import annotations

import gc
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from subjects import SUBJECTS
from tests.postgres_server import release

from eventbus_dlq import DeadLetterQueue, MemoryStore
from eventbus_dlq.store import DeadLetterStore

settings.register_profile("steady", deadline=None)  # a busy machine is no finding
settings.load_profile("steady")


def pytest_collection_finish() -> None:
    """Spare the garbage collector what lives as long as the run: it is most of what there is."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Measure no coverage of what is marked as ``repetitive``; other tests run the same lines."""
    coverage = sys.modules.get("coverage")
    measuring = coverage and coverage.Coverage.current()
    if measuring is None or item.get_closest_marker("repetitive") is None:
        return (yield)
    measuring.stop()
    try:
        return (yield)
    finally:
        measuring.start()


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


@pytest.fixture(params=SUBJECTS, ids=lambda subject: subject.name)
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> DeadLetterStore:
    """Return a store of each kind, for its bus to open; open it again to look into it afterwards."""
    store: DeadLetterStore = request.param.make(tmp_path)
    return store


@pytest.fixture(autouse=True)
def postgres_is_empty_again() -> Iterator[None]:
    """Take back the places in PostgreSQL that a test was given."""
    yield
    release()
