"""Weighing the evidence: type, structured attributes, name, cause, and the message's words last.

1. A class that is known for what it is (``TELLS``, groups of one's own included) ends the search.
2. Structured attributes, read as its family of libraries writes them.
3. A class that names what it is about, its own name before those of the classes above it.
4. What stands behind it (cause, carried exception, members), when that is sure.
5. What a builtin above it means, what the message states, what the cause's message states.
6. What the class most likely is; at last hints such as ``retryable`` or an ``errno``.

A plain group of exceptions is judged by its leaves.
"""

from __future__ import annotations

import re
from enum import IntEnum
from typing import NamedTuple

from eventbus.classify.causes import carried_by, leaves_of
from eventbus.classify.families import GENERAL
from eventbus.classify.kinds import Category, Classification, Kind
from eventbus.classify.protocols import numbered
from eventbus.classify.reading import attribute, is_bare, present, text_of
from eventbus.classify.retry_after import retry_after_of
from eventbus.classify.types import TypeEvidence, Weight, evidence_of_type
from eventbus.classify.words import kind_of_text

_MAX_CAUSES = 8
_REFUSED_CERTIFICATE = r"(?i)certificate[ _]verify[ _]failed|SSLCertVerificationError"
_RETRYABLE = (
    "retryable",
    "is_retryable",
    "retriable",
    "is_transient",
    "transient",
    "temporary",
    "should_retry",
)
_LIMITS = (Kind.RATE_LIMIT, Kind.QUOTA_EXCEEDED)
_ASKING = (*_LIMITS, Kind.UNAVAILABLE, Kind.EXTERNAL_API, Kind.CONTENTION)
_CLASSIFIED = {kind: Classification(kind) for kind in Kind}


class Strength(IntEnum):
    """How sure a verdict is."""

    NONE = 0
    LEANS = 1
    WORDS = 2
    FIRM = 3


class Verdict(NamedTuple):
    """What one exception, with what stands behind it, is taken for.

    Attributes:
        kind: what went wrong, or None.
        strength: how sure that is.
    """

    kind: Kind | None
    strength: Strength


_NOTHING = Verdict(None, Strength.NONE)


def judge(error: BaseException) -> Classification:
    """Return what an exception is. May raise only what the interpreter itself does, out of memory for one."""
    leaves = [] if evidence_of_type(type(error)).weight is Weight.TELLS else leaves_of(error)
    if leaves:
        return _of_group([_single(leaf) for leaf in leaves])
    return _single(error)


def _of_group(parts: list[Classification]) -> Classification:
    """Judge a group: it is transient only when all its leaves are, else what cannot be helped in it."""
    for part in parts:
        if part.category is Category.PERMANENT:
            return part
    for part in parts:
        if part.category is Category.UNKNOWN:
            return part
    kinds = [part.kind for part in parts]
    kind = max(kinds, key=kinds.count)
    return Classification(kind, max((part.retry_after or 0.0 for part in parts), default=0.0) or None)


def _single(error: BaseException) -> Classification:
    kind = _verdict(error, _MAX_CAUSES).kind or Kind.UNKNOWN
    if kind not in _ASKING:
        return _CLASSIFIED[kind]
    wait = _asked_to_wait(error, limited=kind in _LIMITS)
    return _CLASSIFIED[kind] if wait is None else Classification(kind, wait)


def _asked_to_wait(error: BaseException, *, limited: bool) -> float | None:
    wait = retry_after_of(error, limited=limited)
    if wait is None:
        inner = carried_by(error)
        wait = None if inner is None else retry_after_of(inner, limited=limited)
    return wait


def _verdict(error: BaseException, depth: int) -> Verdict:
    known = evidence_of_type(type(error))
    if known.weight is Weight.TELLS:
        return Verdict(known.kind, Strength.FIRM)
    for reader in () if known.readers is GENERAL and is_bare(error) else known.readers:
        read = reader(error)
        if read is not None and read.kind is not None:
            return Verdict(read.kind, Strength.FIRM)
    if known.weight is Weight.NAMED:
        return Verdict(_unless_refused(error, known.kind), Strength.FIRM)
    return _from_behind_or_words(error, known, depth)


def _from_behind_or_words(error: BaseException, known: TypeEvidence, depth: int) -> Verdict:
    inner = _behind(error, depth)
    if inner.strength is Strength.FIRM:
        return inner
    if known.weight is Weight.INHERITED:
        return Verdict(known.kind, Strength.FIRM)
    if not present(error, ("statement",)):  # else the message quotes it, and what it was made of told all
        said = kind_of_text(text_of(error))
        if said is not None:
            return Verdict(said, Strength.WORDS)
    if inner.strength is Strength.WORDS:
        return inner
    if known.kind is not None:
        return Verdict(known.kind, Strength.LEANS)
    return inner if inner.kind is not None else _hinted(error)


def _behind(error: BaseException, depth: int) -> Verdict:
    if depth <= 0:
        return _NOTHING
    leaves = leaves_of(error) if depth < _MAX_CAUSES else []
    if leaves:
        return Verdict(_of_group([_single(leaf) for leaf in leaves[:16]]).kind, Strength.FIRM)
    inner = carried_by(error)
    return _NOTHING if inner is None else _verdict(inner, depth - 1)


def _unless_refused(error: BaseException, kind: Kind | None) -> Kind | None:
    if kind is Kind.CONNECTION and re.search(_REFUSED_CERTIFICATE, text_of(error)):
        return Kind.PERMISSION
    return kind


def _hinted(error: BaseException) -> Verdict:
    """Take hints: who asks us to wait limits us, what a retry can help is away, a number may be errno's."""
    if is_bare(error):
        return _NOTHING
    if retry_after_of(error, limited=False) is not None:
        return Verdict(Kind.RATE_LIMIT, Strength.LEANS)
    if any(attribute(error, name) is True for name in present(error, _RETRYABLE)):
        return Verdict(Kind.UNAVAILABLE, Strength.LEANS)
    read = numbered(error)  # late, because many a library has numbers of its own there
    return _NOTHING if read is None or read.kind is None else Verdict(read.kind, Strength.LEANS)
