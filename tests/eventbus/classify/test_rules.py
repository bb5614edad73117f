"""The user's own rules: of a handler, of the bus, and those that are broken."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import structlog.testing

from eventbus import Category, Classification, EventBus, Kind, Route, classify
from eventbus.classify import CATEGORY_OF, ROUTE_OF
from eventbus_dlq import DeadLetterQueue, MemoryStore


@pytest.fixture
def log_lines() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


def test_the_users_rules_come_first_in_order() -> None:
    answers: list[Any] = [
        lambda error: None,
        lambda error: "rate_limit" if isinstance(error, ValueError) else None,
        lambda error: Classification(Kind.QUOTA_EXCEEDED, retry_after=30),
    ]
    assert classify(ValueError(), answers).kind is Kind.RATE_LIMIT
    other = classify(KeyError(), answers)
    assert (other.kind, other.retry_after) == (Kind.QUOTA_EXCEEDED, 30)


@pytest.mark.parametrize(
    "answer",
    [
        "nonsense",
        42,
        object(),
        Classification(Kind.BUG, "soon"),
        Classification(Kind.BUG, -1),
        Classification(Kind.BUG, float("nan")),
    ],
)  # type: ignore[arg-type]
def test_a_rule_that_answers_nonsense_is_passed_over_and_told_once(answer: Any, log_lines: list[Any]) -> None:
    def broken(error: BaseException) -> Any:
        return answer

    for _ in range(3):
        assert classify(KeyError(), [broken]).kind is Kind.BUG
    assert [(line["event"], "broken" in line["rule"]) for line in log_lines] == [
        ("classify.rule_failed", True)
    ]


@pytest.mark.parametrize("fault", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_a_rule_that_raises_is_passed_over_and_told_once(fault: Any, log_lines: list[Any]) -> None:
    class Rule:
        def __call__(self, error: BaseException) -> Any:
            raise fault

    rule = Rule()
    for _ in range(3):
        assert classify(KeyError(), [rule, lambda error: Kind.TIMEOUT]).kind is Kind.TIMEOUT
    assert [(line["rule"], line["error"]) for line in log_lines] == [(Rule.__qualname__, fault.__name__)]


async def test_rules_of_the_bus_are_asked_after_the_handlers_own() -> None:
    store = MemoryStore()
    bus = EventBus(
        dlq=DeadLetterQueue(store),
        classify=[lambda error: Kind.CONTENTION, lambda error: Kind.BUG],
    )

    @bus.on("job", id="own", classify=[lambda error: Kind.QUOTA_EXCEEDED])
    async def own(event: Any) -> None:
        raise ValueError

    @bus.on("job", id="shared")
    async def shared(event: Any) -> None:
        raise ValueError

    async with bus:
        receipt = await bus.publish("job", 1)
        by_hand = await bus.capture("job", ValueError(), handler="nobody", data=1)
    kinds = {
        name: (await store.get(str(result.dead_letter_id))).error.kind
        for name, result in receipt.deliveries.items()
    }
    assert kinds == {"own": Kind.QUOTA_EXCEEDED, "shared": Kind.CONTENTION}
    assert (await store.get(by_hand)).error.kind is Kind.CONTENTION


@pytest.mark.parametrize("rules", ["text", 5, [5], (None,)])
def test_what_is_no_list_of_rules_is_refused(rules: Any) -> None:
    with pytest.raises(ValueError, match="classify"):
        EventBus(classify=rules)
    with pytest.raises(ValueError, match="classify"):
        EventBus().subscribe("job", print, id="job", classify=rules)


def test_every_kind_has_a_category_and_a_route() -> None:
    assert set(CATEGORY_OF) == set(ROUTE_OF) == set(Kind)
    assert Classification(Kind.TIMEOUT).category is Category.TRANSIENT
    assert Classification(Kind.NOT_FOUND).route is Route.USER_ERROR
    assert str(Kind.RATE_LIMIT) == "rate_limit"
