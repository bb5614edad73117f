"""Every test of this folder runs over every store, from the event loops that its subject names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from subjects import SUBJECTS, Subject

from eventbus_dlq.store import DeadLetterStore


@pytest.fixture(params=SUBJECTS, ids=lambda subject: subject.name)
def subject(request: pytest.FixtureRequest) -> Subject:
    param: Subject = request.param
    return param


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    config.hook.pytest_deselected(items=[item for item in items if _is_left_out(item)])
    items[:] = [item for item in items if not _is_left_out(item)]


def _is_left_out(item: pytest.Item) -> bool:
    """Tell whether a test calls a store from an event loop that its subject does not name."""
    values: dict[str, object] = getattr(getattr(item, "callspec", None), "params", {})
    subject, backend = values.get("subject"), values.get("anyio_backend")
    return isinstance(subject, Subject) and backend is not None and backend not in subject.backends


@pytest.fixture
async def store(subject: Subject, tmp_path: Path) -> AsyncIterator[DeadLetterStore]:
    store = subject.make(tmp_path)
    await store.open()
    yield store
    await store.close()
