"""What database drivers carry: SQLSTATE, the result codes of SQLite, and the numbers of each vendor."""

from __future__ import annotations

import re

from eventbus.classify.coded import Evidence
from eventbus.classify.kinds import Kind
from eventbus.classify.reading import args_of, attribute, item, listed, number, present, text_of
from eventbus.classify.sqlstates import is_sqlstate, kind_of_sqlstate
from eventbus.classify.vendor_codes import (
    CLICKHOUSE,
    MONGODB,
    MYSQL,
    ORACLE,
    ORACLE_DRIVER,
    SQL_SERVER,
    SQLITE,
)
from eventbus.classify.words import kind_of_text

_ORACLE = r"(ORA|DPY)-(\d{4,5})\b"
_ORACLE_DIGITS = {"ORA": 5, "DPY": 4}
_NATIVE = r"\((-?\d{1,6})\) \(SQL"


def sqlstate(error: BaseException) -> Evidence | None:
    """Read a SQLSTATE, of psycopg, psycopg2, asyncpg, mysql.connector, snowflake and others."""
    for name in present(error, ("sqlstate", "pgcode")):
        state = attribute(error, name)
        if is_sqlstate(state):
            kind = kind_of_sqlstate(state)
            if kind is Kind.CONNECTION and kind_of_text(text_of(error)) is Kind.PERMISSION:
                kind = Kind.PERMISSION  # connected, and not let in
            return Evidence(kind, state)
    return None


def sqlite(error: BaseException) -> Evidence | None:
    """Read the name of SQLite's result code, which sqlite3 and its relatives carry since Python 3.11."""
    if not present(error, ("sqlite_errorname",)):
        return None
    name = attribute(error, "sqlite_errorname")
    if type(name) is not str or not name.startswith("SQLITE_"):
        return None
    return Evidence(SQLITE.get(name.split("_")[1]), name[:64])


def mysql(error: BaseException) -> Evidence | None:
    """Read MySQL's number: the first argument of PyMySQL, mysqlclient and asyncmy, or ``errno``."""
    args = args_of(error)
    for value in (attribute(error, "errno"), *args[:1]):
        code = number(value)
        if code is not None and code > 0:
            state = sqlstate(error)
            kind = MYSQL.get(code)
            return Evidence(kind or (state.kind if state else None), str(code))
    return sqlstate(error)


def oracle(error: BaseException) -> Evidence | None:
    """Read Oracle's number from the error object that is the first argument, or from the head of the text."""
    for value in args_of(error)[:1]:
        code = number(attribute(value, "code"))
        if code:
            return _oracle_coded("ORA", code)
        told = attribute(value, "full_code")
        full = re.match(_ORACLE, told if type(told) is str else text_of(error))
        if full:
            return _oracle_coded(full[1], int(full[2]))
    return None


def _oracle_coded(by: str, code: int) -> Evidence:
    known = ORACLE if by == "ORA" else ORACLE_DRIVER
    return Evidence(known.get(code), f"{by}-{code:0{_ORACLE_DIGITS[by]}}")


def sql_server(error: BaseException) -> Evidence | None:
    """Read SQL Server's number: the first argument of pymssql."""
    code = number(attribute(error, "number"))
    for first in args_of(error)[:1]:
        code = number(next(iter(listed(first)), first)) or code
    return None if code is None else Evidence(SQL_SERVER.get(code), str(code))


def odbc(error: BaseException) -> Evidence | None:
    """Read the SQLSTATE that is pyodbc's first argument; for a general error the driver's number after it."""
    args = args_of(error)
    if not args or not is_sqlstate(args[0]):
        return None
    native = re.search(_NATIVE, text_of(error))
    kind = SQL_SERVER.get(int(native[1])) if native else None
    return Evidence(kind or kind_of_sqlstate(args[0]), args[0])


def mongodb(error: BaseException) -> Evidence | None:
    """Read MongoDB's number, of a bulk write that of its first error."""
    code = number(attribute(error, "code"))
    details = attribute(error, "details")
    errors = listed(item(details, "writeErrors"))
    if errors:
        code = number(item(errors[0], "code"))
    elif code is None or code == 65:
        code = number(item(details, "code")) or number(item(item(details, "writeConcernError"), "code"))
    return None if code is None else Evidence(MONGODB.get(code), str(code))


def clickhouse(error: BaseException) -> Evidence | None:
    """Read ClickHouse's number, an attribute of clickhouse-driver, at the head of the server's text."""
    code = number(attribute(error, "code"))
    if not code:
        told = re.search(r"\b[Cc]ode: ?(\d{1,4})\b", text_of(error))
        code = int(told[1]) if told else None
    return None if not code else Evidence(CLICKHOUSE.get(code), str(code))
