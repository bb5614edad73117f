"""The exception's type, by name along its MRO, and names that tell by themselves."""

from __future__ import annotations

import asyncio
import binascii
import concurrent.futures
import json
import queue
import socket
import sqlite3
import ssl
import subprocess
import zipfile
import zoneinfo
from typing import Any

import httpx
import pydantic
import pytest
import sqlalchemy.exc
import sqlalchemy.orm.exc
from foreign import foreign

from eventbus import Kind, classify
from eventbus.classify.names import told_by, words_of
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
        (concurrent.futures.TimeoutError(), Kind.TIMEOUT),
        (subprocess.TimeoutExpired("x", 1), Kind.TIMEOUT),
        (HandlerTimeout("h"), Kind.TIMEOUT),
        (httpx.ReadTimeout("slow"), Kind.TIMEOUT),
        (httpx.PoolTimeout("full"), Kind.TIMEOUT),
        (sqlalchemy.exc.TimeoutError("QueuePool limit"), Kind.TIMEOUT),
        (httpx.ConnectError("refused"), Kind.CONNECTION),
        (ConnectionRefusedError(), Kind.CONNECTION),
        (BrokenPipeError(), Kind.CONNECTION),
        (EOFError(), Kind.CONNECTION),
        (socket.gaierror(), Kind.CONNECTION),
        (asyncio.IncompleteReadError(b"", 1), Kind.CONNECTION),
        (ssl.SSLCertVerificationError(), Kind.PERMISSION),
        (PermissionError(), Kind.PERMISSION),
        (FileNotFoundError(), Kind.NOT_FOUND),
        (sqlalchemy.exc.NoResultFound(), Kind.NOT_FOUND),
        (FileExistsError(), Kind.CONFLICT),
        (sqlite3.IntegrityError(), Kind.CONFLICT),
        (sqlalchemy.orm.exc.StaleDataError(), Kind.CONTENTION),
        (MemoryError(), Kind.RESOURCE),
        (queue.Full(), Kind.RESOURCE),
        (ValueError(), Kind.VALIDATION),
        (UnicodeDecodeError("utf-8", b"", 0, 1, "bad"), Kind.VALIDATION),
        (json.JSONDecodeError("bad", "", 0), Kind.VALIDATION),
        (binascii.Error(), Kind.VALIDATION),
        (zipfile.BadZipFile(), Kind.VALIDATION),
        (zoneinfo.ZoneInfoNotFoundError(), Kind.VALIDATION),
        (validation_error(), Kind.VALIDATION),
        (httpx.InvalidURL("x"), Kind.VALIDATION),
        (KeyError("api"), Kind.BUG),
        (ZeroDivisionError(), Kind.BUG),
        (AttributeError(), Kind.BUG),
        (RecursionError(), Kind.BUG),
        (AssertionError(), Kind.BUG),
        (NotImplementedError(), Kind.BUG),
        (sqlalchemy.exc.ArgumentError(), Kind.BUG),
        (RuntimeError(), Kind.UNKNOWN),
        (OSError(), Kind.UNKNOWN),
        (Exception(), Kind.UNKNOWN),
        (asyncio.CancelledError(), Kind.UNKNOWN),
        (KeyboardInterrupt(), Kind.UNKNOWN),
        (SystemExit(3), Kind.UNKNOWN),
        (GeneratorExit(), Kind.UNKNOWN),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_the_type_tells_the_kind(error: BaseException, kind: Kind) -> None:
    assert classify(error).kind is kind


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("requests.exceptions.ReadTimeout", Kind.TIMEOUT),
        ("requests.exceptions.ConnectionError", Kind.CONNECTION),
        ("aiohttp.client_exceptions.ServerDisconnectedError", Kind.CONNECTION),
        ("botocore.exceptions.NoCredentialsError", Kind.PERMISSION),
        ("redis.exceptions.BusyLoadingError", Kind.UNAVAILABLE),
        ("redis.exceptions.LockError", Kind.CONTENTION),
        ("filelock._error.Timeout", Kind.CONTENTION),
        ("pymongo.errors.DuplicateKeyError", Kind.CONFLICT),
        ("jwt.exceptions.DecodeError", Kind.PERMISSION),
        ("yaml.scanner.YAMLError", Kind.VALIDATION),
        ("google.protobuf.message.DecodeError", Kind.VALIDATION),
        ("google.auth.exceptions.TransportError", Kind.CONNECTION),
        ("stripe.CardError", Kind.VALIDATION),
        ("psycopg2.errors.SyntaxError", Kind.BUG),
        ("pybreaker.CircuitBreakerError", Kind.UNAVAILABLE),
        ("celery.exceptions.SoftTimeLimitExceeded", Kind.TIMEOUT),
        ("kafka.errors.NotLeaderForPartitionError", Kind.UNAVAILABLE),
        ("pymysql.err.OperationalError", Kind.CONNECTION),
        ("tenacity.RetryError", Kind.UNKNOWN),
    ],
)
def test_classes_of_libraries_are_known_without_them(name: str, kind: Kind) -> None:
    assert classify(foreign(name)()).kind is kind


