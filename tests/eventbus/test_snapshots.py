"""Snapshots of exceptions: bounded and readable, whatever the exception does."""

from __future__ import annotations

import sqlite3
import sys
import types
from typing import Any

import pydantic
import pytest
import sqlalchemy.exc
from hypothesis import given
from hypothesis import strategies as st

from eventbus.classify import Classification, Kind, classify
from eventbus.failure import ErrorRecord
from eventbus.snapshots import (
    MAX_CAUSES,
    MAX_MESSAGE,
    MAX_TRACEBACK,
    clean,
    fingerprint,
    message_of,
    snapshot,
    type_name,
)


def caught(raise_it: Any) -> BaseException:
    try:
        raise_it()
    except BaseException as error:
        return error
    raise AssertionError("it was to raise")


def of(error: BaseException) -> ErrorRecord:
    return snapshot(error, Classification(Kind.UNKNOWN))


def storable(record: ErrorRecord) -> None:
    """Make sure that every store can hold every text of ``record``."""
    texts = [record.type, record.message, record.traceback, record.code or ""]
    for cause in record.causes:
        texts += [cause.type, cause.message, cause.traceback]
    for text in texts:
        assert type(text) is str
        assert "\x00" not in text
        text.encode()


class StrRaises(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text for you")


class StrIsNoText(Exception):
    def __str__(self) -> str:
        return 42  # type: ignore[return-value]  # what it must not do


class TextSubclass(str):
    def __len__(self) -> int:
        raise RuntimeError("no length for you")


class StrIsOdd(Exception):
    def __str__(self) -> str:
        return TextSubclass("an odd text")


class StrExits(Exception):
    def __str__(self) -> str:
        raise RecursionError


@pytest.mark.parametrize("kind", [StrRaises, StrIsNoText, StrExits])
def test_a_text_that_cannot_be_read_is_said_to_be_so(kind: type[Exception]) -> None:
    record = of(kind())
    assert record.message.startswith("<the message cannot be read: its __str__ raised ")
    storable(record)


def test_a_text_of_an_odd_kind_is_read_as_a_text() -> None:
    record = of(StrIsOdd())
    assert record.message == "an odd text"
    storable(record)


def test_nul_and_lone_surrogates_are_written_as_escapes() -> None:
    record = of(RuntimeError("a\x00b\ud800c\U0001f600"))
    assert record.message == "a\\x00b\\ud800c\U0001f600"
    storable(record)


def test_a_message_of_100_mb_is_cut_and_says_how_much_is_missing() -> None:
    record = of(RuntimeError("x" * 100_000_000))
    assert len(record.message) <= MAX_MESSAGE + 64
    assert record.message.endswith("more characters]")
    storable(record)


@given(st.text(st.characters(), max_size=200), st.integers(0, 20_000))
def test_any_text_becomes_storable_and_bounded(text: str, times: int) -> None:
    record = of(RuntimeError(text * times))
    storable(record)
    assert len(record.message) <= MAX_MESSAGE + 64


def test_a_class_with_a_hostile_name_is_named_storably() -> None:
    hostile = type("N", (Exception,), {"__module__": "m\x00", "__qualname__": "N\ud800" + "x" * 10_000})
    record = of(hostile())
    storable(record)
    assert len(record.type) <= 512
    assert type_name(ValueError()) == "ValueError"
    assert type_name(sqlite3.OperationalError()) == "sqlite3.OperationalError"


def test_causes_contexts_and_members_are_kept_with_their_relation() -> None:
    def run() -> None:
        try:
            try:
                raise KeyError("context")
            except KeyError:
                raise LookupError("cause")  # noqa: B904 - the context is the point
        except LookupError as cause:
            raise ExceptionGroup("group", [ValueError("one"), TypeError("two")]) from cause

    record = of(caught(run))
    assert [(it.relation, it.type) for it in record.causes] == [
        ("cause", "LookupError"),
        ("member", "ValueError"),
        ("member", "TypeError"),
        ("context", "KeyError"),
    ]
    assert "in test_causes" in record.causes[0].traceback


def test_a_suppressed_context_is_left_out() -> None:
    def run() -> None:
        try:
            raise KeyError("hidden")
        except KeyError:
            raise RuntimeError("shown") from None

    assert of(caught(run)).causes == ()


def test_causes_that_refer_to_each_other_end() -> None:
    first, second = RuntimeError("first"), RuntimeError("second")
    first.__cause__, second.__cause__ = second, first
    assert [cause.message for cause in of(first).causes] == ["second"]
    own = RuntimeError("own")
    own.__cause__ = own
    assert of(own).causes == ()


def test_an_endless_chain_and_deep_groups_are_bounded() -> None:
    error: BaseException = RuntimeError("0")
    for number in range(5_000):
        outer = RuntimeError(str(number))
        outer.__cause__ = error
        error = outer
    assert len(of(error).causes) == MAX_CAUSES
    group: Exception = ValueError("leaf")
    for _ in range(500):
        group = ExceptionGroup("g", [group] * 3)
    assert len(of(group).causes) <= MAX_CAUSES
    wide = ExceptionGroup("wide", [ValueError(str(number)) for number in range(10_000)])
    assert len(of(wide).causes) == MAX_CAUSES


def test_ten_thousand_frames_are_cut_in_the_middle() -> None:
    def deep(depth: int) -> None:
        if depth == 0:
            raise RuntimeError("bottom")
        deep(depth - 1)

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    try:
        record = of(caught(lambda: deep(10_000)))
    finally:
        sys.setrecursionlimit(limit)
    assert len(record.traceback) <= MAX_TRACEBACK
    assert " frames ...\n" in record.traceback
    assert record.traceback.rstrip().endswith('raise RuntimeError("bottom")')
    assert "in caught" in record.traceback.splitlines()[0]


@pytest.mark.parametrize("filename", ["\ud800" * 50_000, "/srv/\ud800.py", "x" * 50_000, "", "<template>"])
def test_code_of_a_file_that_cannot_exist_is_kept_like_any_other(filename: str) -> None:
    error = caught(lambda: exec(compile("\n" * 10 + "1/0", filename, "exec")))
    record = of(error)
    assert len(record.traceback) <= MAX_TRACEBACK
    storable(record)
    assert fingerprint("h", error)


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        ({"sqlstate": "23505"}, "23505"),
        ({"status_code": 503}, "503"),
        ({"errno": 2}, "2"),
        ({"code": "x" * 100}, "x" * 64),
        ({"code": object()}, None),
        ({}, None),
    ],
)
def test_the_code_of_an_error_is_kept_as_text(attributes: dict[str, Any], code: str | None) -> None:
    error = type("Failure", (Exception,), attributes)()
    assert of(error).code == code


