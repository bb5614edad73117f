"""How long the failing side asked us to wait."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime, timedelta
from email.message import Message
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from foreign import Response, foreign, having

from eventbus import Kind, classify


def wait_of(headers: Any, status: int = 503) -> float | None:
    error = having(foreign("shop.Failed")("x"), response=Response(status, headers))
    return classify(error).retry_after


def message_of(**headers: str) -> Message:
    message = Message()
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    return message


@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After": "7"},
        {"retry-after": " 7 "},
        {"RETRY-AFTER": 7},
        {b"x": b"y", "Retry-After": b"7"},
        [("a", "b"), ("Retry-After", "7")],
        (("retry-after", "7.0"),),
        httpx.Headers({"retry-AFTER": "7"}),
        message_of(Retry_After="7"),
    ],
    ids=lambda headers: type(headers).__name__,
)
def test_headers_are_read_in_every_shape(headers: Any) -> None:
    assert wait_of(headers) == 7


def test_a_date_is_a_moment() -> None:
    in_a_minute = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    wait = wait_of({"Retry-After": in_a_minute})
    assert wait is not None
    assert 55 < wait <= 60


@pytest.mark.parametrize(
    "value",
    [
        "-1",
        "nan",
        "inf",
        "-inf",
        "soon",
        "",
        "1e400",
        "Mon, 01 Jan 2024 00:00:00 GMT",
        "9" * 50,
        "x" * 10_000,
        "Mon, 99",
    ],
)
def test_nonsense_is_no_hint(value: str) -> None:
    assert wait_of({"Retry-After": value}) is None


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, True, object(), 10**400, [7], 2**31 * 1000])
def test_nonsense_in_an_attribute_is_no_hint(value: Any) -> None:
    error = having(foreign("shop.SmsThrottled")("x"), retry_after=value)
    answer = classify(error)
    assert (answer.kind, answer.retry_after) == (Kind.RATE_LIMIT, None)


@pytest.mark.parametrize(
    ("value", "wait"), [(3.5, 3.5), (3, 3.0), ("4", 4.0), (timedelta(minutes=1), 60.0), (0, 0.0)]
)
def test_an_attribute_is_a_hint(value: Any, wait: float) -> None:
    answer = classify(having(foreign("shop.SmsThrottled")("x"), retry_after=value))
    assert answer.retry_after == wait
    assert isinstance(answer.retry_after, float)


def test_more_than_a_day_is_a_day() -> None:
    assert wait_of({"Retry-After": "1000000"}) == 86_400


def test_a_limit_says_when_it_is_lifted() -> None:
    moment = str(int(time.time()) + 30)
    wait = wait_of({"X-RateLimit-Reset": moment}, 429)
    assert wait is not None
    assert 25 < wait <= 30
    assert wait_of({"X-RateLimit-Reset": moment}, 503) is None
    assert wait_of({"X-RateLimit-Reset-After": "1.5"}, 429) == 1.5
    assert wait_of({"Retry-After-Ms": "1500"}, 429) == 1.5


def test_what_cannot_be_helped_by_waiting_has_no_hint() -> None:
    assert wait_of({"Retry-After": "7"}, 404) is None


def test_the_hint_of_the_cause_counts() -> None:
    error = RuntimeError("x")
    error.__cause__ = having(foreign("shop.Failed")("x"), response=Response(503, {"Retry-After": "7"}))
    assert classify(error).retry_after == 7


def test_a_hint_alone_says_that_we_are_limited() -> None:
    answer = classify(having(foreign("shop.Odd")("x"), retry_after=3))
    assert (answer.kind, answer.retry_after) == (Kind.RATE_LIMIT, 3.0)
    assert classify(having(foreign("shop.Odd")("x"), retryable=True)).kind is Kind.UNAVAILABLE
