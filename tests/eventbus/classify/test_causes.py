"""What stands behind an exception: explicit causes, carried exceptions, groups."""

from __future__ import annotations

import urllib.error
from typing import Any

import httpx
import pytest
from foreign import Response, foreign, having

from eventbus import Category, Kind, classify


def odd(*args: Any) -> Exception:
    return foreign("shop.StepFailed")(*args or ("x",))


def caused(outer: BaseException, inner: BaseException) -> BaseException:
    outer.__cause__ = inner
    return outer


def test_an_explicit_cause_tells_when_the_outer_type_does_not() -> None:
    error = caused(odd(), caused(odd(), httpx.ReadTimeout("slow")))
    assert classify(error).kind is Kind.TIMEOUT
    assert classify(caused(RuntimeError("x"), having(odd(), status=503))).kind is Kind.UNAVAILABLE


def test_an_outer_class_that_tells_by_itself_wins() -> None:
    assert classify(caused(foreign("shop.InvoiceNotFound")(), KeyError("x"))).kind is Kind.NOT_FOUND
    assert classify(caused(ValueError("x"), KeyError("x"))).kind is Kind.VALIDATION


def test_a_cause_goes_before_what_a_class_of_ones_own_only_inherits() -> None:
    error = foreign("shop.LedgerTrouble", ValueError)("x")
    assert classify(error).kind is Kind.VALIDATION
    assert classify(caused(error, ConnectionResetError())).kind is Kind.CONNECTION


def test_a_cause_goes_before_words_of_the_outer_message() -> None:
    assert classify(caused(odd("it timed out"), PermissionError())).kind is Kind.PERMISSION


def test_what_was_merely_being_handled_tells_nothing() -> None:
    error = odd()
    error.__context__ = TimeoutError()
    assert classify(error).kind is Kind.UNKNOWN


@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError(TimeoutError()),  # type: ignore[arg-type]  # what urllib hands it
        odd(TimeoutError()),
        odd("x", TimeoutError()),
        having(odd(), orig=TimeoutError()),
        having(odd(), last_exception=TimeoutError()),
        having(foreign("tenacity.RetryError")(), last_attempt=having(odd(), _exception=TimeoutError())),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_that_is_carried_tells_too(error: BaseException) -> None:
    assert classify(error).kind is Kind.TIMEOUT


def test_a_refused_certificate_is_about_trust() -> None:
    error = httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed (_ssl.c:1006)")
    assert classify(error).kind is Kind.PERMISSION


def test_causes_that_go_round_end() -> None:
    one, other = odd(), odd()
    caused(one, other)
    caused(other, one)
    assert classify(one).kind is Kind.UNKNOWN
    assert classify(caused(one, one)).kind is Kind.UNKNOWN


def test_a_chain_without_end_is_given_up() -> None:
    error: BaseException = TimeoutError()
    for _ in range(10_000):
        error = caused(odd(), error)
    assert classify(error).kind is Kind.UNKNOWN


@pytest.mark.parametrize(
    ("leaves", "kind"),
    [
        ([TimeoutError()], Kind.TIMEOUT),
        ([ConnectionResetError(), ConnectionResetError(), TimeoutError()], Kind.CONNECTION),
        ([TimeoutError(), ValueError()], Kind.VALIDATION),
        ([TimeoutError(), Exception("odd")], Kind.UNKNOWN),
        ([Exception("odd"), KeyError()], Kind.BUG),
        ([ExceptionGroup("inner", [FileNotFoundError()])], Kind.NOT_FOUND),
    ],
    ids=str,
)
def test_a_group_is_transient_only_when_all_its_leaves_are(leaves: list[Exception], kind: Kind) -> None:
    group = ExceptionGroup("group", leaves)
    assert classify(group).kind is kind
    assert classify(caused(odd(), group)).kind is kind


def test_a_group_of_a_class_that_is_known_is_what_that_is() -> None:
    known = type("ClassValidationError", (ExceptionGroup,), {"__module__": "cattrs.errors"})
    assert classify(known("x", [KeyError("total")])).kind is Kind.VALIDATION


def test_a_group_waits_for_the_last_of_its_leaves() -> None:
    group = ExceptionGroup(
        "g", [having(odd(), response=Response(503, {"Retry-After": n})) for n in ("3", "9")]
    )  # type: ignore[misc]
    assert classify(group).retry_after == 9


def test_what_only_carries_a_list_of_exceptions_is_a_group_too() -> None:
    assert classify(having(odd(), exceptions=[TimeoutError(), TimeoutError()])).kind is Kind.TIMEOUT
    assert classify(having(odd(), exceptions=["no exception"])).kind is Kind.UNKNOWN


def test_a_huge_group_is_looked_at_from_both_ends() -> None:
    leaves: list[Exception] = [TimeoutError() for _ in range(100_000)]
    assert classify(ExceptionGroup("huge", leaves)).kind is Kind.TIMEOUT
    leaves[-1] = ValueError()
    assert classify(ExceptionGroup("huge", leaves)).category is Category.PERMANENT


def test_a_deep_group_ends() -> None:
    error: Exception = TimeoutError()
    for _ in range(3_000):
        error = ExceptionGroup("deep", [error])
    assert classify(error).kind in (Kind.TIMEOUT, Kind.UNKNOWN)
