"""Where a failure goes: pure decisions, as tables."""

from __future__ import annotations

from datetime import timedelta

import pytest
from letters import NOW

from eventbus.classify import Category
from eventbus.retry import RetryPolicy
from eventbus_dlq.policy import Verdict, decide, interrupted

POLICY = RetryPolicy(attempts=3, delay=60, multiplier=5, max_delay=3600, jitter=False)


def after(seconds: float) -> Verdict:
    return Verdict("pending", None, NOW + timedelta(seconds=seconds))  # type: ignore[arg-type]  # a StrEnum


@pytest.mark.parametrize(
    ("category", "retries", "retry_after", "expected"),
    [
        (Category.TRANSIENT, 0, None, after(60)),
        (Category.UNKNOWN, 0, None, after(60)),
        (Category.TRANSIENT, 1, None, after(300)),
        (Category.TRANSIENT, 2, None, after(1500)),
        (Category.TRANSIENT, 3, None, Verdict("exhausted", "attempts")),  # type: ignore[arg-type]
        (Category.UNKNOWN, 9, None, Verdict("exhausted", "attempts")),  # type: ignore[arg-type]
        (Category.PERMANENT, 0, None, Verdict("exhausted", "permanent")),  # type: ignore[arg-type]
        (Category.TRANSIENT, 0, 120.0, after(120)),
        (Category.TRANSIENT, 0, 5.0, after(60)),
    ],
)
def test_the_category_the_budget_and_the_hint_decide(
    category: Category, retries: int, retry_after: float | None, expected: Verdict
) -> None:
    verdict = decide(
        policy=POLICY, category=category, retries=retries, key="k", now=NOW, retry_after=retry_after
    )
    assert verdict == expected


@pytest.mark.parametrize("hint", [1e12, 1e300, float("inf")])
def test_a_hint_that_no_calendar_has_becomes_ten_years(hint: float) -> None:
    verdict = decide(
        policy=POLICY, category=Category.TRANSIENT, retries=0, key="k", now=NOW, retry_after=hint
    )
    assert verdict == after(10 * 365 * 86_400)


@pytest.mark.parametrize("hint", [-1.0, float("nan"), 0.0])
def test_a_hint_that_makes_no_sense_changes_nothing(hint: float) -> None:
    verdict = decide(
        policy=POLICY, category=Category.TRANSIENT, retries=0, key="k", now=NOW, retry_after=hint
    )
    assert verdict == after(60)


def test_the_jitter_is_a_pure_function_of_the_delivery() -> None:
    policy = RetryPolicy(attempts=5, delay=60, max_delay=3600)

    def wait(key: str) -> timedelta:
        verdict = decide(policy=policy, category=Category.TRANSIENT, retries=0, key=key, now=NOW)
        assert verdict.retry_at is not None
        return verdict.retry_at - NOW

    assert wait("a") == wait("a")
    waits = {wait(f"key-{number}") for number in range(50)}
    assert len(waits) > 40
    assert all(timedelta(seconds=60) <= it <= timedelta(seconds=90) for it in waits)


def test_what_was_interrupted_is_due_in_a_moment() -> None:
    verdict = Verdict("pending", "interrupted", NOW + timedelta(seconds=1))  # type: ignore[arg-type]
    assert interrupted(NOW) == verdict
