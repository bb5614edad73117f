"""What each verb makes of one letter, where the conformance suite looks at stores."""

from __future__ import annotations

import pytest
from letters import NOW, after, build_delivery, build_error, build_letter, build_letter_in

from eventbus.classify import Category, Kind, Route
from eventbus_dlq import moves
from eventbus_dlq.letter import DeadLetter, DeadLetterState, Reason
from eventbus_dlq.store import Lease, Settlement

ACCEPTED, RUNNING, PENDING, EXHAUSTED, PARKED, RESOLVED = (
    DeadLetterState.ACCEPTED,
    DeadLetterState.RUNNING,
    DeadLetterState.PENDING,
    DeadLetterState.EXHAUSTED,
    DeadLetterState.PARKED,
    DeadLetterState.RESOLVED,
)


def run(letter: DeadLetter) -> DeadLetter:
    """Return a letter as somebody runs it for thirty seconds."""
    return moves.claimed(letter, owner="worker-1", lease=30.0, now=NOW)


def settlement(state: DeadLetterState, **values: object) -> Settlement:
    """Return how a run ended."""
    return Settlement(lease=Lease(dead_letter_id="any", token=1), state=state, **values)  # type: ignore[arg-type]  # as the caller says


@pytest.mark.parametrize(("state", "retries"), [(ACCEPTED, 0), (PENDING, 1), (EXHAUSTED, 1)])
def test_a_first_run_is_no_retry(state: DeadLetterState, retries: int) -> None:
    letter = build_letter_in(state, retries=0)
    assert run(letter).retries == retries
    assert moves.released(run(letter), state, now=NOW).retries == 0
    uncharged = settlement(EXHAUSTED, uncharged=True)
    assert moves.settled(run(letter), uncharged, state, now=NOW).retries == 0


@pytest.mark.parametrize("retry_at", [None, after(-5), after(600)])
def test_a_rescued_retry_keeps_the_time_that_it_had(retry_at: object) -> None:
    letter = build_letter(retry_at=retry_at)
    rescued = moves.rescued(run(letter), PENDING, max_crashes=3, now=after(31))
    assert rescued.retry_at == (retry_at or after(31))


@pytest.mark.parametrize(
    ("crashes", "max_crashes", "poison"), [(0, 1, True), (0, 2, False), (1, 2, True), (5, 3, True)]
)
def test_the_last_crash_that_is_allowed_makes_poison(crashes: int, max_crashes: int, poison: bool) -> None:
    letter = run(build_letter(crashes=crashes))
    rescued = moves.rescued(letter, PENDING, max_crashes=max_crashes, now=after(31))
    assert (rescued.state is EXHAUSTED, rescued.reason is Reason.POISON) == (poison, poison)
    assert rescued.crashes == crashes + 1


@pytest.mark.parametrize(
    ("crashes", "says"), [(0, "the process that ran it died"), (2, "the 3 processes in a row that ran it")]
)
def test_the_error_of_poison_says_how_many_died_and_who_was_the_last(crashes: int, says: str) -> None:
    delivery = run(build_delivery(crashes=crashes))
    error = moves.rescued(delivery, ACCEPTED, max_crashes=1, now=after(31)).error
    assert error is not None
    assert error.type == "eventbus_dlq.errors.Poison"
    assert error.message.startswith(says)
    assert "worker-1" in error.message
    assert (error.kind, error.category, error.route) == (Kind.UNKNOWN, Category.UNKNOWN, Route.REVIEW)


def test_poison_of_one_handler_is_one_group() -> None:
    deliveries = [build_delivery(), build_delivery(crashes=1), build_delivery(handler_id="stock.reserve")]
    first, second, other = (
        moves.rescued(run(it), ACCEPTED, max_crashes=1, now=after(31)).fingerprint for it in deliveries
    )
    assert first == second != other


