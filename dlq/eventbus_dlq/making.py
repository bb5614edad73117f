"""Making frozen records as fast as records that are not frozen."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")


class Copier(Protocol[R]):
    """Copies a record with changes."""

    def __call__(self, record: R, /, **changes: Any) -> R:
        """Return ``record`` with other values in the fields that are named."""
        ...


def maker(record: Callable[P, R]) -> Callable[P, R]:
    """Return a function that makes what the class ``record``, a frozen dataclass with slots, makes.

    The class itself sets each field through ``object.__setattr__``, which is most of what a record of
    forty fields costs. The function fills an object of a class with the same slots that is not frozen,
    and then changes its class, as CPython allows where the slots are the same.
    """
    cls: Any = record
    known = _classes(cls)
    taken: list[str] = []
    lines: list[str] = []
    for field in fields(cls):
        name = field.name
        if field.default_factory is not MISSING:
            raise TypeError(f"{cls.__name__}.{name} has a default_factory; give it a default")
        if field.default is not MISSING:
            known[f"default_{name}"] = field.default
        if field.init:
            taken.append(name if field.default is MISSING else f"{name}=default_{name}")
        lines.append(f"    made.{name} = {name if field.init else f'default_{name}'}\n")
    source = (
        f"def make({', '.join(taken)}):\n"
        "    made = unfrozen()\n"
        f"{''.join(lines)}"
        "    made.__class__ = frozen\n"
        "    return made\n"
    )
    exec(source, known)  # noqa: S102 - made of the names of a class's fields
    return cast("Callable[P, R]", known["make"])


def drafting(record: type[R]) -> tuple[Callable[[], Any], Callable[[Any], R]]:
    """Return what begins an object of the class ``record``, and what finishes it: a draft takes any value.

    Its fields are set one by one in between. That is for records of many fields: more than fifteen keyword
    arguments Python hands over in a dictionary, which costs ten times as much. A field with a default has it
    from the beginning; whoever drafts has to set all others.
    """
    known = _classes(record)
    lines: list[str] = []
    for field in fields(cast("Any", record)):
        if field.default is not MISSING:
            known[f"default_{field.name}"] = field.default
            lines.append(f"    draft.{field.name} = default_{field.name}\n")
    source = (
        "def begin():\n"
        "    draft = unfrozen()\n"
        f"{''.join(lines)}"
        "    return draft\n"
        "def finish(draft):\n"
        "    draft.__class__ = frozen\n"
        "    return draft\n"
    )
    exec(source, known)  # noqa: S102 - made of the names of a class's fields
    return known["begin"], known["finish"]


def copier(record: type[R]) -> Copier[R]:
    """Return what copies objects of ``record`` with changes, as ``dataclasses.replace`` does, and as fast."""
    known = _classes(record)
    lines: list[str] = []
    for field in fields(cast("Any", record)):
        if not field.init:
            known[f"default_{field.name}"] = field.default
        value = f"record.{field.name}" if field.init else f"default_{field.name}"
        lines.append(f"    made.{field.name} = {value}\n")
    source = (
        "def copy(record, /, **changes):\n"
        "    made = unfrozen()\n"
        f"{''.join(lines)}"
        "    for name, value in changes.items():\n"
        "        setattr(made, name, value)\n"
        "    made.__class__ = frozen\n"
        "    return made\n"
    )
    exec(source, known)  # noqa: S102 - made of the names of a class's fields
    return cast("Copier[R]", known["copy"])


def _classes(cls: Any) -> dict[str, Any]:
    return {"unfrozen": type(cls.__name__, (), {"__slots__": cls.__slots__}), "frozen": cls}
