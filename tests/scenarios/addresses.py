"""How a synchronous engine reaches the database of a store."""

from __future__ import annotations

from sqlalchemy.engine import make_url


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
