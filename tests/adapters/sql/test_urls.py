"""Which URLs and options a store takes."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from letters import build_letter

from eventbus_adapters.sql import SqlStore
from eventbus_adapters.sql.url import target_of


@pytest.mark.parametrize("scheme", ["sqlite", "sqlite+aiosqlite", "sqlite+pysqlite"])
def test_every_sqlite_scheme_means_the_same_file(scheme: str) -> None:
    assert target_of(f"{scheme}:////var/lib/shop.db") == Path("/var/lib/shop.db")


def test_a_relative_path_is_fixed_when_the_store_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert target_of("sqlite:///shop.db") == tmp_path / "shop.db"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "not a database URL"),
        ("shop.db", "not a database URL"),
        ("sqlite:///shop.db?mode=ro", "parameters"),
        ("sqlite://shop.db", "three slashes"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite://", "names no file"),
        ("sqlite:///file:shop.db", "names no file"),
        ("sqlite:///a\x00b.db", "NUL"),
        ("postgresql+psycopg://ann:secret@db/shop", "through asyncpg"),
        ("mysql://db:notaport/shop", "not a database URL"),
    ],
)
def test_a_url_that_names_no_sqlite_file_is_refused(url: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        SqlStore(url)


def test_a_refusal_never_shows_a_password() -> None:
    with pytest.raises(ValueError, match="mysql") as refusal:
        SqlStore("mysql://ann:s3cret@db/shop")
    assert "s3cret" not in str(refusal.value)


@pytest.mark.parametrize("level", ["OFF", "full", "", None])
def test_synchronous_is_full_or_normal(level: str) -> None:
    with pytest.raises(ValueError, match="synchronous="):
        SqlStore("sqlite:///shop.db", synchronous=level)  # type: ignore[arg-type]  # that is the point


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf"), 1e9])
def test_busy_timeout_is_a_finite_number_of_seconds(seconds: float) -> None:
    with pytest.raises(ValueError, match="busy_timeout="):
        SqlStore("sqlite:///shop.db", busy_timeout=seconds)


@pytest.mark.parametrize(("level", "number"), [("FULL", 2), ("NORMAL", 1)])
def test_the_writer_uses_the_level_that_was_asked_for(tmp_path: Path, level: str, number: int) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/shop.db", synchronous=level)  # type: ignore[arg-type]  # parametrised
    store._database.create()
    with store._database.connect("write") as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == number
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


async def test_odd_characters_in_a_path_are_part_of_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "a b#c%41é?"
    folder.mkdir()
    store = SqlStore(f"sqlite:///{quote(str(folder))}/shop.db")
    await store.open()
    await store.add([build_letter()])
    await store.close()
    assert [it.name for it in folder.parent.iterdir()] == [folder.name]
    assert repr(store).startswith("SqlStore('")
