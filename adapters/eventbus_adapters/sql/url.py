"""Which database a URL means."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

_SQLITE = ("sqlite", "sqlite+aiosqlite", "sqlite+pysqlite")
_EXAMPLE = "'sqlite+aiosqlite:///file.db' (three slashes: relative to here; four: absolute)"


def path_of(url: str) -> Path:
    """Return the absolute path of the SQLite file that ``url`` names.

    Raises:
        ValueError: it is no URL, names another kind of database, or one in memory.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError, TypeError, AttributeError):
        raise ValueError(f"{url!r} is not a database URL; write it like {_EXAMPLE}") from None
    shown = parsed.render_as_string(hide_password=True)
    if parsed.drivername not in _SQLITE:
        raise ValueError(
            f"{shown!r} names a {parsed.drivername!r} database, and SqlStore keeps letters in SQLite; "
            f"write {_EXAMPLE}"
        )
    if parsed.host or parsed.username or parsed.password or parsed.port:
        raise ValueError(f"{shown!r} names a server, and SQLite has none; write {_EXAMPLE}")
    if parsed.query:
        raise ValueError(
            f"{shown!r} has parameters {sorted(parsed.query)}; SqlStore takes its options as arguments"
        )
    database = parsed.database
    if not database or database == ":memory:" or database.startswith("file:"):
        raise ValueError(
            f"{shown!r} names no file; letters in memory would be lost with the process. Write {_EXAMPLE}, "
            "or use eventbus_dlq.MemoryStore for tests"
        )
    if "\x00" in database:
        raise ValueError(f"{shown!r} has a NUL, which no file name can hold")
    return Path(database).absolute()
