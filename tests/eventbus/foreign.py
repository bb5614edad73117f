"""Classes that look like those of libraries that are not installed."""

from __future__ import annotations

from typing import Any


def foreign(name: str, /, *bases: type, **attributes: Any) -> type[Exception]:
    """Make a class of a library: ``foreign("redis.exceptions.ConnectionError")``."""
    module, _, qualname = name.rpartition(".")
    made: type[Exception] = type(qualname, bases or (Exception,), {"__module__": module, **attributes})
    return made


def having(error: BaseException, /, **attributes: Any) -> BaseException:
    """Give an exception attributes, as a library's constructor does."""
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


class Response:
    """An HTTP response as clients hand it over."""

    def __init__(self, status: int, headers: Any = None, body: bytes = b"") -> None:
        self.status_code = status
        self.headers = headers or {}
        self._content = body
