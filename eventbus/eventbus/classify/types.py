"""The first evidence: the exception's type, by name along its MRO, looked up once per class.

Names instead of classes, so that no library is imported to be recognised. A class is named by the package
that it belongs to and its own name, because the modules within a package move from release to release.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple, cast

from eventbus.classify.coded import Evidence
from eventbus.classify.families import FAMILIES, GENERAL
from eventbus.classify.kinds import Kind
from eventbus.classify.names import told_by
from eventbus.classify.reading import mro, names
from eventbus.classify.tables import LEANS, SILENT, TELLS

Reader = Callable[[BaseException], Evidence | None]

_BUILTINS = "builtins"
_MAX_NAME = 120


class Weight(IntEnum):
    """How much a type tells."""

    NOTHING = 0
    LEANS = 1
    """What it most likely is, when nothing better is found."""
    INHERITED = 2
    """A class of one's own below a builtin such as ValueError: a cause that tells goes before it."""
    NAMED = 3
    """Its name tells; structured attributes go before it."""
    TELLS = 4
    """It is known, and nothing more needs to be asked."""


class TypeEvidence(NamedTuple):
    """What the type of an exception says.

    Attributes:
        kind: what went wrong, or None.
        weight: how much that counts.
        readers: what its structured attributes are read with, in order.
    """

    kind: Kind | None
    weight: Weight
    readers: tuple[Reader, ...]


def evidence_of_type(cls: type[BaseException]) -> TypeEvidence:
    """Return what the class of an exception says; remembered for the classes that were met last."""
    try:
        return _remembered(cast("Hashable", cls))
    except BaseException:  # a metaclass may have a hash that raises
        return _look_up(cls)


@lru_cache(maxsize=2_048)
def _remembered(cls: Hashable) -> TypeEvidence:
    return _look_up(cast("type[BaseException]", cls))


def _look_up(cls: type[BaseException]) -> TypeEvidence:
    kind, weight = _kind_along(mro(cls))
    readers: tuple[Reader, ...] | None = None
    for one in mro(cls):
        module, _ = names(one)
        if module != _BUILTINS:
            readers = readers or FAMILIES.get(module) or FAMILIES.get(module.partition(".")[0])
    return TypeEvidence(kind, weight, GENERAL if readers is None else readers)


def _kind_along(classes: tuple[type, ...]) -> tuple[Kind | None, Weight]:
    leaning: Kind | None = None
    for place, cls in enumerate(classes):
        module, qualname = names(cls)
        kind, weight = _kind_by_table(module, qualname)
        if weight is Weight.TELLS:
            if place and module == _BUILTINS and kind in (Kind.VALIDATION, Kind.BUG):
                return leaning or kind, Weight.LEANS if leaning else Weight.INHERITED
            return kind, weight
        if weight is Weight.LEANS:
            return leaning or kind, weight
        if weight is Weight.NAMED:
            break
        told = None if module == _BUILTINS else told_by(qualname.rpartition(".")[2][:_MAX_NAME])
        if told is not None and not told.is_vague:
            return told.kind, Weight.NAMED
        if told is not None:
            leaning = leaning or told.kind
    return leaning, Weight.NOTHING if leaning is None else Weight.LEANS


def _kind_by_table(module: str, qualname: str) -> tuple[Kind | None, Weight]:
    """Look a class up by its package, the longest name first; a NAMED one without a kind is silent."""
    package = module
    while package:
        key = f"{package}:{qualname}"
        if key in TELLS:
            return TELLS[key], Weight.TELLS
        if key in LEANS:
            return LEANS[key], Weight.LEANS
        if key in SILENT:
            return None, Weight.NAMED
        package = package.rpartition(".")[0]
    return None, Weight.NOTHING
