"""Codes in words, and how they and an HTTP status together tell what happened.

The status comes first: of the exception, then of its response. A code in words, from the exception's
attributes, its body and its response in this order, counts where there is no status, and where senders use
a status for more than its name says. What is said beside a 400, 403 or 429 tells limits from the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from eventbus.classify.http import kind_of_status, response_of, status_of, status_of_response
from eventbus.classify.kinds import Kind
from eventbus.classify.names import told_by
from eventbus.classify.reading import attribute, item, listed, mapping, number, present, text_of, word
from eventbus.classify.retry_after import header_of


class Evidence(NamedTuple):
    """What a structured attribute says.

    Attributes:
        kind: what went wrong, None when the code tells nothing.
        code: the code as text.
    """

    kind: Kind | None
    code: str


GRPC: dict[str, Kind] = {
    "CANCELLED": Kind.CONNECTION,
    "UNKNOWN": Kind.EXTERNAL_API,
    "INVALID_ARGUMENT": Kind.VALIDATION,
    "DEADLINE_EXCEEDED": Kind.TIMEOUT,
    "NOT_FOUND": Kind.NOT_FOUND,
    "ALREADY_EXISTS": Kind.CONFLICT,
    "PERMISSION_DENIED": Kind.PERMISSION,
    "RESOURCE_EXHAUSTED": Kind.RATE_LIMIT,
    "FAILED_PRECONDITION": Kind.CONFLICT,
    "ABORTED": Kind.CONTENTION,
    "OUT_OF_RANGE": Kind.VALIDATION,
    "UNIMPLEMENTED": Kind.BUG,
    "INTERNAL": Kind.EXTERNAL_API,
    "UNAVAILABLE": Kind.UNAVAILABLE,
    "DATA_LOSS": Kind.EXTERNAL_API,
    "UNAUTHENTICATED": Kind.PERMISSION,
}
"""The status codes of gRPC, which Google's HTTP APIs use as well."""

_EXACT: dict[str, Kind] = {
    "no_text": Kind.VALIDATION,
    "SYNTAX_ERROR": Kind.BUG,
    "TABLE_NOT_FOUND": Kind.BUG,
    "COLUMN_NOT_FOUND": Kind.BUG,
}

_CODE = re.compile(r"[A-Za-z][\w.:#/-]{1,79}")
_ATTRIBUTES = (
    "code",
    "error_code",
    "error_name",
    "errorCode",
    "grpc_status_code",
    "type",
    "error_type",
    "error",
    "status",
    "reason",
    "kind",
    "error_kind",
)
_BODIES = ("body", "json_body", "data", "details", "error_details", "errors")
_SAYING = ("body", "json_body", "data", "content", "message", "error", "details")
_IN_BODY = ("code", "type", "status", "reason", "error", "__type", "errorCode", "error_code", "errors")
_DEPTH = 2
_USED_UP = (  # compiled when asked first, like all that is seldom asked
    r"insufficient.?quota|current quota|quota.{0,40}(?:day|month|billing|used up|exhausted)|billing|credit|"
    r"(?:usage|monthly|daily|spend\w*|plan'?s?|free tier|hard) (?:limit|cap|quota|allowance)|"
    r"per (?:day|month)|"
    r"your plan|used up|(?:upgrade|exceeded) your plan|out of (?:quota|funds|tokens)"
)
_LIMITED = r"rate.?limit|too many requests|abuse detection|throttl|quota|slow down|ratelimit"
_TOO_LOW = r"credit balance is too low|insufficient.?(?:quota|credits?)"

_OVERRULES = {
    400: frozenset(Kind) - {Kind.EXTERNAL_API, Kind.BUG},
    401: frozenset((Kind.RATE_LIMIT, Kind.QUOTA_EXCEEDED)),
    403: frozenset((Kind.RATE_LIMIT, Kind.QUOTA_EXCEEDED)),
    409: frozenset((Kind.CONTENTION,)),
    429: frozenset((Kind.QUOTA_EXCEEDED,)),
    500: frozenset((Kind.TIMEOUT, Kind.UNAVAILABLE, Kind.CONTENTION)),
    503: frozenset((Kind.RATE_LIMIT, Kind.RESOURCE)),
    504: frozenset((Kind.TIMEOUT,)),
}
"""What a code in words may make of a status, because senders use it for more than its name says."""


def coded(error: BaseException) -> Evidence | None:
    """Read the HTTP status and the codes in words that an exception, its response and its body carry."""
    status = status_of(error)
    if status is not None and status not in _OVERRULES:
        return Evidence(kind_of_status(status), _shown(error, status))
    told = code = None
    for text in _codes_of(error):
        if code is None:
            code = text
        told = kind_of_code(text)
        if told is not None:
            code = text
            break
    if status is None:
        return None if code is None else Evidence(told, code)
    return Evidence(_together(error, status, told), _shown(error, status))


