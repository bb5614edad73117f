"""The code of a failure, for the record that is kept of it."""

from __future__ import annotations

from eventbus.classify.causes import carried_by
from eventbus.classify.families import GENERAL
from eventbus.classify.reading import attribute, is_bare, number
from eventbus.classify.types import evidence_of_type
from eventbus.storable import clean

_MAX_CODE = 64
_MAX_CAUSES = 4
_PLAIN = ("code", "status_code", "status", "error_code", "errno", "returncode")


def code_along(error: BaseException) -> str | None:
    """Return the code of an exception, or of the first behind it that has one."""
    current: BaseException | None = error
    for _ in range(_MAX_CAUSES):
        if current is None:
            break
        code = _code_of(current)
        if code is not None:
            return clean(code)[:_MAX_CODE]
        current = carried_by(current)
    return None


def _code_of(error: BaseException) -> str | None:
    readers = evidence_of_type(type(error)).readers
    if readers is GENERAL and is_bare(error):
        return None
    for reader in readers:
        read = reader(error)
        if read is not None:
            return read.code
    if not readers:  # what such a class calls its code is a link to a page of documentation
        return None
    for name in _PLAIN:
        value = attribute(error, name)
        if type(value) is str and value:
            return value[:_MAX_CODE]
        code = number(value)
        if code is not None:
            return str(code)
    return None