def test_a_library_may_move_its_classes_between_its_modules() -> None:
    assert classify(foreign("redis.somewhere.new.BusyLoadingError")()).kind is Kind.UNAVAILABLE


def test_a_subclass_is_what_its_nearest_known_ancestor_is() -> None:
    class Late(TimeoutError): ...

    class Later(Late): ...

    assert classify(Later()).kind is Kind.TIMEOUT


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("InvoiceNotFound", Kind.NOT_FOUND),
        ("OrderDoesNotExist", Kind.NOT_FOUND),
        ("PaymentGatewayTimeout", Kind.TIMEOUT),
        ("BrokerDisconnected", Kind.CONNECTION),
        ("SmsThrottled", Kind.RATE_LIMIT),
        ("TooManyRequestsError", Kind.RATE_LIMIT),
        ("MailQuotaExceededError", Kind.QUOTA_EXCEEDED),
        ("PlanLimitReached", Kind.QUOTA_EXCEEDED),
        ("CarrierUnavailable", Kind.UNAVAILABLE),
        ("CircuitOpen", Kind.UNAVAILABLE),
        ("UpstreamError", Kind.EXTERNAL_API),
        ("BadGateway", Kind.EXTERNAL_API),
        ("PartnerApiError", Kind.EXTERNAL_API),
        ("LockNotAcquired", Kind.CONTENTION),
        ("LockTimeout", Kind.CONTENTION),
        ("StaleAggregate", Kind.CONTENTION),
        ("ConnectionPoolExhausted", Kind.RESOURCE),
        ("DiskFull", Kind.RESOURCE),
        ("InvalidAddress", Kind.VALIDATION),
        ("InvalidTimeout", Kind.VALIDATION),
        ("TimeoutValidationError", Kind.VALIDATION),
        ("ValidationServiceTimeout", Kind.TIMEOUT),
        ("TokenExpired", Kind.PERMISSION),
        ("InvalidCredentials", Kind.PERMISSION),
        ("WebhookSignatureMismatch", Kind.PERMISSION),
        ("AccountLocked", Kind.PERMISSION),
        ("EmailAlreadyTaken", Kind.CONFLICT),
        ("DuplicateOrder", Kind.CONFLICT),
        ("MisconfiguredHandler", Kind.BUG),
        ("TimeoutConfigError", Kind.BUG),
        ("LedgerHiccup", Kind.UNKNOWN),
        ("RetriesExhausted", Kind.UNKNOWN),
        ("ClientError", Kind.UNKNOWN),
        ("UnknownError", Kind.UNKNOWN),
        ("Ünïcode", Kind.UNKNOWN),
        ("_", Kind.UNKNOWN),
    ],
)
def test_a_name_of_ones_own_tells_by_its_head(name: str, kind: Kind) -> None:
    assert classify(foreign(f"shop.errors.{name}")("batch 12")).kind is kind


def test_a_telling_name_goes_before_what_the_class_inherits() -> None:
    for base in (KeyError, ValueError, RuntimeError, ConnectionError):
        assert classify(foreign("shop.RateNotFound", base)()).kind is Kind.NOT_FOUND


def test_names_are_split_into_words() -> None:
    assert words_of("HTTPReadTimeout") == "http read timeout"
    assert words_of("OAuth2TokenError") == "oauth 2 token error"
    assert words_of("insufficient_quota") == "insufficient quota"
    assert words_of("Neo.TransientError.Transaction.DeadlockDetected").endswith("deadlock detected")


@pytest.mark.parametrize("name", ["", "x" * 5_000, "A" * 120, "lock" * 30, "not " * 30, "9" * 100])
def test_any_name_is_read_quickly(name: str) -> None:
    assert classify(foreign(f"shop.{name or 'E'}")()).kind in Kind
    assert told_by(name[:100]) is None or isinstance(told_by(name[:100]), tuple)


def test_a_class_made_again_and_again_is_not_kept_for_ever() -> None:
    import gc
    import weakref

    made: list[Any] = []
    for _ in range(5_000):
        cls = foreign("shop.Passing")
        classify(cls())
        made.append(weakref.ref(cls))
        del cls
    gc.collect()
    assert sum(ref() is not None for ref in made) <= 4_200
