"""Which URLs and options name a PostgreSQL database, and what needs to be installed for it."""

from __future__ import annotations

import importlib.util

import pytest
from letters import build_letter
from tests.postgres_server import PrivateServer

from eventbus_adapters.sql import SqlStore
from eventbus_dlq.errors import StoreUnavailable


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg", "postgres+asyncpg"])
async def test_every_scheme_means_the_same_database(scheme: str, url: str) -> None:
    store = SqlStore(url.replace("postgresql+asyncpg", scheme, 1))
    assert repr(store) == "SqlStore('postgresql://guarded@/postgres')"
    await store.open()
    (kept,) = await store.add([build_letter()])
    await store.close()
    other = SqlStore(url)
    await other.open()
    assert (await other.get(kept)).id == kept
    await other.close()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgresql://ann:s3cret@db", "names no database"),
        ("postgresql://ann:s3cret@db/", "names no database"),
        ("postgresql://db/a\x00b", "NUL"),
        ("postgresql://ann:s3cret@db:notaport/shop", "not a database URL"),
        ("postgresql+psycopg://ann:s3cret@db/shop", "through asyncpg"),
        ("postgresql://ann:s3cret@[::1/shop", "not a database URL"),
        ("postgresql:/db/shop?user=ann&password=s3cret&sslmode=require", "not a database URL"),
        ("postgresql://ann:not@s3cret@db/shop?password=s3cret", "more than one '@'; write the ones in user"),
        ("postgresql://ann:s3cret@db:99999/shop", "names the port 99999; write one from 1 to 65535"),
        ("postgresql://ann:s3cret@db:0/shop", "names the port 0; write one"),
    ],
)
def test_a_url_that_names_no_database_is_refused_without_its_password(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as refusal:
        SqlStore(url)
    assert "s3cret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("timeout", 0.0),
        ("timeout", -1.0),
        ("timeout", float("nan")),
        ("timeout", 1e9),
        ("busy_timeout", -1.0),
        ("busy_timeout", float("inf")),
        ("synchronous", "OFF"),
    ],
)
def test_an_option_with_no_such_value_is_refused(option: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{option}="):
        SqlStore("postgresql://db/shop", **{option: value})  # type: ignore[arg-type]  # that is the point


def test_a_missing_library_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "eventbus_adapters.sql.postgres.driver.find_spec",
        lambda name: None if name == "asyncpg" else found(name),
    )
    with pytest.raises(ModuleNotFoundError, match=r"need asyncpg; pip install 'eventbus\[postgres\]'"):
        SqlStore("postgresql://db/shop")


@pytest.mark.parametrize("parameter", ["sslmode=nonsense", "target_session_attrs=nonsense", "nonsense=1"])
async def test_a_parameter_that_is_refused_needs_a_person(url: str, parameter: str) -> None:
    with pytest.raises(
        StoreUnavailable, match=r"refuses a parameter .*; correct the ones in its URL"
    ) as caught:
        await SqlStore(f"{url}&{parameter}").open()
    assert not caught.value.retryable


async def test_a_server_without_encryption_says_so_when_it_is_asked_for(
    running_server: PrivateServer,
) -> None:
    with pytest.raises(StoreUnavailable, match=r"offers no encrypted connection .*another sslmode") as caught:
        await SqlStore(f"{running_server.tcp_url()}?sslmode=require").open()
    assert not caught.value.retryable


async def test_a_password_among_the_parameters_is_in_no_text(running_server: PrivateServer) -> None:
    url = f"postgresql://127.0.0.1:{running_server.port}/postgres?user=guarded&password=s3cret%2Fone"
    store = SqlStore(url)
    with pytest.raises(StoreUnavailable, match="refuses the login") as caught:
        await store.open()
    for text in (repr(store), str(caught.value)):
        assert "s3cret" not in text


@pytest.mark.parametrize(("synchronous", "setting"), [("FULL", "on"), ("NORMAL", "off")])
async def test_synchronous_says_whether_the_servers_disk_is_waited_for(
    url: str, synchronous: str, setting: str
) -> None:
    store = SqlStore(f"{url}&synchronous_commit=off", synchronous=synchronous)  # type: ignore[arg-type]  # parametrised
    await store.open()
    shown = await store._read(
        lambda connection: connection.exec_driver_sql("SHOW synchronous_commit").scalar()
    )
    assert shown == setting
    await store.close()
