"""The stores that the conformance suite runs over, each with what it can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from eventbus_dlq.memory import MemoryStore
from eventbus_dlq.store import DeadLetterStore


@dataclass(frozen=True)
class Subject:
    """One kind of store.

    Attributes:
        name: how the tests are labelled.
        make: returns a store that is not open yet; the same folder means the same letters.
        durable: letters outlive the store object that took them.
        backends: from which event loops the tests call it.
    """

    name: str
    make: Callable[[Path], DeadLetterStore]
    durable: bool
    backends: tuple[str, ...] = ("asyncio", "trio")


def _memory(_: Path) -> DeadLetterStore:
    return MemoryStore()


def _sqlite(folder: Path) -> DeadLetterStore:
    from eventbus_adapters.sql import SqlStore

    return SqlStore(f"sqlite+aiosqlite:///{folder}/store.db")


def _postgres(folder: Path) -> DeadLetterStore:
    from tests.postgres_server import schemas

    from eventbus_adapters.sql import SqlStore

    store = SqlStore(schemas().url(folder))
    store._database.callers_clock = True  # the tests turn it
    return store


SUBJECTS = (
    Subject("memory", _memory, durable=False),
    # Both work in threads of their own; the way there from trio, which is the same for every verb, is tried
    # in tests/adapters and in tests/dlq.
    Subject("sqlite", _sqlite, durable=True, backends=("asyncio",)),
    Subject("postgres", _postgres, durable=True, backends=("asyncio",)),
)
