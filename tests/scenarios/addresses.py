"""How engines of an application's own reach the database of a store."""

from __future__ import annotations

from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

PATIENCE = 60.0
"""Seconds for which a session waits for its turn to write to SQLite."""


def plain(url: str) -> str:
    """Return the URL by which a synchronous engine reaches what a store's ``url`` means."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return url
    schema = parsed.query.get("search_path")
    parsed = parsed.difference_update_query(["search_path"]).set(drivername="postgresql+psycopg")
    if schema is not None:
        parsed = parsed.update_query_dict({"options": f"-csearch_path={schema}"})
    return parsed.render_as_string(hide_password=False)


def asynchronous_engine(url: str) -> AsyncEngine:
    """Return an asynchronous engine on what a store's ``url`` means."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        there = parsed.set(drivername="sqlite+aiosqlite")
        return create_async_engine(there, connect_args={"timeout": PATIENCE})
    schema = parsed.query.get("search_path")
    settings = {} if schema is None else {"search_path": schema}
    there = parsed.difference_update_query(["search_path"]).set(drivername="postgresql+asyncpg")
    return create_async_engine(there, connect_args={"server_settings": settings})
