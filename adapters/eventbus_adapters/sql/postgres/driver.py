"""asyncpg, as far as it is used without SQLAlchemy; it is imported when a connection is opened."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Callable

_NEEDED = ("asyncpg", "greenlet")


class Driver(Protocol):
    """A connection of asyncpg's, which says nothing of its types."""

    def is_closed(self) -> bool:
        """Tell whether it is closed, by whichever side."""
        ...

    def terminate(self) -> None:
        """Close it without a word to the server."""
        ...

    def get_server_pid(self) -> int:
        """Return the number by which notices name their sender."""
        ...

    async def execute(self, query: str, *values: object) -> str:
        """Run a statement; what it returns is dropped."""
        ...

    async def fetchval(self, query: str, *values: object) -> Any:
        """Return the first value of the first row."""
        ...

    async def add_listener(self, channel: str, heard: Callable[[Any, int, str, object], None]) -> None:
        """Listen on a channel."""
        ...

    def add_termination_listener(self, ended: Callable[[object], None]) -> None:
        """Have ``ended`` called when the connection has ended."""
        ...


def require_libraries() -> None:
    """Check that what the store needs is installed.

    Raises:
        ModuleNotFoundError: it is not; the message says what to install.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ModuleNotFoundError(
            f"dead letters in PostgreSQL need {' and '.join(missing)}; pip install 'eventbus[postgres]'",
            name=missing[0],
        )


async def connect(dsn: str, *, timeout: float, command_timeout: float) -> Driver:
    """Open a connection; a URL's parameters are the ones of libpq.

    Raises:
        OSError: the server cannot be reached, ``TimeoutError`` included.
        Exception: asyncpg's, for what the server refuses.
    """
    asyncpg: Any = import_module("asyncpg")
    return cast("Driver", await asyncpg.connect(dsn, timeout=timeout, command_timeout=command_timeout))


def errors() -> tuple[type[Exception], ...]:
    """Return what using a connection can raise."""
    asyncpg: Any = import_module("asyncpg")
    return (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)
