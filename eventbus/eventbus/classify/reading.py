"""Reading what an exception carries, whatever its own code does meanwhile.

An attribute may be a property that raises, or an object that answers to every name: only values of plain
types count, and nothing is called but what is documented to be harmless.
"""

from __future__ import annotations

import enum
from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, cast

MAX_TEXT = 600
"""How many characters of a message are looked at."""

_MRO = type.__dict__["__mro__"].__get__
_MODULE = type.__dict__["__module__"].__get__
_QUALNAME = type.__dict__["__qualname__"].__get__
_ARGS = vars(BaseException)["args"].__get__
_DELEGATING = ("tempfile",)  # urllib's HTTPError asks the file of its body for what it has not
_ENUM_NAME = "_name_"
_MAX_WORD = 100
_NO_NAMES: frozenset[str] = frozenset()


def mro(cls: type) -> tuple[type, ...]:
    """Return the classes of a class as the interpreter keeps them: a metaclass may say something else."""
    found: tuple[type, ...] = _MRO(cls)
    return found


def names(cls: type) -> tuple[str, str]:
    """Return module and qualified name of a class, empty where they are no text."""
    module, qualname = _MODULE(cls), _QUALNAME(cls)
    return (module if type(module) is str else ""), (qualname if type(qualname) is str else "")


def is_named(thing: object, *wanted: tuple[str, str]) -> bool:
    """Tell whether a thing is of a class with one of the names (module, qualified name), or of one below."""
    return any(names(cls) in wanted for cls in mro(type(thing)))


def attribute(thing: object, name: str) -> Any:
    """Return an attribute, or None when there is none or it cannot be read."""
    try:
        return getattr(thing, name, None)
    except BaseException:  # a property of anybody's, which may even raise KeyboardInterrupt
        return None


def present(thing: object, wanted: Sequence[str]) -> Sequence[str]:
    """Return which of the attributes a thing may have, in order: asking for one that is missing is dear."""
    try:
        of_class = _names_in_class(cast("Hashable", type(thing)))
    except BaseException:  # a metaclass may have a hash that raises
        return wanted
    if of_class is None:
        return wanted
    own = attribute(thing, "__dict__")
    if type(own) is not dict:
        own = {}
    return [name for name in wanted if name in own or name in of_class]


def is_bare(error: BaseException) -> bool:
    """Tell whether an exception carries nothing but its arguments."""
    try:
        return _names_in_class(cast("Hashable", type(error))) == _NO_NAMES and not attribute(
            error, "__dict__"
        )
    except BaseException:  # a metaclass may have a hash that raises
        return False


@lru_cache(maxsize=2_048)
def _names_in_class(cls: Hashable) -> frozenset[str] | None:
    """Return the names that a class and those above it define; None when it may answer to any name."""
    found: set[str] = set()
    for one in mro(cast("type", cls)):
        if one is object or one is BaseException or names(one)[0] in _DELEGATING:
            continue
        names_of_one = vars(one).keys()
        if "__getattr__" in names_of_one or "__getattribute__" in names_of_one:
            return None
        found.update(name for name in names_of_one if not name.startswith("__"))
    return frozenset(found)


def args_of(error: BaseException) -> tuple[Any, ...]:
    """Return ``args`` as the interpreter keeps it."""
    found: tuple[Any, ...] = _ARGS(error)
    return found


def number(value: object) -> int | None:
    """Return a whole number; a bool, and what only pretends, is none. Enums of ints are."""
    kind = type(value)
    if kind is bool or not issubclass(kind, int):
        return None
    return int.__index__(cast("int", value))


def word(value: object) -> str | None:
    """Return a short text, or the name of an enum's member; anything else is none."""
    kind = type(value)
    if kind is not str:
        if not issubclass(kind, enum.Enum):
            return None
        value = attribute(value, _ENUM_NAME)
        if type(value) is not str:
            return None
    text = cast("str", value)
    return text if 0 < len(text) <= _MAX_WORD else None


def mapping(value: object) -> Mapping[Any, Any] | None:
    """Return a mapping of a class that is one by inheritance, not one that merely says so."""
    kind = type(value)
    try:
        return cast("Mapping[Any, Any]", value) if kind is dict or issubclass(kind, Mapping) else None
    except BaseException:  # a metaclass may have a hash that raises
        return None


def item(value: object, key: str) -> Any:
    """Return what a mapping has under a key, or None; of anything else too."""
    found = mapping(value)
    if found is None:
        return None
    try:
        return found.get(key)
    except BaseException:  # a mapping may be anybody's code
        return None


def listed(value: object, limit: int = 10) -> tuple[Any, ...]:
    """Return the first items of a list or tuple, or values of a dict; of anything else nothing."""
    kind = type(value)
    if kind is list or kind is tuple:
        return tuple(cast("list[Any]", value)[:limit])
    return tuple(islice(cast("dict[Any, Any]", value).values(), limit)) if kind is dict else ()


def exception(value: object) -> BaseException | None:
    """Return the value when it is an exception."""
    return cast("BaseException", value) if issubclass(type(value), BaseException) else None


def text_of(error: BaseException) -> str:
    """Return the head of the error's message, empty when it cannot be read."""
    try:
        if type(error).__str__ is BaseException.__str__:
            return " ".join(_head(arg) for arg in args_of(error)[:5])[:MAX_TEXT]
        return _head(str(error))
    except BaseException:  # the text of an exception is anybody's code
        return ""


def _head(value: object) -> str:
    if issubclass(type(value), str):
        return str.__getitem__(cast("str", value), slice(MAX_TEXT))
    if type(value) is bytes:
        return value[:MAX_TEXT].decode("utf-8", "replace")
    return ""