@pytest.mark.parametrize(
    ("letter", "values", "forgotten"),
    [
        (build_delivery(), {"state": RESOLVED, "forget": True}, True),
        (build_delivery(crashes=2), {"state": RESOLVED, "forget": True}, True),
        (build_delivery(), {"state": RESOLVED, "forget": False}, False),
        (build_delivery(), {"state": PENDING, "forget": True}, False),
        (build_delivery(error=build_error()), {"state": RESOLVED, "forget": True}, False),
    ],
)
def test_only_a_delivery_that_never_failed_and_succeeded_is_forgotten(
    letter: DeadLetter, values: dict[str, object], forgotten: bool
) -> None:
    assert moves.is_forgotten(letter, settlement(**values)) is forgotten  # type: ignore[arg-type]  # the case


@pytest.mark.parametrize(
    ("letter", "state", "reason"),
    [
        (build_letter_in(PARKED, reason=Reason.SEQUENCE, waits=True), ACCEPTED, None),
        (build_letter_in(PARKED, reason=Reason.PAUSED, waits=True), PARKED, Reason.PAUSED),
        (build_letter_in(EXHAUSTED, waits=True), EXHAUSTED, Reason.ATTEMPTS),
        (build_letter_in(ACCEPTED, waits=True), ACCEPTED, None),
    ],
)
def test_the_head_of_a_sequence_is_parked_by_it_no_more(
    letter: DeadLetter, state: DeadLetterState, reason: Reason | None
) -> None:
    head = moves.as_head(letter)
    assert (head.state, head.reason, head.waits) == (state, reason, False)


def test_what_is_held_back_waits_in_its_sequence() -> None:
    follower = moves.held_back(moves.as_follower(build_delivery("order-1")))
    assert (follower.state, follower.reason, follower.waits) == (PARKED, Reason.SEQUENCE, True)


def test_what_nobody_handles_is_exhausted() -> None:
    letter = moves.unhandled(build_delivery(), now=after(9))
    assert (letter.state, letter.reason, letter.retry_at) == (EXHAUSTED, Reason.UNHANDLED, None)
    assert (letter.updated_at, letter.error) == (after(9), None)


@pytest.mark.parametrize(("state", "retries"), [(ACCEPTED, 2), (PENDING, 2), (EXHAUSTED, 2), (None, 3)])
@pytest.mark.parametrize("uncharged", [True, False])
def test_an_excused_run_is_no_retry_and_an_uncharged_one_no_attempt(
    state: DeadLetterState | None, retries: int, uncharged: bool
) -> None:
    letter = build_letter_in(state or RUNNING, retries=2 if state else 3, attempts=4)
    ended = settlement(PENDING, excused=True, uncharged=uncharged, retry_at=NOW)
    after_run = moves.settled(run(letter) if state else letter, ended, state, now=NOW)
    assert after_run.retries == retries
    charged = 0 if state is None or uncharged else 1
    assert after_run.attempts == 4 + charged


@pytest.mark.parametrize("reason", [Reason.PAUSED, Reason.DRAINING])
@pytest.mark.parametrize("letter", [build_delivery(), build_letter(retry_at=after(-5))])
def test_what_is_parked_and_comes_back_is_as_it_was(letter: DeadLetter, reason: Reason) -> None:
    held = moves.parked(letter, reason, now=after(1))
    assert (held.state, held.reason, held.retry_at) == (PARKED, reason, letter.retry_at)
    assert moves.unparked(held, letter.state, now=NOW) == letter


def test_what_came_parked_goes_on_as_what_it_looks_like() -> None:
    delivery = moves.parked(build_delivery(), Reason.PAUSED, now=NOW)
    assert moves.unparked(delivery, None, now=after(9)).state is ACCEPTED
    failed = moves.parked(build_letter(retry_at=None), Reason.PAUSED, now=NOW)
    back = moves.unparked(failed, None, now=after(9))
    assert (back.state, back.retry_at, back.reason) == (PENDING, after(9), None)
