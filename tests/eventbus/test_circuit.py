"""The circuit of a handler: a state machine on readings of a clock, without I/O."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus import Category, CircuitPolicy, CircuitState
from eventbus.circuit import Circuit, Permit, check_circuit

TRANSIENT, PERMANENT, UNKNOWN = Category.TRANSIENT, Category.PERMANENT, Category.UNKNOWN
POLICY = CircuitPolicy(threshold=3, delay=1.0, multiplier=2.0, max_delay=8.0, growth=2.0, full=8)


def begun(circuit: Circuit, now: float = 0.0) -> Permit:
    permit = circuit.begin(now)
    assert permit is not None
    return permit


def opened(policy: CircuitPolicy = POLICY, now: float = 0.0) -> Circuit:
    circuit = Circuit(policy)
    for number in range(policy.threshold):
        circuit.failed(begun(circuit, now), TRANSIENT, now, delivery=str(number))
    assert circuit.state is CircuitState.OPEN
    return circuit


def reopening(policy: CircuitPolicy = POLICY) -> Circuit:
    circuit = opened(policy)
    circuit.succeeded(begun(circuit, 1.0), 1.0)
    assert circuit.state is CircuitState.REOPENING
    return circuit


# -- the policy


def test_the_defaults_are_an_outage_mode_for_everybody() -> None:
    policy = CircuitPolicy()
    assert (policy.threshold, policy.delay, policy.multiplier, policy.max_delay) == (5, 1.0, 2.0, 60.0)
    assert (policy.growth, policy.full, policy.max_outage) == (2.0, 32, 86_400.0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"threshold": 0}, "threshold=0 must be a number of failures, 1 to 1,000,000"),
        ({"threshold": -5}, "threshold=-5 must be"),
        ({"threshold": 2.5}, "threshold=2.5 must be"),
        ({"threshold": True}, "threshold=True must be"),
        ({"threshold": 10**9}, "threshold=1000000000 must be"),
        ({"full": 0}, "full=0 must be a number of deliveries, 1 to 1,000,000"),
        ({"delay": -1}, "delay=-1 must be a number of seconds above 0, at most a day"),
        ({"delay": 0}, "circuit=False leaves a handler without a circuit"),
        ({"delay": math.nan}, "delay=nan must be"),
        ({"delay": "1"}, "delay='1' must be"),
        ({"max_delay": math.inf}, "max_delay=inf must be"),
        ({"max_delay": 0}, "max_delay=0 must be"),
        ({"max_delay": 86_401.0}, r"at most a day \(86,400\)"),
        ({"delay": 90.0}, "delay=90.0 is longer than max_delay=60.0.*a smaller delay, or a larger max_delay"),
        ({"multiplier": 0.5}, "multiplier=0.5 must be a number, 1 or more"),
        ({"multiplier": math.nan}, "multiplier=nan must be"),
        ({"multiplier": None}, "multiplier=None must be"),
        ({"growth": 1.0}, "growth=1.0 must be a number, above 1"),
        ({"growth": math.inf}, "growth=inf must be"),
        ({"max_outage": -1}, "max_outage=-1 must be a number of seconds from 0 to ten years"),
        ({"max_outage": math.nan}, "max_outage=nan must be"),
        ({"max_outage": 1e12}, "max_outage=1000000000000.0 must be"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused_with_the_way_out(options: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        CircuitPolicy(**options)


def test_the_numbers_at_the_ends_are_accepted() -> None:
    policy = CircuitPolicy(
        threshold=1, delay=60, multiplier=1, max_delay=60, growth=1.5, full=1, max_outage=0
    )
    assert policy.wait_after(60) == 60


@pytest.mark.parametrize("value", [True, 5, "open", {"threshold": 5}])
def test_what_is_no_policy_is_refused_as_an_option(value: Any) -> None:
    with pytest.raises(ValueError, match=r"must be a CircuitPolicy, None for the default .* or False"):
        check_circuit(value, "handler 'a'")
    for fine in (None, False, CircuitPolicy()):
        check_circuit(fine, "handler 'a'")


# -- closed


def test_a_new_circuit_lets_any_number_through() -> None:
    circuit = Circuit(POLICY)
    assert (circuit.state, circuit.allowance(0), circuit.next_probe(), circuit.since) == (
        CircuitState.CLOSED,
        None,
        None,
        None,
    )
    assert not any(begun(circuit).counts for _ in range(100))


@pytest.mark.parametrize(
    ("failures", "state"),
    [
        ([TRANSIENT] * 2, "closed"),
        ([TRANSIENT] * 3, "open"),
        ([TRANSIENT, TRANSIENT, PERMANENT, TRANSIENT, TRANSIENT], "closed"),
        ([TRANSIENT, TRANSIENT, "success", TRANSIENT, TRANSIENT], "closed"),
        ([TRANSIENT, UNKNOWN, TRANSIENT, UNKNOWN, TRANSIENT], "open"),
        ([UNKNOWN] * 50, "closed"),
        ([PERMANENT] * 50, "closed"),
        ([TRANSIENT, TRANSIENT, "cancelled", TRANSIENT], "open"),
    ],
)
def test_it_opens_after_as_many_transient_failures_in_a_row(failures: list[Any], state: str) -> None:
    circuit = Circuit(POLICY)
    for number, failure in enumerate(failures):
        permit = begun(circuit)
        if failure == "success":
            circuit.succeeded(permit, 0.0)
        elif failure == "cancelled":
            circuit.cancelled(permit, 0.0)
        else:
            assert circuit.failed(permit, failure, 0.0, delivery=str(number)) is False
    assert circuit.state == state


def test_one_delivery_that_fails_again_and_again_does_not_open_it() -> None:
    circuit = Circuit(POLICY)
    for _ in range(100):
        circuit.failed(begun(circuit), TRANSIENT, 0.0, delivery="poison")
    circuit.failed(begun(circuit), TRANSIENT, 0.0, delivery="another")
    assert (circuit.state, circuit.failures) == (CircuitState.CLOSED, 101)
    circuit.failed(begun(circuit), TRANSIENT, 0.0, delivery="a third")
    assert circuit.state is CircuitState.OPEN


# -- open, and probing


def test_while_it_is_open_none_may_begin_and_then_one() -> None:
    circuit = opened(now=10.0)
    assert (circuit.allowance(10.0), circuit.next_probe(), circuit.since) == (0, 11.0, 10.0)
    assert circuit.begin(10.999) is None
    assert circuit.allowance(11.0) == 1
    assert begun(circuit, 11.0).counts
    assert (circuit.state, circuit.allowance(11.0)) == (CircuitState.PROBING, 0)
    assert circuit.begin(11.0) is None


def test_a_probe_is_not_late_by_what_a_sum_of_floats_is_too_much() -> None:
    assert 2.2 + 1.1 > 3.3 < 1.1 + 2.2
    circuit = opened(CircuitPolicy(threshold=1, delay=1.1, max_delay=2.2), now=2.2)
    assert circuit.allowance(3.3) == 1
    circuit = opened(CircuitPolicy(threshold=1, delay=1.1, max_delay=2.2))
    begun(circuit, 1.1)
    assert circuit.allowance(3.3) == 1


def test_each_probe_that_fails_lengthens_the_wait_up_to_its_bound() -> None:
    circuit, now, waits = opened(), 0.0, []
    for _ in range(6):
        due = circuit.next_probe()
        assert due is not None
        waits.append(due - now)
        now = due
        assert circuit.failed(begun(circuit, now), TRANSIENT, now, delivery="x") is True
    assert waits == [1, 2, 4, 8, 8, 8]


def test_the_attempts_of_an_hour_are_bounded() -> None:
    circuit, attempts = opened(CircuitPolicy()), 5
    for second in range(1, 3_601):
        while (permit := circuit.begin(float(second))) is not None:
            circuit.failed(permit, TRANSIENT, float(second), delivery=str(attempts))
            attempts += 1
    assert attempts <= 5 + 6 + 3_600 / 60


def test_an_unknown_error_ends_a_probe_without_lengthening_the_wait() -> None:
    circuit = opened()
    assert circuit.failed(begun(circuit, 1.0), UNKNOWN, 1.0, delivery="x") is False
    assert (circuit.state, circuit.next_probe()) == (CircuitState.OPEN, 2.0)


@pytest.mark.parametrize("answer", ["success", PERMANENT])
def test_an_answer_of_the_other_side_begins_to_reopen_it(answer: Any) -> None:
    circuit = opened()
    permit = begun(circuit, 1.0)
    if answer == "success":
        circuit.succeeded(permit, 1.0)
    else:
        assert circuit.failed(permit, answer, 1.0, delivery="x") is False
    assert (circuit.state, circuit.failures, circuit.allowance(1.0)) == (CircuitState.REOPENING, 0, 2)


def test_a_probe_that_was_cut_short_lets_another_one_begin_at_once() -> None:
    circuit = opened()
    circuit.cancelled(begun(circuit, 5.0), 6.0)
    assert (circuit.state, circuit.allowance(6.0)) == (CircuitState.OPEN, 1)
    assert begun(circuit, 6.0).counts


def test_a_probe_that_does_not_come_back_has_another_one_let_through_beside_it() -> None:
    circuit = opened()
    first = begun(circuit, 1.0)
    assert (circuit.allowance(8.9), circuit.next_probe()) == (0, 9.0)
    assert circuit.allowance(9.0) == 1
    second = begun(circuit, 9.0)
    assert circuit.allowance(9.0) == 0
    circuit.cancelled(second, 9.5)
    assert circuit.state is CircuitState.PROBING
    circuit.succeeded(first, 10.0)
    assert (circuit.state, circuit.allowance(10.0)) == (CircuitState.REOPENING, 2)


def test_what_began_before_it_opened_changes_nothing_any_more() -> None:
    circuit = Circuit(POLICY)
    permits = [begun(circuit) for _ in range(8)]
    for number, permit in enumerate(permits[:3]):
        assert circuit.failed(permit, TRANSIENT, 0.0, delivery=str(number)) is False
    assert circuit.failed(permits[3], TRANSIENT, 0.5, delivery="3") is True  # excused: the outage is known
    circuit.succeeded(permits[4], 0.5)
    circuit.failed(permits[5], UNKNOWN, 0.5, delivery="5")
    circuit.cancelled(permits[6], 0.5)
    assert (circuit.state, circuit.next_probe(), circuit.failures) == (CircuitState.OPEN, 1.0, 3)
    for _ in range(7):
        circuit.succeeded(begun(circuit, 9.0), 9.0)
    assert circuit.state is CircuitState.CLOSED
    assert circuit.failed(permits[7], TRANSIENT, 9.0, delivery="7") is True
    assert circuit.failures == 0


# -- reopening


def test_it_lets_1_2_4_8_through_until_it_is_closed() -> None:
    circuit, rounds = opened(), []
    while circuit.state is not CircuitState.CLOSED:
        permits: list[Permit] = []
        while circuit.allowance(1.0) and len(permits) < 100:
            permits.append(begun(circuit, 1.0))
        rounds.append(len(permits))
        for permit in permits:
            circuit.succeeded(permit, 1.0)
    assert rounds == [1, 2, 4]
    assert (circuit.allowance(1.0), circuit.since) == (None, None)


def test_one_failure_while_it_reopens_halves_what_is_let_through() -> None:
    circuit = reopening()
    for _ in range(3):
        circuit.succeeded(begun(circuit, 1.0), 1.0)
    assert circuit.allowance(1.0) == 5
    assert circuit.failed(begun(circuit, 1.0), TRANSIENT, 1.0, delivery="x") is True
    assert (circuit.state, circuit.allowance(1.0)) == (CircuitState.REOPENING, 2)


def test_it_opens_again_when_nothing_is_left_to_halve_and_waits_from_the_start() -> None:
    circuit = reopening()
    permits = [begun(circuit, 2.0), begun(circuit, 2.0)]
    for permit in permits:
        circuit.failed(permit, TRANSIENT, 2.0, delivery="x")
    assert (circuit.state, circuit.next_probe(), circuit.since) == (CircuitState.OPEN, 3.0, 0.0)


def test_an_unknown_error_while_it_reopens_only_makes_room() -> None:
    circuit = reopening()
    permits = [begun(circuit, 1.0), begun(circuit, 1.0)]
    assert circuit.allowance(1.0) == 0
    circuit.failed(permits[0], UNKNOWN, 1.0, delivery="x")
    circuit.cancelled(permits[1], 1.0)
    assert (circuit.state, circuit.allowance(1.0)) == (CircuitState.REOPENING, 2)


def test_runs_that_hang_while_it_reopens_do_not_keep_it_shut_for_ever() -> None:
    circuit = reopening()
    for _ in range(2):
        begun(circuit, 1.0)
    assert circuit.begin(8.9) is None
    assert begun(circuit, 9.0).counts


def test_a_run_that_somebody_asked_for_counts_as_a_probe_when_it_succeeds() -> None:
    circuit = opened()
    assert circuit.failed(circuit.attend(), TRANSIENT, 0.1, delivery="x") is True
    assert (circuit.state, circuit.next_probe()) == (CircuitState.OPEN, 1.0)
    circuit.succeeded(circuit.attend(), 0.2)
    assert (circuit.state, circuit.allowance(0.2)) == (CircuitState.REOPENING, 2)


def test_a_growth_that_closes_it_at_once_is_possible() -> None:
    circuit = opened(CircuitPolicy(threshold=1, full=1))
    circuit.succeeded(begun(circuit, 1.0), 1.0)
    assert circuit.state is CircuitState.CLOSED


# -- what is held against a schedule


def test_failures_are_excused_for_as_long_as_an_outage_may_last() -> None:
    circuit = opened(CircuitPolicy(threshold=1, max_delay=60, max_outage=100))
    assert circuit.failed(begun(circuit, 100.0), TRANSIENT, 100.0, delivery="x") is True
    assert circuit.failed(begun(circuit, 161.0), TRANSIENT, 161.0, delivery="x") is False
    assert circuit.failed(begun(circuit, 300.0), PERMANENT, 300.0, delivery="x") is False


def test_what_is_excused_comes_back_with_the_next_probe_or_leaves_it_to_others() -> None:
    circuit = opened()
    assert circuit.retry_after(0.25) == 0.75
    assert circuit.retry_after(0.25, turns=1) == 0.75 + 2
    assert circuit.retry_after(0.25, turns=3) == 0.75 + 6
    assert reopening().retry_after(1.0, turns=3) == 0


# -- whatever happens


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["begin", "success", TRANSIENT, PERMANENT, UNKNOWN, "cancelled"]),
            st.integers(0, 20),
            st.floats(0, 10),
        ),
        max_size=200,
    )
)
def test_whatever_happens_it_comes_to_let_one_through_again(steps: list[tuple[Any, int, float]]) -> None:
    circuit, now = Circuit(POLICY), 0.0
    permits: list[Permit] = []
    for number, (step, which, passed) in enumerate(steps):
        now += passed
        allowance = circuit.allowance(now)
        if step == "begin":
            permit = circuit.begin(now)
            assert (permit is None) == (allowance == 0)
            if permit is not None:
                permits.append(permit)
        elif permits:
            permit = permits.pop(which % len(permits))
            if step == "success":
                circuit.succeeded(permit, now)
            elif step == "cancelled":
                circuit.cancelled(permit, now)
            else:
                circuit.failed(permit, step, now, delivery=str(number))
        assert allowance is None or allowance >= 0
        due = circuit.next_probe()
        assert (due is None) == (circuit.state is CircuitState.CLOSED)
        if due is not None:
            assert due <= now + POLICY.max_delay
            assert circuit.allowance(due) or circuit.allowance(now)
