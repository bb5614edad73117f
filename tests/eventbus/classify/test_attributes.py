"""Structured attributes: statuses, SQLSTATEs, numbers and codes in words, as libraries carry them."""

from __future__ import annotations

import errno
import os
import smtplib
import sqlite3
import urllib.error
from email.message import Message
from enum import Enum
from http import HTTPStatus
from typing import Any

import httpx
import pytest
import sqlalchemy.exc
from foreign import Response, foreign, having

from eventbus import Kind, classify
from eventbus.classify import code_of

STATUSES = [
    (400, Kind.VALIDATION),
    (401, Kind.PERMISSION),
    (402, Kind.QUOTA_EXCEEDED),
    (403, Kind.PERMISSION),
    (404, Kind.NOT_FOUND),
    (405, Kind.VALIDATION),
    (408, Kind.TIMEOUT),
    (409, Kind.CONFLICT),
    (410, Kind.NOT_FOUND),
    (412, Kind.CONFLICT),
    (413, Kind.VALIDATION),
    (422, Kind.VALIDATION),
    (423, Kind.CONTENTION),
    (429, Kind.RATE_LIMIT),
    (500, Kind.EXTERNAL_API),
    (502, Kind.EXTERNAL_API),
    (503, Kind.UNAVAILABLE),
    (504, Kind.UNAVAILABLE),
    (507, Kind.RESOURCE),
    (529, Kind.UNAVAILABLE),
]


class GrpcCode(Enum):
    UNAVAILABLE = (14, "unavailable")
    RESOURCE_EXHAUSTED = (8, "resource exhausted")
    ABORTED = (10, "aborted")


def odd(**attributes: Any) -> BaseException:
    return having(foreign("shop.PaymentFailed")("x"), **attributes)


@pytest.mark.parametrize(("status", "kind"), STATUSES)
def test_a_status_of_http_tells(status: int, kind: Kind) -> None:
    request = httpx.Request("GET", "http://shop.test")
    error = httpx.HTTPStatusError("x", request=request, response=httpx.Response(status, request=request))
    assert classify(error).kind is kind
    assert code_of(error) == str(status)


@pytest.mark.parametrize(
    "attributes",
    [
        {"status": 503},
        {"status_code": 503},
        {"status_code": HTTPStatus.SERVICE_UNAVAILABLE},
        {"status": "503"},
        {"http_status": 503},
        {"code": 503},
        {"response": Response(503)},
        {"response": {"status": 503}},
        {"resp": Response(503)},
        {"response": {"ResponseMetadata": {"HTTPStatusCode": 503}}},
    ],
    ids=[
        "status",
        "status_code",
        "HTTPStatus",
        "text",
        "http_status",
        "code",
        "response",
        "response-mapping",
        "resp",
        "botocore",
    ],
)
def test_a_status_is_found_where_libraries_keep_it(attributes: dict[str, Any]) -> None:
    assert classify(odd(**attributes)).kind is Kind.UNAVAILABLE


@pytest.mark.parametrize(
    "attributes",
    [
        {"status": 17},
        {"status": 200},
        {"status": True},
        {"status": "open"},
        {"code": "E1042"},
        {"code": 1042},
    ],
    ids=str,
)
def test_a_number_that_is_no_status_tells_nothing(attributes: dict[str, Any]) -> None:
    assert classify(odd(**attributes)).kind is Kind.UNKNOWN


def test_urllib_carries_its_status_itself() -> None:
    error = urllib.error.HTTPError("http://x", 503, "maintenance", Message(), None)
    assert classify(error).kind is Kind.UNAVAILABLE
    error.close()


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"error": {"code": "insufficient_quota"}}', Kind.QUOTA_EXCEEDED),
        (b"You exceeded your current quota, check your plan", Kind.QUOTA_EXCEEDED),
        (b"slow down", Kind.RATE_LIMIT),
        (b"Quota exceeded for requests per minute", Kind.RATE_LIMIT),
    ],
)
def test_too_many_requests_may_mean_that_the_plan_is_used_up(body: bytes, kind: Kind) -> None:
    assert classify(odd(response=Response(429, body=body))).kind is kind


