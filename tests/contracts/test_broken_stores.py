"""A test of the tests: a store that breaks a promise does not pass."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache, partial
from itertools import chain
from typing import Any

import anyio
import broken_control_stores
import broken_stores
import pytest
import test_accept
import test_claim
import test_claim_due
import test_heartbeat
import test_import_spool
import test_leased_and_rescue
import test_release
import test_sequence_keys
import test_sequences
import test_settle
from broken_stores import Breakable
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy
from letters import build_letter_in
from programs import Program, operated_programs, programs, run

from eventbus_dlq.letter import DeadLetterState
from eventbus_dlq.memory import MemoryStore

Test = Callable[..., Awaitable[None]]


async def fails(broken: type[Breakable], test: Test, *arguments: Any) -> None:
    """Assert that a store fails a test of the suite, which a sound one passes."""
    await test(MemoryStore(), *arguments)
    with pytest.raises(AssertionError):
        await test(broken(), *arguments)


async def test_a_stale_token_that_is_accepted_is_noticed() -> None:
    await fails(broken_stores.AcceptsStaleTokens, test_settle.test_a_former_owner_changes_nothing)


async def test_a_row_that_accept_loses_is_noticed() -> None:
    test = test_accept.test_one_event_is_a_delivery_for_each_of_its_handlers
    await fails(broken_stores.LosesTheLastOfSeveral, test)


async def test_a_letter_that_two_own_is_noticed() -> None:
    await fails(broken_stores.HandsOutTwice, test_claim.test_an_id_asked_for_twice_is_claimed_once)


async def test_a_sequence_that_is_leapfrogged_is_noticed() -> None:
    await fails(broken_stores.Leapfrogs, test_sequences.test_while_one_runs_no_other_is_handed_out)


async def test_a_follower_that_is_not_parked_is_noticed() -> None:
    test = test_accept.test_behind_a_failure_of_the_same_key_it_is_parked
    await fails(broken_stores.ParksNothing, test)


async def test_keys_that_are_mixed_up_are_noticed() -> None:
    await fails(broken_stores.MixesUpKeys, test_sequence_keys.test_keys_are_compared_as_they_are)


async def test_a_counter_that_drifts_is_noticed() -> None:
    test = test_settle.test_a_first_run_that_succeeded_is_forgotten_on_demand
    await fails(broken_stores.CountsDrift, test)


async def test_a_rescue_of_the_living_is_noticed() -> None:
    test = test_leased_and_rescue.test_an_owner_that_still_beats_keeps_its_letter
    await fails(broken_stores.RescuesTheLiving, test)


async def test_poison_that_is_never_found_is_noticed() -> None:
    test = test_leased_and_rescue.test_a_letter_that_kills_process_after_process_becomes_poison
    await fails(broken_stores.NeverFindsPoison, test, DeadLetterState.PENDING)


async def test_a_release_that_charges_is_noticed() -> None:
    test = test_release.test_a_release_restores_the_state_before_uncharged
    await fails(broken_stores.ChargesForARelease, test, build_letter_in(DeadLetterState.EXHAUSTED))


async def test_a_token_that_goes_down_is_noticed() -> None:
    await fails(broken_stores.LowersTokens, test_release.test_the_former_owner_is_fenced_out)


async def test_a_spool_that_is_imported_twice_is_noticed() -> None:
    test = test_import_spool.test_what_somebody_else_has_imported_is_not_imported_again
    await fails(broken_stores.ImportsTwice, test, 0)


async def test_a_spool_that_reopens_what_was_closed_is_noticed() -> None:
    test = test_import_spool.test_a_closed_row_is_not_touched
    await fails(broken_stores.ReopensWithASpool, test, DeadLetterState.RESOLVED, "add")


async def test_a_lost_lease_that_is_not_told_is_noticed() -> None:
    await fails(broken_stores.LosesNoLease, test_heartbeat.test_a_lease_that_was_rescued_is_lost)


async def test_a_delivery_that_is_kept_twice_is_noticed() -> None:
    test = test_accept.test_another_delivery_of_a_known_event_and_handler_is_the_known_one
    await fails(broken_stores.AcceptsTwice, test)


async def test_a_failure_that_is_forgotten_is_noticed() -> None:
    test = test_settle.test_what_has_failed_before_is_kept_as_resolved
    with pytest.raises(LookupError):
        await test(broken_stores.ForgetsFailures())


async def test_a_priority_that_is_ignored_is_noticed() -> None:
    test = test_claim_due.test_the_most_urgent_come_first_whatever_their_state_and_handler
    await fails(broken_stores.IgnoresPriority, test)


UNSEEN = {
    broken_stores.MixesUpKeys,
    broken_control_stores.BelievesOldWords,
    broken_control_stores.RunsTheNewestFirst,
    broken_control_stores.SaysNothingOfMore,
}
"""What the programs, whose few keys are all in lower case, cannot tell, or meet too seldom."""
BROKEN = sorted(set(Breakable.__subclasses__()) - UNSEEN, key=lambda broken: broken.__name__)

BATCHES, BATCH = 12, 50
"""The programs among which one must fail; most stores fail in the first batch."""

generating = settings(
    max_examples=BATCH,
    phases=[Phase.generate],
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@cache
def batch(kind: SearchStrategy[Program], number: int) -> list[Program]:
    """Return some programs, always the same: making them takes longer than running them."""
    made: list[Program] = []

    @seed(number)
    @generating
    @given(program=kind)
    def keep(program: Program) -> None:
        made.append(program)

    keep()
    return made


@pytest.mark.repetitive
@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_random_programs_find_what_is_broken(broken: type[Breakable]) -> None:
    of_operators = broken.__module__ == broken_control_stores.__name__
    kind = operated_programs if of_operators else programs
    with pytest.raises((AssertionError, LookupError)):
        run_each(broken, kind)


def run_each(store: type[Breakable], kind: SearchStrategy[Program]) -> None:
    """Run programs, each on a fresh store, until one fails."""
    for program in chain.from_iterable(batch(kind, number) for number in range(BATCHES)):
        anyio.run(partial(run, store(), program, every=4))
