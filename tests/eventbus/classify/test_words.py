"""Words in the message: last, and only what states something."""

from __future__ import annotations

from typing import Any

import pytest
from foreign import foreign

from eventbus import Kind, classify


@pytest.mark.parametrize("kind_of_error", [Exception, RuntimeError, foreign("shop.StepFailed")])
@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("validation service timed out", Kind.TIMEOUT),
        ("read timeout", Kind.TIMEOUT),
        ("deadline exceeded while waiting for stock", Kind.TIMEOUT),
        ("could not connect to server: Connection refused", Kind.CONNECTION),
        ("Temporary failure in name resolution", Kind.CONNECTION),
        ("server closed the connection unexpectedly", Kind.CONNECTION),
        ("Too many requests", Kind.RATE_LIMIT),
        ("rate limit exceeded, retry in 3 s", Kind.RATE_LIMIT),
        ("Daily quota exceeded for project 7: 50000 units per day", Kind.QUOTA_EXCEEDED),
        ("pricing service is temporarily unavailable, try again later", Kind.UNAVAILABLE),
        ("permission service unavailable", Kind.UNAVAILABLE),
        ("internal server error", Kind.EXTERNAL_API),
        ("database is locked", Kind.CONTENTION),
        ("could not obtain lock on row: lock timeout", Kind.CONTENTION),
        ("No space left on device", Kind.RESOURCE),
        ("sorry, too many clients already", Kind.RESOURCE),
        ("invalid timeout value: -3", Kind.VALIDATION),
        ("timeout must be positive", Kind.VALIDATION),
        ("customer 17 not found", Kind.NOT_FOUND),
        ("access denied for user bob", Kind.PERMISSION),
        ("certificate verify failed: unable to get local issuer certificate", Kind.PERMISSION),
        ("connection failed: FATAL: password authentication failed for user", Kind.PERMISSION),
        ("order already exists", Kind.CONFLICT),
        ("no such table: ordres", Kind.BUG),
        ("Event loop is closed", Kind.BUG),
    ],
)
def test_a_statement_tells(kind_of_error: Any, message: str, kind: Kind) -> None:
    assert classify(kind_of_error(message)).kind is kind


@pytest.mark.parametrize(
    "message",
    [
        "",
        "something odd",
        "external quota table is empty",
        "the timeout table has 504 rows",
        "status 503",
        "HTTP 429",
        "404 items processed, 3 left over",
        "connection pool statistics differ",
        "handler for not_found events crashed",
        "unexpected state 'timed out'",
        'the step "connection refused" came twice',
        "the request was not throttled",
        "it never timed out before",
        "api key rotation finished early",
    ],
)
def test_words_and_numbers_that_state_nothing_are_no_evidence(message: str) -> None:
    assert classify(RuntimeError(message)).kind is Kind.UNKNOWN


def test_words_do_not_overrule_what_is_structured() -> None:
    assert classify(ValueError("connection timed out")).kind is Kind.VALIDATION
    assert classify(KeyError("timeout exceeded")).kind is Kind.BUG
    assert classify(foreign("shop.InvoiceNotFound")("service unavailable")).kind is Kind.NOT_FOUND


@pytest.mark.parametrize(
    "message", ["x" * 1_000_000, "not " * 100_000, "'" * 100_000, "_" * 100_000, "a_" * 50_000]
)
def test_of_a_long_message_the_head_is_read(message: str) -> None:
    assert classify(Exception(message)).kind is Kind.UNKNOWN
    assert classify(Exception(f"request timed out {message}")).kind is Kind.TIMEOUT
