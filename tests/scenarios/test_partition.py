"""A network that fails between a process and PostgreSQL, for longer than its leases last."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from children import Child
from databases import Stoppable
from invariants import Run, check_at_the_end, look
from outages import (
    OUTAGE,
    SOON,
    answered,
    check_told_briefly,
    goes_on,
    is_empty,
    leaves,
    settings_of,
    tried_since,
)
from tests.flaky_network import FlakyNetwork

LEASE = 1.5


def black_hole(network: FlakyNetwork) -> None:
    network.swallow()


def half_open(network: FlakyNetwork) -> None:
    network.half_open()
    network.swallow()


def broken(network: FlakyNetwork) -> None:
    network.swallow()
    network.reset()


@pytest.fixture
def place() -> Stoppable:
    return Stoppable()


@pytest.fixture
def network(place: Stoppable) -> Iterator[FlakyNetwork]:
    network = FlakyNetwork(place.server.port)
    yield network
    network.close()


@pytest.mark.parametrize("cut", [black_hole, half_open, broken])
def test_a_process_that_is_cut_off_past_its_lease_loses_its_work_and_heals(
    cut: Callable[[FlakyNetwork], None], place: Stoppable, network: FlakyNetwork, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    other = Child(tmp_path, url=place.url, lease=LEASE)
    settings = settings_of(
        place, spool=str(spool), pace=0.08, work=0.15, lease=LEASE, options={"timeout": 0.5}
    )
    child = Child(tmp_path, **{**settings, "url": place.through(network.port)})
    child.until("ended", "ship", times=5)
    heard = answered(child)
    tolerated = _cut_off_at_work(cut, network, child, place)
    time.sleep(2 * SOON)  # from then on everything goes to the spool
    tolerated |= tried_since(child, heard)  # whether the database has taken them is not known
    other.until("dead_letter.rescued", "bus")
    time.sleep(OUTAGE - SOON)
    network.flow()
    goes_on(child)
    leaves(child)
    leaves(other)
    assert not child.ledger.said("refused")
    assert is_empty(spool)
    assert child.times("lease.lost", "bus")
    check_told_briefly(child)
    check_at_the_end(place.url, child.ledger, tolerated=tolerated, losses=1)


def _cut_off_at_work(
    cut: Callable[[FlakyNetwork], None], network: FlakyNetwork, child: Child, place: Stoppable
) -> set[Run]:
    """Cut a process off while it has leases; return what it runs."""
    while True:
        cut(network)
        if under_way := look(place.url).running(child.lines()):
            return under_way
        network.flow()
        time.sleep(0.02)


def test_connections_that_break_all_the_time_lose_nothing(
    place: Stoppable, network: FlakyNetwork, tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    settings = settings_of(place, spool=str(spool), options={"timeout": 0.5})
    child = Child(tmp_path, **{**settings, "url": place.through(network.port)})
    child.until("ended", "ship", times=5)
    heard = answered(child)
    ends = time.monotonic() + OUTAGE
    while time.monotonic() < ends:
        network.reset()
        time.sleep(0.03)
    goes_on(child)
    tolerated = tried_since(child, heard)  # one whose commit was not answered is accepted once more
    leaves(child)
    assert not child.ledger.said("refused")
    assert is_empty(spool)
    check_at_the_end(place.url, child.ledger, tolerated=tolerated, losses=1)
