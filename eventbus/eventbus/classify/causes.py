"""What stands behind an exception: its explicit cause, an exception it carries, the members of a group."""

from __future__ import annotations

from eventbus.classify.reading import args_of, attribute, exception, is_bare, listed, present
from eventbus.groups import cause_of, members

MAX_LEAVES = 200
"""How many members of a group are looked at, from both ends; a group may be endless."""

_CARRIERS = (
    "orig",
    "reason",
    "exc",
    "cause",
    "original_exception",
    "original_error",
    "original",
    "inner_exception",
    "inner",
    "last_exception",
    "last_error",
    "os_error",
    "underlying",
    "wrapped",
    "exception",
    "error",
    "source",
)


def carried_by(error: BaseException) -> BaseException | None:
    """Return the exception that another was made of: raised from it, or handed to it.

    What was merely being handled when it was raised (``__context__``) says nothing about it.
    """
    cause = cause_of(error)
    if cause is not None:
        return cause
    for value in args_of(error)[:2]:
        found = exception(value)
        if found is not None and found is not error:
            return found
    if is_bare(error):
        return None
    for name in present(error, _CARRIERS):
        found = exception(attribute(error, name))
        if found is not None and found is not error:
            return found
    return _last_attempt(error)


def _last_attempt(error: BaseException) -> BaseException | None:
    """Return what the last try ended with, which tenacity keeps as a future that is done."""
    for name in present(error, ("last_attempt",)):
        return exception(attribute(attribute(error, name), "_exception"))
    return None


def leaves_of(error: BaseException) -> list[BaseException]:
    """Return the errors in a group and in groups within it, bounded; nothing for what is no group."""
    waiting: list[BaseException] = list(_bounded(_members_of(error)))
    leaves: list[BaseException] = []
    seen = {id(error)}
    for _ in range(4 * MAX_LEAVES):
        if not waiting or len(leaves) >= MAX_LEAVES:
            break
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        inner = _members_of(one)
        if inner:
            waiting[:0] = _bounded(inner)
        else:
            leaves.append(one)
    return leaves


def _members_of(error: BaseException) -> tuple[BaseException, ...]:
    inner = members(error)
    if inner:
        return inner
    if not present(error, ("exceptions",)):
        return ()
    carried = listed(attribute(error, "exceptions"), MAX_LEAVES)
    found = tuple(one for one in carried if exception(one) is not None)
    return found if len(found) == len(carried) else ()


def _bounded(inner: tuple[BaseException, ...]) -> tuple[BaseException, ...]:
    half = MAX_LEAVES // 2
    return inner if len(inner) <= MAX_LEAVES else (*inner[:half], *inner[-half:])
