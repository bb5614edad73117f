"""A private server that tests may stop, a network to it that may fail, and stores on them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.flaky_network import FlakyNetwork
from tests.postgres_server import PrivateServer, Schemas, schemas


@pytest.fixture
def places() -> Schemas:
    """Return the shared server's empty schemas."""
    return schemas()


@pytest.fixture
def url(places: Schemas, tmp_path: Path) -> str:
    """Return the URL of an empty schema on the shared server."""
    return places.url(tmp_path)


@pytest.fixture(scope="session")
def running_server() -> Iterator[PrivateServer]:
    server = PrivateServer()
    server.start()
    yield server
    server.remove()


@pytest.fixture
def server(running_server: PrivateServer) -> Iterator[PrivateServer]:
    """Return a server that the test may stop."""
    yield running_server
    running_server.stop()
    running_server.start()


@pytest.fixture
def network(running_server: PrivateServer) -> Iterator[FlakyNetwork]:
    """Return a network between a test and the private server."""
    network = FlakyNetwork(running_server.port)
    yield network
    network.close()
