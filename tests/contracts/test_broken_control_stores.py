"""A test of the tests: a store that breaks a promise to its operators does not pass."""

from __future__ import annotations

import broken_control_stores as broken
import pytest
import test_accept_parked
import test_acknowledge
import test_announcements
import test_claim_due_closed
import test_claim_paused
import test_close_scope
import test_configure
import test_open_scopes
import test_requeue
import test_settle
import test_unpark
from broken_stores import Breakable
from controlled import ACME
from test_broken_stores import Test, fails

from eventbus_dlq.letter import DeadLetterState

BY_A_SETTLEMENT = test_announcements.by_a_settlement
BY_AN_ADDITION = test_announcements.by_an_addition


@pytest.mark.parametrize(
    ("store", "test", "arguments"),
    [
        (
            broken.ForgetsControlsAtOpen,
            test_close_scope.test_what_is_closed_stays_so_while_the_store_is_closed,
            (),
        ),
        (
            broken.HandsOutWhatIsClosed,
            test_close_scope.test_exactly_what_is_in_the_scope_is_held_and_comes_back,
            (ACME,),
        ),
        (broken.ClaimsWhatIsParked, test_claim_paused.test_what_a_control_has_parked_is_refused_by_it, ()),
        (broken.ParksWithoutAControl, test_claim_due_closed.test_a_tenant_of_one_handler_alone_is_held, ()),
        (
            broken.ParksAheadOfTime,
            test_claim_due_closed.test_what_would_not_have_been_handed_out_is_not_parked,
            (),
        ),
        (
            broken.StarvesBehindWhatIsClosed,
            test_claim_due_closed.test_however_urgent_it_keeps_nothing_else_waiting,
            (),
        ),
        (
            broken.UnparksWhatIsStillClosed,
            test_open_scopes.test_the_last_control_that_closes_a_letter_holds_it,
            ((0, 1, 2),),
        ),
        (broken.LeavesItParked, test_open_scopes.test_what_was_parked_runs_in_order, ()),
        (
            broken.OpensWhatIsWithin,
            test_open_scopes.test_no_scope_is_opened_by_a_wider_or_a_narrower_one,
            (),
        ),
        (
            broken.LosesTheFormerState,
            test_open_scopes.test_a_letter_goes_back_to_its_former_state,
            (DeadLetterState.PENDING,),
        ),
        (broken.RunsTheNewestFirst, test_open_scopes.test_what_was_parked_runs_in_order, ()),
        (broken.NeverComesToAnEnd, test_close_scope.test_a_control_ends_at_its_until, ()),
        (broken.KeepsWhatComesParked, test_accept_parked.test_what_no_control_closes_is_accepted, (None,)),
        (broken.KeepsItsVersion, test_configure.test_every_change_raises_the_version, ()),
        (broken.BlamesNobody, test_claim_paused.test_one_of_the_controls_that_close_it_is_named, ()),
        (broken.NeverDrains, test_acknowledge.test_what_is_only_stored_is_not_waited_for, ()),
        (broken.DrainsWhileOneRuns, test_acknowledge.test_a_run_of_the_scope_is_waited_for, ()),
        (
            broken.DrainsAtTheFirstWord,
            test_acknowledge.test_it_is_drained_when_every_live_process_has_said_so,
            (),
        ),
        (
            broken.BelievesOldWords,
            test_acknowledge.test_what_was_said_of_an_earlier_drain_does_not_count,
            (),
        ),
        (broken.AnnouncesWhatDidNotHappen, test_announcements.test_a_former_owner_announces_nothing, ()),
        (broken.AnnouncesRestores, test_announcements.test_a_person_who_restores_a_letter_knows_it, ()),
        (broken.MakesNewKeys, test_announcements.test_it_is_told_until_it_is_confirmed, (BY_AN_ADDITION,)),
        (broken.TellsSeveralAtATime, test_announcements.test_each_is_told_by_one_at_a_time, ()),
        (
            broken.ChargesAnExcusedRun,
            test_settle.test_an_excused_run_costs_none_of_the_retries_and_is_kept,
            (),
        ),
        (
            broken.KeepsTheOldSchedule,
            test_settle.test_a_schedule_that_is_given_applies_from_then_on,
            (),
        ),
        (
            broken.RequeuesWithoutRetries,
            test_requeue.test_it_is_due_at_once_with_its_retries_renewed_and_its_history_kept,
            (DeadLetterState.EXHAUSTED,),
        ),
        (
            broken.SaysNothingOfMore,
            test_unpark.test_the_oldest_come_first_and_no_more_than_asked_for,
            (),
        ),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
async def test_what_is_broken_is_noticed(
    store: type[Breakable], test: Test, arguments: tuple[object, ...]
) -> None:
    await fails(store, test, *arguments)


@pytest.mark.parametrize(
    "store", [broken.LosesAnnouncements, broken.AnnouncesAfterwards], ids=lambda store: store.__name__
)
async def test_an_announcement_that_is_lost_is_noticed(store: type[Breakable]) -> None:
    test = test_announcements.test_whoever_becomes_exhausted_is_announced
    with pytest.raises(ValueError, match="not enough values"):
        await test(store(), BY_A_SETTLEMENT)


async def test_an_announcement_that_is_told_once_at_most_is_noticed() -> None:
    test = test_announcements.test_it_is_told_until_it_is_confirmed
    await fails(broken.TellsOnceAtMost, test, BY_AN_ADDITION)