def test_forbidden_may_mean_a_rate_limit() -> None:
    assert classify(odd(response=Response(403, body=b"API rate limit exceeded"))).kind is Kind.RATE_LIMIT
    assert classify(odd(response=Response(403, {"X-RateLimit-Remaining": "0"}))).kind is Kind.RATE_LIMIT
    assert classify(odd(response=Response(403))).kind is Kind.PERMISSION


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("ThrottlingException", 400, Kind.RATE_LIMIT),
        ("SlowDown", 503, Kind.RATE_LIMIT),
        ("NoSuchKey", 404, Kind.NOT_FOUND),
        ("404", 404, Kind.NOT_FOUND),
        ("AccessDenied", 403, Kind.PERMISSION),
        ("ExpiredToken", 400, Kind.PERMISSION),
        ("ConditionalCheckFailedException", 400, Kind.CONFLICT),
        ("TransactionConflictException", 400, Kind.CONTENTION),
        ("ValidationException", 400, Kind.VALIDATION),
        ("InternalError", 500, Kind.EXTERNAL_API),
        ("ServiceQuotaExceededException", 402, Kind.QUOTA_EXCEEDED),
    ],
)
def test_codes_of_a_cloud_go_before_a_status_that_says_less(code: str, status: int, kind: Kind) -> None:
    response = {"Error": {"Code": code, "Message": "x"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error = having(foreign("botocore.exceptions.ClientError")("x"), response=response)
    assert classify(error).kind is kind
    assert code_of(error) == code


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ({"code": "insufficient_quota"}, Kind.QUOTA_EXCEEDED),
        ({"code": "ETIMEDOUT"}, Kind.TIMEOUT),
        ({"error_code": "NOT_FOUND"}, Kind.NOT_FOUND),
        ({"code": GrpcCode.UNAVAILABLE}, Kind.UNAVAILABLE),
        ({"status": GrpcCode.ABORTED}, Kind.CONTENTION),
        ({"body": {"error": {"type": "overloaded_error"}}}, Kind.UNAVAILABLE),
        ({"response": {"ok": False, "error": "channel_not_found"}}, Kind.NOT_FOUND),
        ({"error": "invalid_grant"}, Kind.PERMISSION),
        ({"code": "Neo.TransientError.Transaction.DeadlockDetected"}, Kind.CONTENTION),
    ],
    ids=str,
)
def test_codes_in_words_tell(attributes: dict[str, Any], kind: Kind) -> None:
    assert classify(odd(**attributes)).kind is kind


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("08006", Kind.CONNECTION),
        ("22001", Kind.VALIDATION),
        ("23505", Kind.CONFLICT),
        ("23502", Kind.CONFLICT),
        ("28P01", Kind.PERMISSION),
        ("40001", Kind.CONTENTION),
        ("40P01", Kind.CONTENTION),
        ("42501", Kind.PERMISSION),
        ("42P01", Kind.BUG),
        ("53300", Kind.RESOURCE),
        ("55P03", Kind.CONTENTION),
        ("57014", Kind.TIMEOUT),
        ("57P01", Kind.UNAVAILABLE),
        ("XX000", Kind.EXTERNAL_API),
    ],
)
@pytest.mark.parametrize("name", ["sqlstate", "pgcode"])
def test_a_sqlstate_tells_also_through_sqlalchemy(state: str, kind: Kind, name: str) -> None:
    base = foreign("driver.Error")
    inner = foreign("driver.OperationalError", base, **{name: state})("x")
    error = sqlalchemy.exc.DBAPIError.instance("SELECT timed out", {}, inner, base)
    assert classify(inner).kind is kind
    assert classify(error).kind is kind
    assert code_of(error) == state


