"""Roles, schemas and servers that do not let a store write: told when it is opened, and nothing is made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from letters import build_letter
from tests.postgres_server import PASSWORD, PrivateServer

from eventbus import EventBus
from eventbus_adapters.sql import SqlStore
from eventbus_dlq import DeadLetterQueue
from eventbus_dlq.errors import StoreUnavailable

ROLE = "poor"
ROLES_PASSWORD = "a-crust-of-bread"


class Server:
    """A database of its own on the private server, and a role that owns nothing in it."""

    def __init__(self, server: PrivateServer) -> None:
        self.url = server.tcp_url(database="rights")
        self.poor_url = self.url.replace(f"guarded:{PASSWORD}", f"{ROLE}:{ROLES_PASSWORD}")
        self._plain = server.url("rights", scheme="postgresql")

    def run(self, *statements: str) -> list[Any]:
        """Run statements by hand; return what the last one found."""
        with psycopg.connect(self._plain, autocommit=True) as connection:
            found: list[Any] = []
            for statement in statements:
                cursor = connection.execute(statement.encode())
                found = cursor.fetchall() if cursor.description else []
            return found

    def tables(self) -> int:
        ((number,),) = self.run("SELECT count(*) FROM pg_class WHERE relname LIKE 'eventbus%'")
        return int(number)


@pytest.fixture
def database(running_server: PrivateServer) -> Iterator[Server]:
    def run(*statements: str) -> None:
        with psycopg.connect(running_server.url(scheme="postgresql"), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    run("CREATE DATABASE rights", f"CREATE ROLE {ROLE} LOGIN PASSWORD '{ROLES_PASSWORD}'")
    yield Server(running_server)
    run("DROP DATABASE rights WITH (FORCE)", f"DROP ROLE {ROLE}")


async def refusal_to_open(url: str) -> StoreUnavailable:
    store = SqlStore(url)
    with pytest.raises(StoreUnavailable) as refused:
        await store.open()
    assert PASSWORD not in str(refused.value)
    assert ROLES_PASSWORD not in str(refused.value)
    return refused.value


@pytest.mark.parametrize(
    ("statement", "search_path"),
    [("SELECT 1", "missing"), ("CREATE SCHEMA closed", "closed")],
    ids=["missing", "closed"],
)
async def test_a_schema_that_is_not_there_for_the_role(
    database: Server, statement: str, search_path: str
) -> None:
    database.run(statement)
    refused = await refusal_to_open(f"{database.poor_url}?search_path={search_path}")
    assert "make the schema that search_path names, and grant this role USAGE and CREATE" in str(refused)
    assert not refused.retryable
    assert not database.tables()


async def test_a_schema_in_which_the_role_may_make_no_tables(database: Server) -> None:
    refused = await refusal_to_open(database.poor_url)
    assert "may not be used by this role" in str(refused)
    assert "permission denied for schema public" in str(refused)
    assert not refused.retryable
    assert not database.tables()


async def test_tables_that_the_role_may_only_read(database: Server) -> None:
    store = SqlStore(database.url)
    await store.open()
    await store.close()
    database.run(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {ROLE}")
    refused = await refusal_to_open(database.poor_url)
    assert "may not be written by the role 'poor'; grant it SELECT, INSERT, UPDATE, DELETE on" in str(refused)
    assert "eventbus_dead_letters," in str(refused)
    assert not refused.retryable
    database.run(f"GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {ROLE}")
    refused = await refusal_to_open(database.poor_url)
    assert "'poor'; grant it USAGE on public.eventbus_" in str(refused)
    assert "public.eventbus_dead_letters_seq_seq" in str(refused)
    database.run(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {ROLE}")
    store = SqlStore(database.poor_url)
    await store.open()
    assert await store.add([letter := build_letter()]) == [letter.id]
    await store.close()


async def test_a_server_that_is_read_only(database: Server) -> None:
    store = SqlStore(database.url)
    await store.open()
    await store.close()
    database.run("ALTER DATABASE rights SET default_transaction_read_only = on")
    refused = await refusal_to_open(database.url)
    assert "is read-only; connect to the primary" in str(refused)
    assert refused.retryable


async def test_a_bus_says_the_same_and_can_be_started_when_it_is_put_right(database: Server) -> None:
    bus = EventBus(dlq=DeadLetterQueue(SqlStore(database.poor_url)))
    with pytest.raises(StoreUnavailable, match="permission denied for schema public"):
        await bus.start()
    database.run(f"GRANT CREATE ON SCHEMA public TO {ROLE}")
    async with bus:
        assert bus.running