def answered(error: BaseException) -> Evidence | None:
    """Read the HTTP status of the response only, where the exception's own code is of another protocol."""
    status = status_of_response(error)
    return None if status is None else Evidence(kind_of_status(status), str(status))


def _shown(error: BaseException, status: int) -> str:
    """Return the code that a cloud's client shows, or the status."""
    return word(item(item(response_of(error), "Error"), "Code")) or str(status)


def stated(pattern: str) -> Callable[[BaseException], Evidence | None]:
    """Return a reader of the status that a library always writes at one place of its messages."""

    def read(error: BaseException) -> Evidence | None:
        found = re.match(pattern, text_of(error))
        status = int(found[1]) if found else 0
        return Evidence(kind_of_status(status), str(status)) if 400 <= status <= 599 else None

    return read


def kind_of_code(code: str) -> Kind | None:
    """Return what a code in words means, such as ``ThrottlingException`` or ``insufficient_quota``."""
    if code.isdigit():
        status = int(code) if len(code) == 3 else 0
        return kind_of_status(status) if 400 <= status <= 599 else None
    exact = GRPC.get(code) or _EXACT.get(code)
    if exact is not None:
        return exact
    told = told_by(code)
    return None if told is None or told.is_vague else told.kind


def _together(error: BaseException, status: int, told: Kind | None) -> Kind:
    kind = kind_of_status(status)
    if told is not None and told in _OVERRULES.get(status, ()):
        return told
    if status == 429:
        return Kind.QUOTA_EXCEEDED if re.search(_USED_UP, _said(error)) else kind
    if status == 403 and _is_limited(error):
        return Kind.RATE_LIMIT
    if status == 400 and re.search(_TOO_LOW, _said(error)):
        return Kind.QUOTA_EXCEEDED
    return kind


def _is_limited(error: BaseException) -> bool:
    remaining = header_of(error, "x-ratelimit-remaining")
    return remaining == "0" or re.search(_LIMITED, _said(error)) is not None


def _codes_of(error: BaseException) -> Iterator[str]:
    for name in present(error, _ATTRIBUTES):
        value = attribute(error, name)
        if value is not None:
            yield from _codes_in(value)
    for name in present(error, _BODIES):
        value = attribute(error, name)
        if value is not None:
            yield from _codes_in(value)
    response = response_of(error)
    if response is not None and mapping(response) is not None:
        yield from _codes_in(response)
    elif response is not None:
        yield from _codes_in(attribute(response, "data"))


def _codes_in(value: Any, depth: int = _DEPTH) -> Iterator[str]:
    """Give the codes in a value: itself, or what stands in a body where bodies have them."""
    text = word(value)
    if text is not None:
        if _CODE.fullmatch(text) or (depth < _DEPTH and text.isdigit()):
            yield text
        return
    if mapping(value) is not None:
        yield from _codes_in_body(value, depth - 1) if depth else ()
    elif type(value) in (list, tuple):
        first = next(iter(listed(value, 1)), None)
        yield from () if type(first) in (list, tuple) else _codes_in(first, depth)
    elif depth == _DEPTH and number(value) is None:
        code = attribute(value, "code")  # azure's error has one of its own
        if type(code) is str and _CODE.fullmatch(code):
            yield code


def _codes_in_body(body: Any, depth: int) -> Iterator[str]:
    inner = item(body, "Error")
    if inner is not None:
        yield from _codes_in({"code": item(inner, "Code")}, depth)
    for name in _IN_BODY:
        yield from _codes_in(item(body, name), depth)


def _said(error: BaseException) -> str:
    """Return what is said beside the status, in lower case: the message, and the body that was read."""
    parts = [text_of(error)]
    response = response_of(error)
    values = [attribute(error, name) for name in present(error, _SAYING)]
    if response is not None:
        fields = attribute(response, "__dict__")  # only what has been read: a property might fetch the rest
        values += [item(fields, "_content"), item(response, "Error"), item(response, "error")]
    for value in values:
        parts += _texts_in(value, 3)
    return " ".join(parts).lower()


def _texts_in(value: Any, depth: int) -> list[str]:
    if type(value) is str:
        return [value[:1_000]]
    if type(value) is bytes:
        return [value[:2_000].decode("utf-8", "replace")]
    if not depth:
        return []
    return [text for inner in listed(value) for text in _texts_in(inner, depth - 1)]
