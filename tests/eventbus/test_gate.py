"""The gate: which scopes close a delivery, until when, and that looking is right however they change."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from eventbus import Control, ControlState, Scope
from eventbus.gate import Gate
from eventbus.testing import FakeClock

NOW = datetime(2026, 1, 1, tzinfo=UTC)

TENANTS, EVENTS, HANDLERS = (None, "acme", "zen"), (None, "job", "tick"), (None, "run", "log")
SCOPES = st.builds(Scope, *map(st.sampled_from, (TENANTS, EVENTS, HANDLERS)))


def control(scope: Scope, *, since: int = 0, until: datetime | None = None) -> Control:
    return Control(
        scope=scope,
        state=ControlState.PAUSED,
        reason="a reason",
        by="ann",
        since=NOW + timedelta(seconds=since),
        until=until,
        drained_at=None,
        version=since + 1,
    )


def looks_closed(gate: Gate, tenant: str | None, event: str, handler: str) -> bool:
    """Look as a delivery does, which keeps the sets at hand."""
    way = gate.way(event, handler)
    return tenant in gate.tenants or tenant in way.tenants or bool(way.everybody)


@given(st.lists(st.sets(SCOPES), min_size=1, max_size=4))
def test_a_delivery_is_closed_by_the_scopes_that_cover_it_and_no_others(rounds: list[set[Scope]]) -> None:
    gate = Gate(FakeClock(NOW))
    kept = [gate.way(event, handler) for event in ("job", "tick") for handler in ("run", "log")]
    for scopes in rounds:
        gate.set([control(scope) for scope in scopes])
        assert bool(gate) == bool(scopes)
        for tenant, event, handler in itertools.product(TENANTS, ("job", "tick"), ("run", "log")):
            closed = any(scope.covers(tenant, event, handler) for scope in scopes)
            assert (gate.closed_by(tenant, event, handler) is not None) == closed
            assert looks_closed(gate, tenant, event, handler) == closed
    assert kept


def test_of_several_the_control_that_came_first_is_named() -> None:
    gate = Gate(FakeClock(NOW))
    first, second = control(Scope(event="job"), since=1), control(Scope(tenant="acme"), since=2)
    gate.set([second, first])
    assert gate.closed_by("acme", "job", "run") == first
    assert gate.closed_by("acme", "tick", "run") == second


def test_a_control_that_has_come_to_its_end_closes_nothing() -> None:
    clock = FakeClock(NOW)
    gate = Gate(clock)
    gate.set([control(Scope(), until=NOW + timedelta(seconds=60)), control(Scope(tenant="zen"), since=1)])
    clock.advance(59.999)
    assert gate.closed_by("acme", "job", "run") is not None
    clock.advance(0.001)
    assert gate.closed_by("acme", "job", "run") is None
    assert gate.closed_by("zen", "job", "run") is not None


def test_a_way_follows_what_is_closed_and_is_let_go_with_its_route() -> None:
    gate = Gate(FakeClock(NOW))
    way = gate.way("job", "run")
    assert gate.way("job", "run") is way
    gate.set([control(Scope("acme", None, "run"))])
    assert (way.tenants, way.everybody) == ({"acme"}, set())
    gate.set([control(Scope(None, "job"))])
    assert (way.tenants, way.everybody) == (set(), {Scope(None, "job")})
    del way
    gate.set([])
    assert not gate.way("job", "run").everybody
