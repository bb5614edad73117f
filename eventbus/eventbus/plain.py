"""Plain event classes: all fields are scalars, so that a look tells whether a payload can be stored.

The look is compiled once per class: it is on the way of every publish.
"""

from __future__ import annotations

import dataclasses
import types
from datetime import date, datetime, time, timedelta
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin
from uuid import UUID

import pydantic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_ESCAPED = 6  # JSON writes an ASCII character in at most 6 bytes, \u0000
_LEAST, _MOST = -(2**63), 2**64 - 1  # larger integers are rare, and as long as they like
_FIXED = 64  # and a scalar of these types in less than this:
_FIXED_SIZE: frozenset[type] = frozenset({bool, type(None), datetime, date, time, timedelta, UUID})
_PLAIN = _FIXED_SIZE | {int, float, str}


def plain_fields(cls: type[Any]) -> Mapping[str, Any] | None:
    """Return the fields with their annotations when all are scalars, stored just as they are; else None."""
    if issubclass(cls, pydantic.BaseModel):
        return _plain_model_fields(cls)
    if hasattr(cls, "__slots__") or hasattr(cls, "__pydantic_fields__"):
        return None
    fields = {field.name: field.type for field in dataclasses.fields(cls)}
    return fields if all(_is_plain(annotation) for annotation in fields.values()) else None


def _plain_model_fields(cls: type[pydantic.BaseModel]) -> Mapping[str, Any] | None:
    decorators = cls.__pydantic_decorators__
    if (
        decorators.field_serializers
        or decorators.model_serializers
        or cls.model_config.get("extra") == "allow"
    ):
        return None
    for field in cls.model_fields.values():
        if not _is_plain(field.annotation):
            return None
        if not all(type(item).__module__ == "annotated_types" for item in field.metadata):
            return None
    return {name: field.annotation for name, field in cls.model_fields.items()}


def _is_plain(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin is Union or origin is types.UnionType:
        return all(_is_plain(part) for part in get_args(annotation))
    if origin is Literal:
        return all(type(value) in _PLAIN for value in get_args(annotation))
    return annotation in _PLAIN


def most_characters(fields: Mapping[str, Any], limit: int) -> int:
    """Return how many ASCII characters the texts of a payload may have and surely fit ``limit`` bytes."""
    overhead = 2 + sum(len(field) * _ESCAPED + 4 + _FIXED for field in fields)
    return (limit - overhead) // _ESCAPED


def compile_check(
    fields: Mapping[str, Any], *, most_characters: int, otherwise: Callable[[Any], bytes | None]
) -> Callable[[Any], bytes | None]:
    """Compile the check of a class: one expression over its fields.

    The values are looked at, not the annotations, which nobody enforces after validation: an
    annotation only says which kind is looked for first. What is not as expected goes the slow way.
    """
    conditions: list[str] = []
    lengths: list[str] = []
    for number, (field, annotation) in enumerate(fields.items()):
        value = f"(v{number} := values[{field!r}])"
        if annotation is str:
            conditions.append(f"{value}.__class__ is str and v{number}.isascii()")
            lengths.append(f"len(v{number})")
        elif annotation is int:
            conditions.append(f"{value}.__class__ is int and {_LEAST} <= v{number} <= {_MOST}")
        elif annotation is float:
            conditions.append(f"{value}.__class__ is float and isfinite(v{number})")
        else:
            conditions.append(f"{value}.__class__ in fixed_size")
    if lengths:
        conditions.append(f"{' + '.join(lengths)} <= {most_characters}")
    source = (
        "def check(payload):\n"
        "    values = payload.__dict__\n"
        "    try:\n"
        f"        if {' and '.join(conditions) or 'True'}:\n"
        "            return None\n"
        "    except KeyError:\n"
        "        pass\n"
        "    return otherwise(payload)\n"
    )
    scope: dict[str, Any] = {"isfinite": isfinite, "fixed_size": _FIXED_SIZE, "otherwise": otherwise}
    exec(source, scope)  # noqa: S102 - of names that repr() has quoted
    check: Callable[[Any], bytes | None] = scope["check"]
    return check