def test_a_code_that_raises_is_passed_over() -> None:
    class Hostile(Exception):
        @property
        def sqlstate(self) -> str:
            raise RuntimeError("no")

        status_code = 500

    assert of(Hostile()).code == "500"


def test_a_validation_error_is_kept_without_its_inputs() -> None:
    class Card(pydantic.BaseModel):
        number: int
        owner: dict[str, int]

    error = caught(lambda: Card.model_validate({"number": "4111-secret", "owner": {"pin": "hunter2"}}))
    message = message_of(error)
    assert message.startswith("2 validation error(s) for Card")
    assert "number: Input should be a valid integer" in message
    assert "owner.pin" in message
    assert "secret" not in message
    assert "hunter2" not in message


def test_an_sql_error_is_kept_without_its_parameters() -> None:
    original = sqlite3.IntegrityError("UNIQUE constraint failed: users.email")
    error = sqlalchemy.exc.IntegrityError("INSERT INTO users VALUES (?)", ("ann@secret.example",), original)
    assert "ann@secret" in str(error)
    message = message_of(error)
    assert "UNIQUE constraint failed: users.email" in message
    assert "INSERT INTO users VALUES (?)" in message
    assert "ann@secret" not in message


def test_what_a_database_adds_about_the_row_is_left_out() -> None:
    original = RuntimeError("duplicate key\nDETAIL:  Key (email)=(ann@secret.example) already exists.")
    error = sqlalchemy.exc.IntegrityError("INSERT", (), original)
    assert "ann@secret" not in message_of(error)
    assert "duplicate key" in message_of(error)


