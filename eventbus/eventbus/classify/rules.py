"""The user's own rules, asked before anything else."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias, cast

from eventbus.classify.kinds import Classification, Kind
from eventbus.log import Log

ClassifyRule: TypeAlias = Callable[[BaseException], Classification | Kind | None]
"""A user's own rule: return what the exception is, or None to leave it to the next rule.

It may return a :class:`Kind`, its name, or a :class:`Classification`. One that raises, or returns anything
else, is told in the log once and passed over.
"""

_MAX_TOLD = 1_000

_log = Log()
_told: dict[int, ClassifyRule] = {}  # kept, lest another one is made at the same place


def checked_rules(rules: object) -> tuple[ClassifyRule, ...]:
    """Return rules as they are kept.

    Raises:
        ValueError: they are no tuple or list, or one cannot be called.
    """
    if not isinstance(rules, (tuple, list)):
        raise ValueError(f"classify={rules!r} must be a tuple or a list of rules")
    for rule in cast("tuple[object, ...]", rules):
        if not callable(rule):
            raise ValueError(f"classify holds {rule!r}, which cannot be called with an exception")
    return tuple(cast("tuple[ClassifyRule, ...]", rules))


def ask_rules(rules: Sequence[ClassifyRule], error: BaseException) -> Classification | None:
    """Return what the first rule that knows the exception says of it."""
    for rule in rules:
        answer = _ask(rule, error)
        if answer is not None:
            return answer
    return None


def _ask(rule: ClassifyRule, error: BaseException) -> Classification | None:
    try:
        answer = rule(error)
        if answer is None:
            return None
        if isinstance(answer, Classification):
            return Classification(Kind(answer.kind), _wait(answer.retry_after))
        return Classification(Kind(answer))
    except BaseException as fault:  # a rule is the user's code, and the failure must be kept all the same
        _tell(rule, fault)
        return None


def _wait(seconds: float | None) -> float | None:
    """Return what a rule wants to wait.

    Raises:
        ValueError: it is negative, or no number that is finite.
    """
    if seconds is None:
        return None
    wait = float(seconds)
    if not math.isfinite(wait) or wait < 0:
        raise ValueError(f"retry_after={seconds!r} must be a finite number of seconds, 0 or more")
    return wait


def _tell(rule: ClassifyRule, fault: BaseException) -> None:
    """Log what is wrong with a rule, once for each."""
    key = id(rule)
    if key in _told or len(_told) >= _MAX_TOLD:
        return
    _told[key] = rule
    _log.exception("classify.rule_failed", rule=_name_of(rule), error=type(fault).__qualname__)


def _name_of(rule: ClassifyRule) -> str:
    try:
        return f"{rule.__module__}.{rule.__qualname__}"
    except BaseException:  # a callable object need not have a name
        return type(rule).__qualname__
