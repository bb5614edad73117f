"""How long the failing side asked us to wait: ``Retry-After`` (RFC 9110, 10.2.3) and its relatives."""

from __future__ import annotations

import math
import time
from collections.abc import Hashable, Iterator, Mapping
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from itertools import islice
from typing import Any, cast

from eventbus.classify.http import response_of
from eventbus.classify.reading import attribute, item, mapping, mro, names, present

MAX_RETRY_AFTER = 86_400.0
"""Seconds. A longer wait is cut to it."""

_ABSURD = 366 * 86_400.0
_EPOCH = 1_000_000_000.0
_MAX_HEADERS = 200
_ATTRIBUTES = ("retry_after", "retry_after_seconds", "retry_after_s", "retry_in", "retry_delay")
_ON_LIMITS = (*_ATTRIBUTES, "seconds")
_ON_RESPONSE = ("headers",)
_ON_ERROR = ("headers", "response_headers", "http_headers")
_RESETS = ("x-ratelimit-reset-after", "x-ratelimit-reset", "ratelimit-reset")


def retry_after_of(error: BaseException, *, limited: bool) -> float | None:
    """Return the seconds that an exception, or the response in it, asks us to wait; None without a hint.

    Negative and absurd values are no hints; more than a day is a day. When the failure is that we were
    ``limited``, the moment at which the limit is lifted counts as a hint too.
    """
    for name in present(error, _ON_LIMITS if limited else _ATTRIBUTES):
        wait = _seconds(attribute(error, name))
        if wait is not None:
            return wait
    for headers in _headers_of(error):
        wait = _in_headers(headers, limited=limited)
        if wait is not None:
            return wait
    return None


def header_of(error: BaseException, name: str) -> str | None:
    """Return a header, named in lower case, of the response that an exception carries."""
    for headers in _headers_of(error):
        value = _header(_readable(headers), name)
        if value is not None:
            return value
    return None


def _headers_of(error: BaseException) -> Iterator[Any]:
    for name in present(error, _ON_ERROR):
        yield attribute(error, name)
    response = response_of(error)
    if response is None:
        return
    for name in present(response, _ON_RESPONSE):
        yield attribute(response, name)
    found: object = mapping(response)
    if found is not None and type(response) is not dict:
        yield found  # httplib2's response is its own headers
    yield item(found, "headers")
    yield item(found, "headers")
    yield item(item(found, "ResponseMetadata"), "HTTPHeaders")


def _in_headers(headers: object, *, limited: bool) -> float | None:
    known = _readable(headers)
    wait = _seconds(_header(known, "retry-after"))
    if not limited:
        return wait
    exact = _seconds(_header(known, "retry-after-ms"), unit=0.001)
    if exact is not None:
        return exact
    if wait is None:
        wait = next(filter(None, (_until(_header(known, name)) for name in _RESETS)), None)
    return wait


def _readable(headers: object) -> Any:
    """Return headers to be asked by name in lower case; None of unknown classes, whose code is anybody's."""
    kind = type(headers)
    try:
        if kind in (dict, list, tuple):
            pairs = cast("dict[Any, Any]", headers).items() if kind is dict else cast("list[Any]", headers)
            return {name.lower(): value for name, value in islice(pairs, _MAX_HEADERS) if type(name) is str}
        return headers if _answers(cast("Hashable", kind)) else None
    except BaseException:  # pairs that are none, or a class whose metaclass raises
        return None


def _header(headers: Any, name: str) -> str | None:
    if headers is None:
        return None
    try:
        return _text(headers.get(name))
    except BaseException:  # a mapping may be anybody's code
        return None


@lru_cache(maxsize=256)
def _answers(kind: Hashable) -> bool:
    """Tell whether a class is one of headers: a mapping, or the message that the standard library has."""
    cls: type[object] = cast("type[object]", kind)
    return issubclass(cls, Mapping) or any(names(one) == ("email.message", "Message") for one in mro(cls))


def _text(value: object) -> str | None:
    if type(value) is bytes:
        return value[:200].decode("latin-1")
    if type(value) in (int, float):
        return str(value)
    return value[:200] if type(value) is str else None


def _seconds(value: object, *, unit: float = 1.0) -> float | None:
    """Read a number of seconds, a text of one, a timedelta or an HTTP date."""
    if value is None or type(value) is bool:
        return None
    if type(value) is timedelta:
        return _sane(value.total_seconds())
    if type(value) in (int, float):
        return _sane(_float(value) * unit)
    if type(value) is not str or len(value) > 100:
        return None
    text = value.strip()
    try:
        return _sane(float(text) * unit)
    except (ValueError, OverflowError):
        return _date(text)


def _float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _date(text: str) -> float | None:
    from email.utils import parsedate_to_datetime  # needed only when one is met

    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)  # noqa: UP017 - "-0000" is UTC by RFC 5322
    return _sane((moment - datetime.now(timezone.utc)).total_seconds())  # noqa: UP017


def _until(text: str | None) -> float | None:
    """Read when a limit is lifted: seconds from now, or since the epoch."""
    wait = _seconds(text)
    if wait is not None or text is None:
        return wait
    try:
        moment = float(text)
    except ValueError:
        return None
    if moment > _EPOCH * 1000:
        moment /= 1000
    return _sane(moment - time.time()) if moment >= _EPOCH else None


def _sane(seconds: float) -> float | None:
    if not math.isfinite(seconds) or not 0 <= seconds <= _ABSURD:
        return None
    return min(seconds, MAX_RETRY_AFTER)
