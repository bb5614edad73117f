"""HTTP statuses: where clients keep them, and what they mean (RFC 9110, RFC 6585 and common practice)."""

from __future__ import annotations

from typing import Any

from eventbus.classify.kinds import Kind
from eventbus.classify.reading import attribute, item, mapping, number, present

_NAMES = (
    "status_code",
    "statusCode",
    "status",
    "http_status",
    "http_status_code",
    "status_int",
    "response_code",
    "http_code",
    "errcode",
    "code",
)
_RESPONSES = ("response", "resp", "http_response", "raw_response", "meta", "error_response")
_ON_RESPONSE = ("status_code", "status", "status_int", "code", "http_status")

_KINDS = {
    402: Kind.QUOTA_EXCEEDED,
    401: Kind.PERMISSION,
    403: Kind.PERMISSION,
    407: Kind.PERMISSION,
    451: Kind.PERMISSION,
    511: Kind.PERMISSION,
    404: Kind.NOT_FOUND,
    410: Kind.NOT_FOUND,
    408: Kind.TIMEOUT,
    522: Kind.TIMEOUT,
    524: Kind.TIMEOUT,
    598: Kind.TIMEOUT,
    599: Kind.TIMEOUT,
    409: Kind.CONFLICT,
    412: Kind.CONFLICT,
    423: Kind.CONTENTION,
    449: Kind.CONTENTION,
    424: Kind.EXTERNAL_API,
    425: Kind.UNAVAILABLE,
    420: Kind.RATE_LIMIT,
    429: Kind.RATE_LIMIT,
    430: Kind.RATE_LIMIT,
    440: Kind.PERMISSION,
    498: Kind.PERMISSION,
    499: Kind.CONNECTION,
    503: Kind.UNAVAILABLE,
    504: Kind.UNAVAILABLE,
    507: Kind.RESOURCE,
    509: Kind.QUOTA_EXCEEDED,
    521: Kind.UNAVAILABLE,
    523: Kind.UNAVAILABLE,
    529: Kind.UNAVAILABLE,
    530: Kind.UNAVAILABLE,
}


def kind_of_status(status: int) -> Kind:
    """Return what a status from 400 to 599 means: 4xx is what we asked for, 5xx the other side's fault."""
    return _KINDS.get(status) or (Kind.VALIDATION if status < 500 else Kind.EXTERNAL_API)


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status that an exception or the response in it carries, if it is one of a failure."""
    for name in present(error, _NAMES):
        status = _status(attribute(error, name))
        if status is not None:
            return status
    return status_of_response(error)


def status_of_response(error: BaseException) -> int | None:
    """Return the HTTP status of a failure that the response in an exception carries."""
    for name in present(error, _RESPONSES):
        response = attribute(error, name)
        status = None if response is None else _of_response(response)
        if status is not None:
            return status
    return None


def response_of(error: BaseException) -> Any:
    """Return the response that an exception carries, or None."""
    for name in present(error, _RESPONSES):
        response = attribute(error, name)
        if response is not None:
            return response
    return None


def _of_response(response: Any) -> int | None:
    for name in present(response, _ON_RESPONSE):
        status = _status(attribute(response, name))
        if status is not None:
            return status
    if mapping(response) is None:
        return None
    for value in (
        item(item(response, "ResponseMetadata"), "HTTPStatusCode"),
        item(response, "status"),
        item(response, "status_code"),
        item(response, "statusCode"),
    ):
        status = _status(value)
        if status is not None:
            return status
    return None


def _status(value: object) -> int | None:
    if value is None:
        return None
    status = number(value)
    if status is None and type(value) is str and len(value) == 3 and value.isascii() and value.isdigit():
        status = int(value)
    return status if status is not None and 400 <= status <= 599 else None
