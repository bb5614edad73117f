"""``eventbus db``: the tables of a store, from the command line."""

from __future__ import annotations

import builtins
import importlib.util
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from letters import build_delivery, build_letter
from tests.adapters.sql.places import Place, place_of
from typer.testing import CliRunner, Result

from eventbus_adapters.cli.app import app
from eventbus_adapters.sql import SqlStore
from eventbus_adapters.sql.tables import SCHEMA_VERSION

RELEASED = Path(__file__).parents[1] / "sql" / "version_1.sql"
NEWEST = f"schema version {SCHEMA_VERSION}"


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with place_of(request.param, tmp_path) as found:
        yield found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Give a database of the release before, in a file."""
    path = tmp_path / "released.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(RELEASED.read_text())
    return path


def run(*arguments: str, store: str | None = None, **options: Any) -> Result:
    to = [] if store is None else ["--store", store]
    return CliRunner().invoke(app, ["db", *arguments, *to], **options)


def tables(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


def test_an_upgrade_creates_the_tables_once(place: Place) -> None:
    first, second = run("upgrade", store=place.url), run("upgrade", store=place.url)
    assert (first.exit_code, first.stdout) == (0, f"upgraded to {NEWEST}\n")
    assert (second.exit_code, second.stdout) == (0, f"nothing to do: the tables have {NEWEST}\n")
    check = run("check", store=place.url)
    assert (check.exit_code, check.stdout) == (0, f"the tables fit: {NEWEST}\n")


def test_an_older_database_is_told_of_and_upgraded(file: Path) -> None:
    url = f"sqlite:///{file}"
    before = run("check", store=url)
    assert before.exit_code == 1
    assert f"have schema version 1, and this eventbus needs {SCHEMA_VERSION}" in before.stderr
    assert "eventbus db upgrade" in before.stderr
    assert run("current", store=url).stdout == f"schema version 1; this eventbus has {NEWEST}\n"
    assert run("upgrade", store=url).exit_code == 0
    assert run("current", store=url).stdout == f"{NEWEST}; this eventbus has {NEWEST}\n"
    assert run("check", store=url).exit_code == 0


def test_the_url_comes_from_the_environment_too(file: Path) -> None:
    told = run("current", env={"EVENTBUS_STORE": f"sqlite:///{file}"})
    assert told.stdout.startswith("schema version 1;")


def test_without_a_url_it_says_where_one_is_looked_for() -> None:
    told = run("current", env={"EVENTBUS_STORE": ""})
    assert told.exit_code == 2
    assert "--store" in told.stderr
    assert "EVENTBUS_STORE" in run("current", "--help").stdout


def test_an_empty_database_is_told_of(place: Place) -> None:
    if place.kind == "sqlite":
        place.run(lambda connection: None)
    check, current = run("check", store=place.url), run("current", store=place.url)
    assert (check.exit_code, current.exit_code) == (1, 0)
    assert "there are no tables; with the same --store, run: eventbus db upgrade" in check.stderr
    assert current.stdout == f"no tables; this eventbus has {NEWEST}\n"


def test_a_change_by_hand_is_listed(place: Place) -> None:
    run("upgrade", store=place.url)
    place.run(lambda connection: connection.exec_driver_sql("DROP INDEX eventbus_letters_due"))
    check = run("check", store=place.url)
    assert check.exit_code == 1
    assert check.stdout.startswith("missing: eventbus_dead_letters: index CREATE INDEX eventbus_letters_due ")
    assert "change them back" in check.stderr


@pytest.mark.parametrize("command", ["upgrade", "current", "check", "downgrade --to 1 --yes"])
def test_a_newer_database_is_refused(tmp_path: Path, command: str) -> None:
    url = f"sqlite:///{tmp_path}/shop.db"
    run("upgrade", store=url)
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection, connection:
        connection.execute("UPDATE eventbus_meta SET value = '99' WHERE key = 'schema_version'")
    told = run(*command.split(), store=url)
    assert told.exit_code == 1
    assert "update eventbus" in told.stderr


def test_a_downgrade_says_what_it_gives_up_and_asks(file: Path) -> None:
    url = f"sqlite:///{file}"
    run("upgrade", store=url)
    told = run("downgrade", "--to", "1", store=url, input="n\n")
    assert told.exit_code == 1
    assert "no processes and no spools" in told.stderr
    assert f"Go back from {NEWEST} to 1?" in told.stderr
    assert "nothing was changed" in told.stderr
    assert "eventbus_spools" in tables(file)
    agreed = run("downgrade", "--to", "1", store=url, input="y\n")
    assert agreed.exit_code == 0
    assert agreed.stdout.endswith("went back to schema version 1\n")
    assert "eventbus_spools" not in tables(file)


def test_a_downgrade_that_nobody_can_answer_changes_nothing(file: Path) -> None:
    run("upgrade", store=f"sqlite:///{file}")
    assert run("downgrade", "--to", "1", store=f"sqlite:///{file}", input="").exit_code == 1
    assert "eventbus_spools" in tables(file)


def test_a_downgrade_with_yes_does_not_ask(place: Place) -> None:
    run("upgrade", store=place.url)
    told = run("downgrade", "--to", "1", "--yes", store=place.url)
    assert (told.exit_code, told.stdout) == (0, "went back to schema version 1\n")
    assert run("upgrade", store=place.url).stdout == f"upgraded to {NEWEST}\n"


async def test_a_downgrade_that_would_lose_deliveries_is_refused(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shop.db"
    store = SqlStore(url)
    await store.open()
    await store.accept([build_delivery()])
    await store.add([build_letter()])
    await store.close()
    told = run("downgrade", "--to", "1", "--yes", store=url)
    assert told.exit_code == 1
    assert "1 deliveries are accepted, running or parked without having failed" in told.stderr
    assert run("check", store=url).exit_code == 0


@pytest.mark.parametrize("to", [str(SCHEMA_VERSION), "99"])
def test_a_downgrade_to_what_is_not_older_is_refused_before_it_asks(file: Path, to: str) -> None:
    run("upgrade", store=f"sqlite:///{file}")
    told = run("downgrade", "--to", to, store=f"sqlite:///{file}", input="y\n")
    assert told.exit_code == 2
    assert f"no way down to {to}" in told.stderr
    assert "Go back" not in told.stderr


@pytest.mark.parametrize("command", ["current", "check", "upgrade"])
@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("shop.db", "not a database URL"),
        ("mysql://ann:s3cret@db/shop", "'mysql' database"),
        ("postgresql+asyncpg://ann:s3cret@db", "names no database"),
        ("postgresql://ann:s3cret@db:port/shop", "not a database URL"),
        ("sqlite:///:memory:", "names no file"),
    ],
)
def test_a_url_that_names_no_store_is_refused_without_its_password(command: str, url: str, says: str) -> None:
    told = run(command, store=url)
    assert told.exit_code == 2
    assert says in told.stderr
    assert "s3cret" not in told.output


@pytest.mark.parametrize("command", [["current"], ["check"], ["downgrade", "--to", "1"]])
def test_a_file_that_is_not_there_is_not_made(tmp_path: Path, command: list[str]) -> None:
    told = run(*command, store=f"sqlite:///{tmp_path}/shop.db")
    assert told.exit_code == 1
    assert "there is no file" in told.stderr
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing but words, again and again " * 99)
    told = run("check", store=f"sqlite:///{tmp_path}/notes.txt")
    assert told.exit_code == 1
    assert "is not an SQLite database" in told.stderr


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    told = run("upgrade", store=f"sqlite:///{tmp_path}/none/shop.db")
    assert told.exit_code == 1
    assert "create it" in told.stderr


def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    told = run("check", store="postgresql+asyncpg://ann:s3cret@127.0.0.1:1/shop")
    assert told.exit_code == 1
    assert "cannot be reached" in told.stderr
    assert "s3cret" not in told.output


@pytest.mark.parametrize("command", [["upgrade"], ["downgrade", "--to", "1"]])
def test_without_alembic_it_says_what_to_install(
    file: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "eventbus_adapters.cli.leaving.find_spec", lambda name: None if name == "alembic" else real(name)
    )
    told = run(*command, store=f"sqlite:///{file}")
    assert told.exit_code == 2
    assert "needs alembic; run: pip install 'eventbus[cli]'" in told.stderr


def test_without_the_driver_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def imported(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "eventbus_adapters.sql.postgres.database":
            raise ModuleNotFoundError("No module named 'asyncpg'", name="asyncpg")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", imported)
    told = run("check", store="postgresql://db/shop")
    assert told.exit_code == 2
    assert "pip install 'eventbus[postgres]'" in told.stderr


def test_a_running_store_loads_no_alembic(tmp_path: Path) -> None:
    code = (
        "import anyio, sys; from eventbus_adapters.sql import SqlStore; "
        f"anyio.run(SqlStore('sqlite:///{tmp_path}/shop.db').open); "
        "print([name for name in ('alembic', 'sqlalchemy.orm') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
