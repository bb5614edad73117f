"""What kind of failure an exception is: ``classify(exception)``.

The user's own rules are asked first, then the exception's type, then its explicit cause.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeAlias, cast

from eventbus.classify.kinds import CATEGORY_OF, ROUTE_OF, Category, Classification, Kind, Route
from eventbus.classify.types import kind_of_type
from eventbus.groups import cause_of
from eventbus.log import Log

__all__ = [
    "CATEGORY_OF",
    "ROUTE_OF",
    "Category",
    "Classification",
    "ClassifyRule",
    "Kind",
    "Route",
    "classify",
]

ClassifyRule: TypeAlias = Callable[[BaseException], Classification | Kind | None]
"""A user's own rule: return what the exception is, or None to leave it to the next rule."""

_MAX_CAUSES = 8
_OF_KIND = {kind: Classification(kind) for kind in Kind}
_UNKNOWN = _OF_KIND[Kind.UNKNOWN]

_log = Log()


def classify(exception: BaseException, rules: Sequence[ClassifyRule] = ()) -> Classification:
    """Tell what kind of failure ``exception`` is. Never raises, whatever the exception does.

    ``rules`` come first, in order; one that raises is logged and passed over. An explicit cause
    (``raise AppError from ReadTimeout``) tells when the outer exception's type does not.
    """
    for rule in rules:
        answer = _ask(rule, exception)
        if answer is not None:
            return answer
    current: BaseException | None = exception
    for _ in range(_MAX_CAUSES):
        if current is None:
            break
        kind = _kind_of(current)
        if kind is not None:
            return _OF_KIND[kind]
        current = cause_of(current)
    return _UNKNOWN


def _kind_of(exception: BaseException) -> Kind | None:
    try:
        return kind_of_type(cast("Hashable", type(exception)))
    except Exception:  # a class is anybody's code too: its metaclass may have a hash that raises
        return None


def _ask(rule: ClassifyRule, exception: BaseException) -> Classification | None:
    try:
        answer = rule(exception)
        if answer is None or isinstance(answer, Classification):
            return answer
        return Classification(Kind(answer))
    except Exception:
        _log.exception("classify.rule_failed", rule=repr(rule))
        return None
