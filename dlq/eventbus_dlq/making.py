"""Making frozen records as fast as records that are not frozen."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")


def maker(record: Callable[P, R]) -> Callable[P, R]:
    """Return a function that makes what the class ``record``, a frozen dataclass with slots, makes.

    The class itself sets each field through ``object.__setattr__``, which is most of what a record of
    forty fields costs. The function fills an object of a class with the same slots that is not frozen,
    and then changes its class, as CPython allows where the slots are the same.
    """
    cls: Any = record
    unfrozen = type(cls.__name__, (), {"__slots__": cls.__slots__})
    known: dict[str, Any] = {"unfrozen": unfrozen, "frozen": cls}
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
