"""Looking into exceptions, past whatever their classes say of themselves.

An exception class may have a ``__class__`` that lies, a ``__cause__`` that is a property, or an attribute
look-up that raises: the interpreter's own fields and types are read instead.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

_FIELDS: dict[str, Any] = dict(vars(BaseException))
_CAUSE = _FIELDS["__cause__"].__get__
_CONTEXT = _FIELDS["__context__"].__get__
_SUPPRESS_CONTEXT = _FIELDS["__suppress_context__"].__get__
_TRACEBACK = _FIELDS["__traceback__"].__get__
_MEMBERS = vars(BaseExceptionGroup)["exceptions"].__get__


def members(error: BaseException) -> tuple[BaseException, ...]:
    """Return the members of an exception group, nothing for other errors."""
    if not is_a(error, BaseExceptionGroup):
        return ()
    found: tuple[BaseException, ...] = _MEMBERS(error)
    return found


def is_a(error: BaseException, *kinds: type[BaseException]) -> bool:
    """Tell the class of an error by its type: ``__class__`` is anybody's code."""
    return issubclass(type(error), kinds)


def holds(error: BaseException, kind: type[BaseException]) -> bool:
    """Tell whether an error is of that kind, or a group with one in it."""
    waiting = [error]
    while waiting:
        inner = members(waiting[-1])
        last = waiting.pop()
        if not inner and is_a(last, kind):
            return True
        waiting.extend(inner)
    return False


def cause_of(error: BaseException) -> BaseException | None:
    """Return ``__cause__`` as the interpreter keeps it."""
    cause: BaseException | None = _CAUSE(error)
    return cause


def context_of(error: BaseException) -> BaseException | None:
    """Return ``__context__`` as the interpreter keeps it, None when it is suppressed."""
    context: BaseException | None = None if _SUPPRESS_CONTEXT(error) else _CONTEXT(error)
    return context


def traceback_of(error: BaseException) -> TracebackType | None:
    """Return ``__traceback__`` as the interpreter keeps it."""
    traceback: TracebackType | None = _TRACEBACK(error)
    return traceback
