"""Foreign errors stop here: what SQLite and SQLAlchemy raise becomes ``StoreUnavailable``."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError

from eventbus_dlq.errors import StoreUnavailable


@dataclass(frozen=True, slots=True)
class _Meaning:
    """What a result code of SQLite means to the user.

    Attributes:
        text: what is the matter.
        advice: what to do about it.
        retryable: whether the same call may succeed in a moment.
    """

    text: str
    advice: str
    retryable: bool


_MEANINGS = {
    sqlite3.SQLITE_BUSY: _Meaning(
        "is locked by another transaction",
        "try again when that has ended, or raise busy_timeout; within one of your own publish with session=",
        True,
    ),
    sqlite3.SQLITE_LOCKED: _Meaning("is locked within this process", "try again in a moment", True),
    sqlite3.SQLITE_FULL: _Meaning(
        "cannot grow, the disk is full", "free some space; nothing was changed", True
    ),
    sqlite3.SQLITE_IOERR: _Meaning("cannot be read or written", "check the disk and its free space", True),
    sqlite3.SQLITE_NOMEM: _Meaning("needs more memory than there is", "free some memory", True),
    sqlite3.SQLITE_READONLY: _Meaning(
        "is read-only", "make the file and its directory writable for this user", False
    ),
    sqlite3.SQLITE_PERM: _Meaning(
        "may not be opened", "give this user the right to read and write it", False
    ),
    sqlite3.SQLITE_CORRUPT: _Meaning(
        "is damaged", "restore it from a backup, or recover it with sqlite3", False
    ),
    sqlite3.SQLITE_NOTADB: _Meaning(
        "is not an SQLite database", "name another file, or move this one away", False
    ),
    sqlite3.SQLITE_CANTOPEN: _Meaning(
        "cannot be opened",
        "check that it is still there, and may be written together with its directory",
        False,
    ),
}
_UNKNOWN = _Meaning("failed", "see the cause", False)
_PRIMARY = 0xFF  # an extended result code keeps the primary one in its lowest byte


def unavailable(database: object, error: BaseException) -> StoreUnavailable:
    """Return the error for the caller: it names the database, the cause and the way out.

    A ``StoreUnavailable`` is returned as a new one, because several callers may be told of one failure
    and an exception that is raised twice mixes up their tracebacks.
    """
    if isinstance(error, StoreUnavailable):
        told = StoreUnavailable(str(error), retryable=error.retryable)
    else:
        cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
        code = getattr(cause, "sqlite_errorcode", None)
        meaning = _UNKNOWN if code is None else _MEANINGS.get(code & _PRIMARY, _UNKNOWN)
        name = getattr(cause, "sqlite_errorname", type(cause).__name__)
        told = StoreUnavailable(
            f"the dead-letter store {database} {meaning.text} ({name}: {cause}); {meaning.advice}",
            retryable=meaning.retryable,
        )
    told.__cause__ = error
    return told
