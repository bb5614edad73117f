"""What PostgreSQL, asyncpg and the network raise, told as ``StoreUnavailable``."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy.exc import DBAPIError

from eventbus_dlq.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Collection


@dataclass(frozen=True, slots=True)
class Meaning:
    """What an error means to the user, and to the transaction that it ended.

    Attributes:
        text: what is the matter.
        advice: what to do about it.
        retryable: whether the same call may succeed in a moment.
        at_fault: whether it is the database, the network or their state, and no job of the transaction.
    """

    text: str
    advice: str
    retryable: bool
    at_fault: bool = True


_REFUSED = Meaning("cannot be reached", "check that the server runs and that the address is right", True)
_LOST = Meaning("has lost the connection", "try again in a moment", True)
_STOPPING = Meaning("is stopping or starting", "try again in a moment", True)
_CROWDED = Meaning(
    "has no connection left", "raise max_connections of the server, or run fewer processes", True
)
_CONFLICT = Meaning("was in a conflict with another transaction", "try again", True)
_SLOW = Meaning("took too long", "look for locks and load on the server, or raise the store's timeout", True)
_LOCKED = Meaning(
    "is locked by another transaction", "look for long transactions, or raise busy_timeout", True
)
_REJECTED = Meaning("refuses the login", "check user, password and pg_hba.conf", False)
_NO_TABLES = Meaning(
    "misses tables or columns",
    "to be told which, with this store's own URL in the environment variable EVENTBUS_STORE, run: "
    "eventbus db check",
    False,
)
READ_ONLY = Meaning(
    "is read-only", "connect to the primary, or add target_session_attrs=read-write to the URL", True
)
_NO_SCHEMA = Meaning(
    "has no schema for the tables",
    "make the schema that search_path names, and grant this role USAGE and CREATE on it",
    False,
)
_PARAMETERS = Meaning("refuses a parameter", "correct the ones in its URL", False)
_NO_TLS = Meaning(
    "offers no encrypted connection", "set it up for TLS, or choose another sslmode in the URL", False
)
_UNKNOWN = Meaning("failed", "see the cause", False, at_fault=False)

# By SQLSTATE, or by its first two characters: https://www.postgresql.org/docs/current/errcodes-appendix.html
_BY_STATE = {
    "08": _LOST,
    "25006": READ_ONLY,
    "25P03": _LOST,  # the server gave up waiting for this process in the middle of a transaction
    "28": _REJECTED,
    "3D000": Meaning("does not exist", "create the database, or name another one", False),
    "3F000": _NO_SCHEMA,
    "40": _CONFLICT,
    "42501": Meaning("may not be used by this role", "grant it the rights on schema and tables", False),
    "42704": _PARAMETERS,
    "42P01": _NO_TABLES,
    "42703": _NO_TABLES,
    "53100": Meaning("cannot grow, its disk is full", "free some space; nothing was changed", True),
    "53300": _CROWDED,
    "53": Meaning("is short of resources", "look at the server's memory and disk", True),
    "55P03": _LOCKED,
    "57014": _SLOW,
    "57": _STOPPING,
    "58": Meaning("has a fault of its machine", "look into the server's log", True),
    "XX001": Meaning("is damaged", "restore it from a backup", False),
    "XX002": Meaning("is damaged", "rebuild its indexes (REINDEX)", False),
}


def cause_of(error: BaseException) -> BaseException:
    """Return what the driver or the network raised, without the wrappers around it."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    while isinstance(cause.__cause__, BaseException) and hasattr(cause, "driver_exception"):
        cause = cause.__cause__
    return cause


def state_of(error: BaseException) -> str:
    """Return the SQLSTATE of an error; empty when the server has not said one."""
    state = getattr(cause_of(error), "sqlstate", None)
    return state if isinstance(state, str) else ""


def meaning_of(error: BaseException) -> Meaning:
    """Return what an error means."""
    cause, state = cause_of(error), state_of(error)
    if state:
        return _BY_STATE.get(state) or _BY_STATE.get(state[:2]) or _UNKNOWN
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Meaning("has a certificate that is not trusted", "check sslmode and sslrootcert", False)
    if type(cause) is ConnectionError and "SSL" in str(
        cause
    ):  # asyncpg's; other losses have types of their own
        return _NO_TLS
    if isinstance(cause, TimeoutError):
        return _SLOW
    if isinstance(cause, OSError):
        return _REFUSED
    if type(cause).__name__ in {"InterfaceError", "InternalClientError"}:  # asyncpg's, not imported for it
        return _LOST
    if type(cause).__name__ == "ClientConfigurationError":
        return _PARAMETERS
    return _UNKNOWN


def is_conflict(error: BaseException) -> bool:
    """Tell whether the server rolled the transaction back because of another one."""
    return state_of(error).startswith("40")


def is_lost(error: BaseException) -> bool:
    """Tell whether the connection broke, or was closed by the server."""
    return meaning_of(error) in (_LOST, _STOPPING)


def unavailable(shown: str, secrets: Collection[str], error: BaseException) -> StoreUnavailable:
    """Return the error for a caller, a new one for each: it names the database, the cause and the way out.

    Args:
        shown: the database, without its password.
        secrets: passwords, which are taken out of every text.
        error: what was raised.
    """
    if isinstance(error, StoreUnavailable):
        told = StoreUnavailable(str(error), retryable=error.retryable)
    else:
        cause, meaning = cause_of(error), meaning_of(error)
        said = str(cause) or type(cause).__name__
        told = StoreUnavailable(
            _without(
                secrets,
                f"the dead-letter store {shown} {meaning.text} ({type(cause).__name__}: {said}); "
                f"{meaning.advice}",
            ),
            retryable=meaning.retryable,
        )
    told.__cause__ = error
    return told


def _without(secrets: Collection[str], text: str) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return text
