"""What SQLite and PostgreSQL write differently in the queries that Core compiles."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import Boolean, ColumnElement, Text, literal
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NullType

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Connection
    from sqlalchemy.sql.compiler import SQLCompiler

_STRING = r'"([^"\\\u0001-\u001f]|\\(["\\/bfnrt]|u00[01][1-9a-fA-F]|u0010))*"'
_STRINGS = rf"^\s*\[\s*({_STRING}\s*(,\s*{_STRING}\s*)*)?\]\s*$"
"""A list of texts in JSON, as a regular expression of PostgreSQL's, which cannot cast what is broken."""

_UNICODE = ("und-x-icu", "pg_c_utf8")  # collations that know the case of more than ASCII
_BEST_COLLATION = f"""
SELECT collname FROM pg_collation WHERE collname IN ('{"', '".join(_UNICODE)}')
AND collencoding IN (-1, (SELECT encoding FROM pg_database WHERE datname = current_database()))
ORDER BY collname DESC LIMIT 1
"""  # noqa: S608  # all of it stands here


class _Among(FunctionElement[bool]):
    """Whether a column is in a JSON list of texts."""

    inherit_cache = True
    # As a Boolean it would become a comparison with 1, which no index answers.
    type: Any = NullType()


class _Carries(FunctionElement[bool]):
    """Whether a JSON list in a column has a text in common with another one."""

    inherit_cache = True
    type = Boolean()


class _Contains(FunctionElement[bool]):
    """Whether a lower-case text is part of one of several columns, in upper or lower case."""

    inherit_cache = True
    type = Boolean()


def among(column: ColumnElement[Any], values: Iterable[str]) -> ColumnElement[bool]:
    """Return the condition that ``column`` is one of ``values``, however many they are."""
    return _Among(column, _as_json(values))


def carries(column: ColumnElement[Any], values: Iterable[str]) -> ColumnElement[bool]:
    """Return the condition that the JSON list in ``column`` has one of ``values``; a broken one has none."""
    return _Carries(column, _as_json(values))


def contains(text: str, columns: Iterable[ColumnElement[Any]]) -> ColumnElement[bool]:
    """Return the condition that ``text`` is part of one of ``columns``, in upper or lower case."""
    return _Contains(literal(text.lower(), Text()), *columns)


def fit(connection: Connection) -> None:
    """Have PostgreSQL tell upper from lower case as well as this server can. Once for each engine."""
    found = connection.exec_driver_sql(_BEST_COLLATION).scalar()
    connection.dialect.eventbus_collation = found  # type: ignore[attr-defined]  # where compilers look


@compiles(_Among, "sqlite")
def _among_in_sqlite(element: _Among, compiler: SQLCompiler, **kw: Any) -> str:
    column, values = _arguments(element, compiler, kw)
    return f"{column} IN (SELECT value FROM json_each({values}))"  # noqa: S608  # rendered by Core


@compiles(_Among, "postgresql")
def _among_in_postgres(element: _Among, compiler: SQLCompiler, **kw: Any) -> str:
    column, values = _arguments(element, compiler, kw)
    return f"{column} = ANY (ARRAY(SELECT json_array_elements_text(CAST({values} AS JSON))))"


@compiles(_Carries, "sqlite")
def _carries_in_sqlite(element: _Carries, compiler: SQLCompiler, **kw: Any) -> str:
    column, values = _arguments(element, compiler, kw)
    readable = f"CASE WHEN json_valid({column}) THEN {column} ELSE '[]' END"
    return f"""EXISTS (SELECT 1 FROM json_each({readable}) AS carried
        WHERE CAST(carried.value AS TEXT) IN (SELECT value FROM json_each({values})))"""  # noqa: S608  # by Core


@compiles(_Carries, "postgresql")
def _carries_in_postgres(element: _Carries, compiler: SQLCompiler, **kw: Any) -> str:
    column, values = _arguments(element, compiler, kw)
    readable = f"CASE WHEN {column} ~ '{_STRINGS}' THEN CAST({column} AS JSON) ELSE '[]' END"
    wanted = f"ARRAY(SELECT json_array_elements_text(CAST({values} AS JSON)))"
    return f"""EXISTS (SELECT 1 FROM json_array_elements_text({readable}) AS carried (tag)
        WHERE carried.tag = ANY ({wanted}))"""  # noqa: S608  # by Core


@compiles(_Contains, "sqlite")
def _contains_in_sqlite(element: _Contains, compiler: SQLCompiler, **kw: Any) -> str:
    return f"eventbus_contains({', '.join(_arguments(element, compiler, kw))}) = 1"


@compiles(_Contains, "postgresql")
def _contains_in_postgres(element: _Contains, compiler: SQLCompiler, **kw: Any) -> str:
    text, *columns = _arguments(element, compiler, kw)
    collation = getattr(compiler.dialect, "eventbus_collation", None)
    collated = "" if collation is None else f' COLLATE "{collation}"'
    return f"({' OR '.join(f'position({text} IN lower({column}{collated})) > 0' for column in columns)})"


def _arguments(element: FunctionElement[bool], compiler: SQLCompiler, kw: dict[str, Any]) -> list[str]:
    return [compiler.process(it, **kw) for it in element.clauses]


def _as_json(values: Iterable[str]) -> ColumnElement[str]:
    return literal(json.dumps(list(values)), Text())