@pytest.mark.parametrize(
    ("name", "args", "kind", "code"),
    [
        ("pymysql.err.OperationalError", (1205, "Lock wait timeout exceeded"), Kind.CONTENTION, "1205"),
        ("pymysql.err.IntegrityError", (1062, "Duplicate entry"), Kind.CONFLICT, "1062"),
        ("MySQLdb.OperationalError", (2006, "gone away"), Kind.CONNECTION, "2006"),
        ("pymysql.err.ProgrammingError", (1146, "doesn't exist"), Kind.BUG, "1146"),
        ("pymssql.exceptions.OperationalError", ((1205, b"deadlock"),), Kind.CONTENTION, "1205"),
        ("pyodbc.Error", ("40001", "[40001] (1205) (SQLExecDirectW)"), Kind.CONTENTION, "40001"),
        ("pika.exceptions.ChannelClosedByBroker", (404, "NOT_FOUND"), Kind.NOT_FOUND, "404"),
        ("redis.exceptions.ResponseError", ("WRONGTYPE Operation",), Kind.BUG, "WRONGTYPE"),
        ("redis.exceptions.ResponseError", ("OOM command not allowed",), Kind.RESOURCE, "OOM"),
        ("redis.exceptions.ResponseError", ("ERR value is not an integer",), Kind.VALIDATION, "ERR"),
        ("urllib3.exceptions.ResponseError", ("too many 503 error responses",), Kind.UNAVAILABLE, "503"),
        ("ftplib.error_perm", ("550 not there",), Kind.NOT_FOUND, "550"),
    ],
)
def test_numbers_are_read_as_their_library_means_them(
    name: str, args: tuple[Any, ...], kind: Kind, code: str
) -> None:
    error = foreign(name)(*args)
    assert classify(error).kind is kind
    assert code_of(error) == code


def test_amqp_is_not_http() -> None:
    command_invalid = having(foreign("amqp.exceptions.CommandInvalid")("x"), code=503)
    assert classify(command_invalid).kind is Kind.BUG


def test_oracle_carries_an_object() -> None:
    class Detail:
        code = 60
        full_code = "ORA-00060"

    error = foreign("oracledb.exceptions.DatabaseError")(Detail())
    assert (classify(error).kind, code_of(error)) == (Kind.CONTENTION, "ORA-00060")


@pytest.mark.parametrize("argument", ["ORA-00942: table or view does not exist", "DPY-1001: not connected"])
def test_oracles_text_begins_with_its_number(argument: str) -> None:
    error = foreign("oracledb.exceptions.DatabaseError")(argument)
    known = {"ORA-00942": Kind.BUG, "DPY-1001": Kind.CONNECTION}
    assert classify(error).kind is known[str(code_of(error))]


def test_who_reaches_a_database_and_is_not_let_in_lacks_permission() -> None:
    error = foreign("shop.OperationalError")("250001: Incorrect username or password was specified.")
    assert classify(having(error, sqlstate="08001")).kind is Kind.PERMISSION
    assert classify(having(foreign("shop.OperationalError")("x"), sqlstate="08001")).kind is Kind.CONNECTION


@pytest.mark.parametrize(("status", "kind"), [(401, Kind.PERMISSION), (429, Kind.RATE_LIMIT)])
def test_a_refused_upgrade_to_websocket_is_what_its_response_says(status: int, kind: Kind) -> None:
    error = having(foreign("websockets.exceptions.InvalidStatus")("x"), response=Response(status))
    assert classify(error).kind is kind


def test_an_error_number_outside_oserror_is_believed_when_nothing_else_tells() -> None:
    assert classify(odd(errno=errno.ENOSPC)).kind is Kind.RESOURCE
    assert classify(odd(errno=errno.ENOSPC, status=404)).kind is Kind.NOT_FOUND
    assert classify(having(foreign("shop.TimedOut")("x"), errno=7)).kind is Kind.TIMEOUT


