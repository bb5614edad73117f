"""Classification: the user's rules, the exception's type, its explicit cause."""

from __future__ import annotations

import asyncio
import json
import socket
import sqlite3
import ssl
from typing import Any

import httpx
import pydantic
import pytest
import sqlalchemy.exc

from eventbus import Category, Classification, Kind, Route, classify
from eventbus.classify import CATEGORY_OF, ROUTE_OF
from eventbus.errors import HandlerTimeout


def validation_error() -> Exception:
    try:
        pydantic.TypeAdapter(int).validate_python("x")
    except pydantic.ValidationError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TimeoutError(), Kind.TIMEOUT),
        (asyncio.TimeoutError(), Kind.TIMEOUT),  # noqa: UP041 - the old name
        (HandlerTimeout("h"), Kind.TIMEOUT),
        (httpx.ReadTimeout("slow"), Kind.TIMEOUT),
        (httpx.ConnectError("refused"), Kind.CONNECTION),
        (ConnectionRefusedError(), Kind.CONNECTION),
        (BrokenPipeError(), Kind.CONNECTION),
        (socket.gaierror(), Kind.CONNECTION),
        (ssl.SSLCertVerificationError(), Kind.PERMISSION),
        (PermissionError(), Kind.PERMISSION),
        (FileNotFoundError(), Kind.NOT_FOUND),
        (FileExistsError(), Kind.CONFLICT),
        (MemoryError(), Kind.RESOURCE),
        (ValueError(), Kind.VALIDATION),
        (UnicodeDecodeError("utf-8", b"", 0, 1, "bad"), Kind.VALIDATION),
        (json.JSONDecodeError("bad", "", 0), Kind.VALIDATION),
        (validation_error(), Kind.VALIDATION),
        (KeyError(), Kind.BUG),
        (ZeroDivisionError(), Kind.BUG),
        (AttributeError(), Kind.BUG),
        (RecursionError(), Kind.BUG),
        (AssertionError(), Kind.BUG),
        (sqlite3.IntegrityError(), Kind.CONFLICT),
        (sqlalchemy.exc.NoResultFound(), Kind.NOT_FOUND),
        (RuntimeError(), Kind.UNKNOWN),
        (Exception(), Kind.UNKNOWN),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_the_type_tells_the_kind(error: BaseException, kind: Kind) -> None:
    assert classify(error).kind is kind


class AppError(Exception):
    """An error that says nothing by its type."""


def test_a_subclass_is_what_its_nearest_known_ancestor_is() -> None:
    class Late(TimeoutError): ...

    assert classify(Late()).kind is Kind.TIMEOUT


def test_an_explicit_cause_tells_when_the_outer_type_does_not() -> None:
    error = AppError("charge failed")
    error.__cause__ = AppError("inner")
    error.__cause__.__cause__ = httpx.ReadTimeout("slow")
    assert classify(error).kind is Kind.TIMEOUT
    context = AppError("no cause")
    context.__context__ = httpx.ReadTimeout("slow")
    assert classify(context).kind is Kind.UNKNOWN


def test_endless_causes_end() -> None:
    error = AppError()
    error.__cause__ = error
    assert classify(error).kind is Kind.UNKNOWN


def test_the_users_rules_come_first_in_order() -> None:
    answers: list[Any] = [
        lambda error: None,
        lambda error: "rate_limit" if isinstance(error, ValueError) else None,
        lambda error: Classification(Kind.QUOTA_EXCEEDED, retry_after=30),
    ]
    assert classify(ValueError(), answers).kind is Kind.RATE_LIMIT
    other = classify(KeyError(), answers)
    assert (other.kind, other.retry_after) == (Kind.QUOTA_EXCEEDED, 30)


@pytest.mark.parametrize("answer", ["nonsense", 42, object()])
def test_a_rule_that_raises_or_answers_nonsense_is_passed_over(answer: Any) -> None:
    def broken(error: BaseException) -> Any:
        raise RuntimeError("the rule's own fault")

    assert classify(KeyError(), [broken, lambda error: answer]).kind is Kind.BUG


def test_every_kind_has_a_category_and_a_route() -> None:
    assert set(CATEGORY_OF) == set(ROUTE_OF) == set(Kind)
    assert Classification(Kind.TIMEOUT).category is Category.TRANSIENT
    assert Classification(Kind.NOT_FOUND).route is Route.USER_ERROR
    assert str(Kind.RATE_LIMIT) == "rate_limit"
