"""The invariants themselves: each of them notices what it is there to notice."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from invariants import (
    Found,
    Order,
    Row,
    assert_attempts,
    assert_captured,
    assert_kept_once,
    assert_neither_without_the_other,
    assert_order,
    assert_runs_bounded,
    assert_tokens,
    in_doubt,
)
from ledger import Ledger
from tallies import Tallies

FIRST, SECOND = ("acme", 1), ("acme", 2)
ROW = Row("id", 1, "ship", "pending", None, FIRST, attempts=1, crashes=0, failures=1)
NO_TALLIES = Tallies({}, {})


def ledger_of(folder: Path, *lines: tuple[str, str, str, int]) -> Ledger:
    ledger = Ledger(folder / "ledger")
    for line in lines:
        ledger.say(*line)
    return ledger


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        pytest.param([("granted", 1), ("granted", 1)], "granted twice", id="two owners"),
        pytest.param(
            [("granted", 1), ("granted", 2), ("settling", 1), ("settled", 1)],
            "settled with an old token",
            id="a stale owner",
        ),
        pytest.param(
            [("granted", 1), ("settling", 1), ("settled", 1), ("settling", 1), ("settled", 1)],
            "settled twice",
            id="one that settles twice",
        ),
    ],
)
def test_two_live_tokens_are_noticed(lines: list[tuple[str, int]], fault: str, tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, *((what, "store", "id", token) for what, token in lines))
    with pytest.raises(AssertionError, match=fault):
        assert_tokens(ledger)


def test_a_stale_owner_that_is_refused_and_one_that_was_faster_are_no_fault(tmp_path: Path) -> None:
    lines = [
        ("granted", 1), ("settling", 1), ("granted", 2), ("settled", 1), ("settling", 2), ("settled", 2)
    ]  # fmt: skip
    assert_tokens(ledger_of(tmp_path, *((what, "store", "id", token) for what, token in lines)))


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        pytest.param([("started", 2), ("ended", 2), ("started", 1)], "after 2", id="out of order"),
        pytest.param([("started", 1), ("started", 2)], "had not ended", id="at the same time"),
        pytest.param([("started", 1), ("failed", 1), ("started", 2)], "had not ended", id="past a failure"),
    ],
)
def test_a_broken_order_is_noticed(lines: list[tuple[str, int]], fault: str, tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, *((what, "ship", "acme", number) for what, number in lines))
    with pytest.raises(AssertionError, match=fault):
        assert_order(ledger)


@pytest.mark.parametrize(
    "row",
    [replace(ROW, attempts=2), replace(ROW, crashes=1), replace(ROW, state="running")],
    ids=["an attempt too many", "a crash that was not charged", "a run that was not charged"],
)
def test_numbers_that_do_not_agree_are_noticed(row: Row) -> None:
    with pytest.raises(AssertionError, match="charged otherwise"):
        assert_attempts(Found([row], NO_TALLIES))


def test_a_delivery_that_is_kept_twice_is_noticed() -> None:
    with pytest.raises(AssertionError, match="kept twice"):
        assert_kept_once(Found([ROW, replace(ROW, id="another")], NO_TALLIES))


def test_a_failure_that_is_not_kept_is_noticed() -> None:
    with pytest.raises(AssertionError, match="failures that were not kept"):
        assert_captured({("acme", 7)}, Found([ROW], NO_TALLIES))


@pytest.mark.parametrize(
    ("own", "fault"),
    [(set(), "never committed"), ({FIRST, SECOND}, "not delivered")],
    ids=["deliveries of what was rolled back", "a row without its deliveries"],
)
def test_rows_without_deliveries_and_deliveries_without_a_row_are_noticed(
    own: set[Order], fault: str
) -> None:
    known = {("ship", FIRST), ("invoice", FIRST)}
    since = known | {("notify", FIRST)}  # it has run, and is kept no more
    assert_neither_without_the_other({FIRST}, known, since)
    with pytest.raises(AssertionError, match=fault):
        assert_neither_without_the_other(own, known, since)
    with pytest.raises(AssertionError, match="not delivered"):
        assert_neither_without_the_other({FIRST}, known, known)


def test_a_run_too_many_is_noticed_and_one_for_each_loss_or_doubt_is_none(tmp_path: Path) -> None:
    ledger = ledger_of(tmp_path, *[("started", "invoice", *FIRST)] * 3)
    with pytest.raises(AssertionError, match="ran 3 times"):
        assert_runs_bounded(ledger, 1, Counter())
    assert_runs_bounded(ledger, 1, Counter({("invoice", FIRST): 1}))


def test_what_was_handed_over_twice_or_spooled_as_well_is_in_doubt(tmp_path: Path) -> None:
    ledger = ledger_of(
        tmp_path,
        ("handed", "ship", *FIRST),
        ("handed", "invoice", *FIRST),
        ("handed", "invoice", *FIRST),
        ("handed", "ship", *SECOND),
        ("imported", "ship", *SECOND),
        ("imported", "ship", *SECOND),
    )
    assert in_doubt(ledger) == Counter({("invoice", FIRST): 1, ("ship", SECOND): 1})
