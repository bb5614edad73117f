"""What kind of failure an exception is: ``classify(exception)``.

Evidence counts in this order: the user's own rules; the exception's type, by qualified name along its MRO;
structured attributes such as an HTTP status, a SQLSTATE or an error number; a class name that tells by
itself; the explicit cause; and only last words in the message.
"""

from __future__ import annotations

from collections.abc import Sequence

from eventbus.classify.kinds import CATEGORY_OF, ROUTE_OF, Category, Classification, Kind, Route
from eventbus.classify.rules import ClassifyRule, ask_rules

__all__ = [
    "CATEGORY_OF",
    "ROUTE_OF",
    "Category",
    "Classification",
    "ClassifyRule",
    "Kind",
    "Route",
    "classify",
    "code_of",
    "load_tables",
]

_UNKNOWN = Classification(Kind.UNKNOWN)


def classify(exception: BaseException, rules: Sequence[ClassifyRule] = ()) -> Classification:
    """Tell what kind of failure ``exception`` is. Never raises, whatever the exception does.

    ``rules`` come first, in order; one that raises or answers nonsense is logged and passed over.
    ``retry_after`` is what the failing side asked us to wait, in seconds, at most a day.

    A group is transient only when all its members are; with a permanent one it is what that is.
    """
    if rules:
        answer = ask_rules(rules, exception)
        if answer is not None:
            return answer
    from eventbus.classify.judging import judge  # with its tables, which importing the bus does not load

    try:
        return judge(exception)
    except BaseException:  # an exception is anybody's code, and its failure must be kept whatever it does
        return _UNKNOWN


def code_of(exception: BaseException) -> str | None:
    """Return the code that ``exception`` carries, as text of at most 64 characters; None without one.

    That is a SQLSTATE, an HTTP status, an error number or a code in words: what classification reads too,
    of the exception or of the one that it was made of. Never raises.
    """
    from eventbus.classify.codes import code_along

    try:
        return code_along(exception)
    except BaseException:
        return None


def load_tables() -> None:
    """Load, some 20 ms, what the first failure would else wait for with everything beside it."""
    classify(Exception())
    code_of(Exception())
