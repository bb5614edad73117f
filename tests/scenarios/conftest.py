"""Every scenario is played on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from children import Child
from databases import KINDS, Database, File, Shared, Stoppable


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """Return an empty database."""
    return File(tmp_path) if request.param == "sqlite" else Shared(tmp_path)


@pytest.fixture(params=KINDS)
def database_that_stops(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """Return an empty database that can be down."""
    return File(tmp_path) if request.param == "sqlite" else Stoppable()


@pytest.fixture(autouse=True)
def nobody_is_left_behind() -> Iterator[None]:
    """Kill the processes that a test has not ended."""
    yield
    Child.end_all()
