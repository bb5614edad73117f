"""The first evidence: the exception's type, by qualified name along its MRO.

Names instead of classes, so that no library is imported to be recognised.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import lru_cache
from typing import cast

from eventbus.classify.kinds import Kind

KIND_OF_TYPE: dict[str, Kind] = {
    # the standard library
    "builtins.TimeoutError": Kind.TIMEOUT,
    "builtins.ConnectionError": Kind.CONNECTION,
    "builtins.EOFError": Kind.CONNECTION,
    "builtins.FileNotFoundError": Kind.NOT_FOUND,
    "builtins.FileExistsError": Kind.CONFLICT,
    "builtins.PermissionError": Kind.PERMISSION,
    "builtins.BlockingIOError": Kind.CONTENTION,
    "builtins.MemoryError": Kind.RESOURCE,
    "builtins.RecursionError": Kind.BUG,
    "builtins.NotImplementedError": Kind.BUG,
    "builtins.ArithmeticError": Kind.BUG,
    "builtins.AssertionError": Kind.BUG,
    "builtins.AttributeError": Kind.BUG,
    "builtins.ImportError": Kind.BUG,
    "builtins.LookupError": Kind.BUG,
    "builtins.NameError": Kind.BUG,
    "builtins.SyntaxError": Kind.BUG,
    "builtins.TypeError": Kind.BUG,
    "builtins.ValueError": Kind.VALIDATION,
    "concurrent.futures._base.TimeoutError": Kind.TIMEOUT,
    "socket.gaierror": Kind.CONNECTION,
    "ssl.SSLCertVerificationError": Kind.PERMISSION,
    "ssl.SSLError": Kind.CONNECTION,
    "sqlite3.IntegrityError": Kind.CONFLICT,
    "sqlite3.InterfaceError": Kind.BUG,
    "sqlite3.ProgrammingError": Kind.BUG,
    "trio.TooSlowError": Kind.TIMEOUT,
    # what a service commonly calls
    "aiohttp.client_exceptions.ClientConnectionError": Kind.CONNECTION,
    "asyncpg.exceptions.UniqueViolationError": Kind.CONFLICT,
    "httpcore.ConnectError": Kind.CONNECTION,
    "httpcore.TimeoutException": Kind.TIMEOUT,
    "httpx.NetworkError": Kind.CONNECTION,
    "httpx.ProtocolError": Kind.CONNECTION,
    "httpx.TimeoutException": Kind.TIMEOUT,
    "pydantic_core._pydantic_core.ValidationError": Kind.VALIDATION,
    "redis.exceptions.ConnectionError": Kind.CONNECTION,
    "redis.exceptions.TimeoutError": Kind.TIMEOUT,
    "requests.exceptions.ConnectionError": Kind.CONNECTION,
    "requests.exceptions.Timeout": Kind.TIMEOUT,
    "sqlalchemy.exc.IntegrityError": Kind.CONFLICT,
    "sqlalchemy.exc.NoResultFound": Kind.NOT_FOUND,
    "sqlalchemy.exc.TimeoutError": Kind.RESOURCE,
}


@lru_cache(maxsize=2_048)
def kind_of_type(error_type: Hashable) -> Kind | None:
    """Return the kind of the most specific known class of an exception type, or None if none is known."""
    for cls in cast("type[BaseException]", error_type).__mro__:
        kind = KIND_OF_TYPE.get(f"{cls.__module__}.{cls.__qualname__}")
        if kind is not None:
            return kind
    return None
