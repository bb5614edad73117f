"""Looking into exception groups."""

from __future__ import annotations

from typing import cast


def members(error: BaseException) -> tuple[BaseException, ...]:
    """Return the members of an exception group, nothing for other errors."""
    if not isinstance(error, BaseExceptionGroup):
        return ()
    return cast("BaseExceptionGroup[BaseException]", error).exceptions


def holds(error: BaseException, kind: type[BaseException]) -> bool:
    """Tell whether an error is of that kind, or a group with one in it."""
    if members(error):
        return any(holds(member, kind) for member in members(error))
    return isinstance(error, kind)
