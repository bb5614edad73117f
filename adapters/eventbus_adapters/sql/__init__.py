"""Dead letters in an SQL database: ``SqlStore("sqlite+aiosqlite:///file.db")``."""

from eventbus_adapters.sql.store import SqlStore

__all__ = ["SqlStore"]