EMAIL = "ann@secret.example"


class UniqueViolation(Exception):
    """What a driver of PostgreSQL raises."""

    sqlstate = "23505"

    def __init__(self) -> None:
        super().__init__(
            'duplicate key value violates unique constraint "users_email_key"\n'
            f"DETAIL:  Key (email)=({EMAIL}) already exists."
        )


def insert() -> None:
    raise UniqueViolation


def insert_by_orm() -> None:
    try:
        insert()
    except UniqueViolation as original:
        raise sqlalchemy.exc.IntegrityError("INSERT", (EMAIL,), original) from original


def register() -> None:
    try:
        insert()
    except UniqueViolation as original:
        raise RuntimeError("not registered") from original


def register_many() -> None:
    try:
        insert()
    except UniqueViolation as original:
        raise ExceptionGroup("not registered", [original])  # noqa: B904 - the context is the point


@pytest.mark.parametrize("raise_it", [insert, insert_by_orm, register, register_many])
def test_the_row_that_a_driver_quotes_is_left_out_bare_and_behind_other_errors(raise_it: Any) -> None:
    record = of(caught(raise_it))
    assert "duplicate key value" in repr(record)
    assert EMAIL not in repr(record)


# -- fingerprints


def module_of(source: str, name: str = "shop.billing") -> types.ModuleType:
    module = types.ModuleType(name)
    exec(compile(source, "/srv/shop/billing.py", "exec"), module.__dict__)
    return module


CHARGE = "def charge(message='declined', error=RuntimeError):\n    raise error(message)\n"


def print_of(module: types.ModuleType, *arguments: Any, handler: str = "h", function: str = "charge") -> str:
    return fingerprint(handler, caught(lambda: getattr(module, function)(*arguments)))


def test_a_fingerprint_survives_line_shifts_and_other_messages() -> None:
    before, after = module_of(CHARGE), module_of("import os\n" * 40 + CHARGE)
    assert print_of(before) == print_of(after) == print_of(before, "another text")


def test_a_fingerprint_tells_handlers_types_and_functions_apart() -> None:
    module = module_of(CHARGE + CHARGE.replace("charge", "refund"))
    prints = {
        print_of(module),
        print_of(module, handler="other"),
        print_of(module, "x", ValueError),
        print_of(module, function="refund"),
        print_of(module_of(CHARGE, "shop.other")),
    }
    assert len(prints) == 5


def test_a_fingerprint_is_of_the_applications_frame_and_not_of_the_librarys() -> None:
    parse = "def parse(text):\n    return json.loads(text)\n"
    module = module_of("import json\n" + parse + parse.replace("parse", "other"))
    short = print_of(module, "{", function="parse")
    assert short == print_of(module, '{"a": [1, 2', function="parse")
    assert short != print_of(module, "{", function="other")


def test_an_error_without_a_traceback_has_a_fingerprint_too() -> None:
    assert fingerprint("h", RuntimeError("a")) == fingerprint("h", RuntimeError("b"))
    assert fingerprint("h\ud800", RuntimeError()) != fingerprint("h", RuntimeError())


def test_clean_leaves_good_text_alone() -> None:
    text = "Grüße, 世界 \U0001f600\n"
    assert clean(text) is not None
    assert clean(text) == text


def test_hostile_exceptions_are_classified_without_a_word() -> None:
    for kind in (StrRaises, StrIsNoText):
        assert classify(kind()).kind is Kind.UNKNOWN
