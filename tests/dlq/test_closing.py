"""Which control closes a letter, and what is said of it."""

from __future__ import annotations

from itertools import product

import pytest
from letters import NOW, after, build_delivery, build_letter, build_letter_in

from eventbus.controls import Control, ControlState, Scope
from eventbus_dlq import closing
from eventbus_dlq.letter import DeadLetterState, Reason

SCOPES = [
    Scope(*it) for it in product((None, "acme", ""), (None, "OrderPlaced"), (None, "billing.charge", "stock"))
]


def build_control(scope: Scope, **values: object) -> Control:
    """Return a control that pauses a scope."""
    fields: dict[str, object] = {
        "scope": scope, "state": ControlState.PAUSED, "reason": "their bank is down", "by": "ann",
        "since": NOW, "until": None, "drained_at": None, "version": 1,
    }  # fmt: skip
    return Control(**{**fields, **values})  # type: ignore[arg-type]  # as the caller says


@pytest.mark.parametrize("tenant", [None, "acme", "", "globex"])
@pytest.mark.parametrize("scope", SCOPES, ids=repr)
def test_a_control_closes_what_its_scope_covers(scope: Scope, tenant: str | None) -> None:
    letter = build_delivery(tenant=tenant)
    control = build_control(scope)
    covers = scope.covers(tenant, "OrderPlaced", "billing.charge")
    assert closing.closed_by({scope: control}, letter, NOW) is (control if covers else None)


def test_of_several_the_first_one_is_named_that_has_not_ended() -> None:
    controls = [
        build_control(Scope(), since=after(-9), until=NOW),
        build_control(Scope("acme"), since=after(-1), version=7),
        build_control(Scope(handler="billing.charge"), since=after(-1), version=6),
        build_control(Scope("acme", "OrderPlaced"), version=9),
    ]
    by_scope = {it.scope: it for it in controls}
    assert closing.closed_by(by_scope, build_letter(), NOW) is controls[2]
    assert closing.closed_by(by_scope, build_letter(), after(-0.000001)) is controls[0]
    assert closing.closed_by({}, build_letter(), NOW) is None


@pytest.mark.parametrize(
    ("state", "reason"), [("paused", "paused"), ("draining", "draining"), ("drained", "draining")]
)
def test_a_letter_is_parked_for_what_its_control_does(state: str, reason: str) -> None:
    control = build_control(Scope(), state=ControlState(state))
    assert closing.reason_of(control) is Reason(reason)


def test_only_what_a_control_has_parked_is_held() -> None:
    parked = DeadLetterState.PARKED
    assert closing.is_held(build_letter_in(parked, reason=Reason.PAUSED))
    assert closing.is_held(build_letter_in(parked, reason=Reason.DRAINING))
    assert not closing.is_held(build_letter_in(parked, reason=Reason.SEQUENCE))
    assert not closing.is_held(build_letter(reason=Reason.PAUSED))


def test_a_refusal_tells_who_and_why_and_the_way_out() -> None:
    control = build_control(Scope("acme", handler="billing.charge"), until=after(60))
    refusal = closing.refusal("0195f0a0", control)
    assert refusal.control is control
    assert str(refusal) == (
        "dead letter 0195f0a0 cannot be run: tenant=acme handler=billing.charge is paused "
        "since 2026-03-14T09:26:53.589793+00:00 until 2026-03-14T09:27:53.589793+00:00 by ann: "
        "their bank is down; bus.resume(tenant='acme', handler='billing.charge') opens it again"
    )


def test_a_refusal_without_a_control_says_that_it_passes() -> None:
    refusal = closing.refusal("0195f0a0", None)
    assert refusal.control is None
    assert "0195f0a0" in str(refusal)
    assert "try again" in str(refusal)


def test_the_statistics_name_what_is_closed_now() -> None:
    controls = [
        build_control(Scope("acme"), until=NOW),
        build_control(Scope("globex")),
        build_control(Scope(), state=ControlState.DRAINED),
        build_control(Scope("globex", handler="stock"), state=ControlState.DRAINING),
    ]
    assert closing.closed_scopes(controls, NOW, None) == (
        (Scope("globex"),),
        (Scope(), Scope("globex", handler="stock")),
    )
    assert closing.closed_scopes(controls, NOW, {"globex"}) == (
        (Scope("globex"),),
        (Scope("globex", handler="stock"),),
    )
    assert closing.closed_scopes(controls, NOW, ()) == ((), ())
