"""Which database a URL means."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

_SQLITE = ("sqlite", "sqlite+aiosqlite", "sqlite+pysqlite")
_POSTGRES = ("postgresql", "postgres", "postgresql+asyncpg", "postgres+asyncpg")
_SQLITE_EXAMPLE = "'sqlite+aiosqlite:///file.db' (three slashes: relative to here; four: absolute)"
_EXAMPLES = f"{_SQLITE_EXAMPLE} or 'postgresql+asyncpg://user:password@host/database'"
_PASSWORD = re.compile(r"(?<=:)(?!//).*(?=@)|(?<=password=)[^&'\"]*")


def target_of(url: str) -> Path | URL:
    """Return the absolute path of the SQLite file, or the URL of the PostgreSQL database, that is named.

    Raises:
        ValueError: it is no URL, names another kind of database, or one in memory.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError, TypeError, AttributeError):
        raise ValueError(f"{_shown(url)} is not a database URL; write it like {_EXAMPLES}") from None
    if parsed.drivername in _POSTGRES:
        return _server_of(parsed)
    if parsed.drivername in _SQLITE:
        return _path_of(parsed)
    raise ValueError(
        f"{parsed.render_as_string()!r} names a {parsed.drivername!r} database, and SqlStore keeps letters "
        f"in SQLite and, through asyncpg, in PostgreSQL; write {_EXAMPLES}"
    )


def _shown(url: object) -> str:
    """Return what is no URL as a message may show it: without what may be a password."""
    return _PASSWORD.sub("***", repr(url))


def secrets_of(url: URL) -> tuple[str, ...]:
    """Return what of a URL must be in no text: passwords, as they are and as they are quoted."""
    given = url.query.get("password", ())
    said = [str(url.password or ""), *((given,) if isinstance(given, str) else given)]
    return tuple(
        dict.fromkeys(form for it in said if it for form in (it, quote(it, safe=""), quote_plus(it)))
    )


def _server_of(parsed: URL) -> URL:
    plain = parsed.set(query={})
    if "@" in (parsed.host or ""):  # what the password has behind it is taken for the host
        said = _shown(plain.render_as_string(hide_password=False))
        raise ValueError(f"{said} has more than one '@'; write the ones in user and password as %40")
    shown = plain.render_as_string()
    if parsed.port is not None and not 0 < parsed.port < 1 << 16:
        raise ValueError(f"{shown!r} names the port {parsed.port}; write one from 1 to 65535")
    if not parsed.database:
        raise ValueError(f"{shown!r} names no database; write 'postgresql+asyncpg://user@host/database'")
    if any("\x00" in str(part) for part in (parsed.host, parsed.database, parsed.username, parsed.password)):
        raise ValueError(f"{shown!r} has a NUL, which no name can hold")
    return parsed


def _path_of(parsed: URL) -> Path:
    shown = parsed.render_as_string()
    if parsed.host or parsed.username or parsed.password or parsed.port:
        raise ValueError(f"{shown!r} names a server, and SQLite has none; write {_SQLITE_EXAMPLE}")
    if parsed.query:
        raise ValueError(
            f"{shown!r} has parameters {sorted(parsed.query)}; SqlStore takes its options as arguments"
        )
    database = parsed.database
    if not database or database == ":memory:" or database.startswith("file:"):
        raise ValueError(
            f"{shown!r} names no file; letters in memory would be lost with the process. "
            f"Write {_SQLITE_EXAMPLE}, or use eventbus_dlq.MemoryStore for tests"
        )
    if "\x00" in database:
        raise ValueError(f"{shown!r} has a NUL, which no file name can hold")
    return Path(database).absolute()
