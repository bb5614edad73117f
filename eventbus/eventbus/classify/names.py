"""Telling names: ``InvoiceNotFound``, ``PaymentGatewayTimeout``, ``insufficient_quota``.

English puts the head last, so the last concept in a name tells: ``TimeoutValidationError`` is about a
value, ``ValidationServiceTimeout`` is late. The concepts stand in :mod:`eventbus.classify.concepts`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from eventbus.classify.alternatives import Alternatives
from eventbus.classify.concepts import CONCEPTS, NOTHING, QUALIFIERS, VAGUE
from eventbus.classify.kinds import Kind

_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_ACRONYMS = re.compile(r"OAuth|GraphQL|MySQL|IPv[46]|NoSQL|gRPC|OpenAI|GitHub|GitLab")

_NOTHING = "nothing"
_CONCEPTS = Alternatives([(_NOTHING, NOTHING), *((kind.name, CONCEPTS[kind]) for kind in CONCEPTS)])
_VAGUE = Alternatives([("vague", VAGUE)])
_QUALIFIED = rf"\b(?:{QUALIFIERS})(?: \w+)? ?$"
_HELD_WRONG = frozenset(
    (Kind.TIMEOUT, Kind.CONNECTION, Kind.RATE_LIMIT, Kind.QUOTA_EXCEEDED, Kind.UNAVAILABLE, Kind.RESOURCE)
)


class Told(NamedTuple):
    """What a name says.

    Attributes:
        kind: what it is about.
        is_vague: whether any better evidence goes before it, as for ``ApiError``.
    """

    kind: Kind
    is_vague: bool = False


def words_of(name: str) -> str:
    """Split a name of a class or a code into words: ``HTTPReadTimeout`` is ``http read timeout``."""
    name = _ACRONYMS.sub(lambda found: found[0].capitalize(), name)
    return " ".join(_WORD.findall(name)).lower()


@lru_cache(maxsize=2_048)
def told_by(name: str) -> Told | None:
    """Return what the name of a class, or a code in words, says; None when it says nothing.

    A name is at most some hundred characters long; the caller sees to that.
    """
    text = words_of(name)
    last, start = _NOTHING, 0
    for concept, place in _CONCEPTS.found_in(text):
        if concept != _NOTHING:
            last, start = concept, place
    if last == _NOTHING:
        return Told(Kind.EXTERNAL_API, is_vague=True) if any(_VAGUE.found_in(text)) else None
    kind = Kind[last]
    if kind in _HELD_WRONG and re.search(_QUALIFIED, text[:start]):
        return Told(Kind.VALIDATION)  # an InvalidTimeout is a value
    return Told(kind)