@pytest.mark.parametrize(
    "attributes",
    [
        {"reason": "PERMISSION_DENIED"},
        {"kind": "permission"},
        {"body": {"errors": [{"reason": "forbidden"}]}},
        {"error_details": [{"reason": "accessNotAllowed"}]},
    ],
)
def test_reasons_are_codes_in_words(attributes: dict[str, Any]) -> None:
    assert classify(odd(**attributes)).kind is Kind.PERMISSION


def test_kafka_carries_an_object_with_methods() -> None:
    class KafkaError:
        __module__ = "cimpl"
        __qualname__ = "KafkaError"

        def name(self) -> str:
            return "_TIMED_OUT"

        def retriable(self) -> bool:
            return True

    KafkaError.__module__, KafkaError.__qualname__ = "cimpl", "KafkaError"
    error = foreign("cimpl.KafkaException")(KafkaError())
    assert (classify(error).kind, code_of(error)) == (Kind.TIMEOUT, "_TIMED_OUT")


def test_grpc_answers_when_asked() -> None:
    rpc_error = foreign("grpc.RpcError")
    error = foreign("grpc.aio._call.AioRpcError", rpc_error, code=lambda self: GrpcCode.UNAVAILABLE)("x")
    assert (classify(error).kind, code_of(error)) == (Kind.UNAVAILABLE, "UNAVAILABLE")
    used_up = foreign("grpc.E", rpc_error, code=lambda self: GrpcCode.RESOURCE_EXHAUSTED)
    assert classify(used_up("slow down")).kind is Kind.RATE_LIMIT
    assert classify(used_up("Quota exceeded per day")).kind is Kind.QUOTA_EXCEEDED


def test_nobody_elses_methods_are_called() -> None:
    called: list[str] = []
    error = foreign(
        "shop.Odd", code=lambda self: called.append("code"), status=lambda self: called.append("status")
    )
    assert classify(error("x")).kind is Kind.UNKNOWN
    assert called == []


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOSPC, Kind.RESOURCE),
        (errno.EMFILE, Kind.RESOURCE),
        (errno.EHOSTUNREACH, Kind.CONNECTION),
        (errno.ENETUNREACH, Kind.CONNECTION),
        (errno.EROFS, Kind.PERMISSION),
        (errno.EBUSY, Kind.CONTENTION),
        (errno.ENOTEMPTY, Kind.CONFLICT),
        (errno.ENAMETOOLONG, Kind.VALIDATION),
        (errno.EBADF, Kind.BUG),
    ],
)
def test_the_operating_systems_numbers_tell(code: int, kind: Kind) -> None:
    error = OSError(code, os.strerror(code), "/srv/x")
    assert (classify(error).kind, code_of(error)) == (kind, str(code))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (smtplib.SMTPResponseException(421, "closing"), Kind.UNAVAILABLE),
        (smtplib.SMTPAuthenticationError(535, b"no"), Kind.PERMISSION),
        (smtplib.SMTPRecipientsRefused({"a@b.test": (550, b"no such user")}), Kind.NOT_FOUND),
        (smtplib.SMTPServerDisconnected("x"), Kind.CONNECTION),
        (smtplib.SMTPDataError(452, b"full"), Kind.RESOURCE),
    ],
    ids=lambda value: type(value).__name__,
)
def test_mail_servers_have_codes_of_their_own(error: BaseException, kind: Kind) -> None:
    assert classify(error).kind is kind


def test_sqlite_names_its_codes() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute("create table t (a integer not null)")
    for statement, kind in [("insert into t values (null)", Kind.CONFLICT), ("select * from no", Kind.BUG)]:
        with pytest.raises(sqlite3.Error) as caught:
            connection.execute(statement)
        assert classify(caught.value).kind is kind
    assert code_of(caught.value) == "SQLITE_ERROR"
    connection.close()
    busy = having(sqlite3.OperationalError("x"), sqlite_errorname="SQLITE_BUSY_SNAPSHOT")
    assert classify(busy).kind is Kind.CONTENTION
