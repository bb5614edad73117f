"""Every test of this folder runs over every store, on asyncio and on trio."""

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


@pytest.fixture
async def store(subject: Subject, tmp_path: Path) -> AsyncIterator[DeadLetterStore]:
    store = subject.make(tmp_path)
    await store.open()
    yield store
    await store.close()
