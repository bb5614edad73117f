"""``eventbus db``: brings a store's tables to the version of the code, and tells how they stand."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from eventbus import EventBusError
from eventbus_adapters.cli.leaving import leave, require
from eventbus_adapters.sql.offline import in_transaction
from eventbus_adapters.sql.schema import NO_TABLES, found_version
from eventbus_adapters.sql.shape import differences
from eventbus_adapters.sql.tables import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from sqlalchemy import Connection

db = typer.Typer(
    name="db",
    help="The tables of a store: upgrade, downgrade and check them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Store = Annotated[
    str,
    typer.Option(
        "--store",
        envvar="EVENTBUS_STORE",
        show_envvar=True,
        metavar="URL",
        help="The database: sqlite:///file.db or postgresql+asyncpg://user:password@host/database.",
    ),
]

_UNFIT = 1


@db.command()
def upgrade(store: Store) -> None:
    """Bring the tables to the version of this eventbus, or create them.

    Stop what uses the store first, and keep a backup. It is all one transaction: it happens, or nothing
    does. An SQLite file that is not there is created.

    Exit codes: 0 the tables have this version; 1 the upgrade failed and changed nothing; 2 the URL names no
    database, or a package is missing.
    """
    _needs_alembic("eventbus db upgrade")
    from eventbus_adapters.sql.migrations import upgrade as run

    with _failing():
        steps = in_transaction(store, run, create=True)
    if steps:
        typer.echo(f"upgraded to schema version {steps[-1]}")
    else:
        typer.echo(f"nothing to do: the tables have schema version {SCHEMA_VERSION}")


@db.command()
def downgrade(
    store: Store,
    to: Annotated[int, typer.Option(min=1, help="The schema version to go back to.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take the tables back to an older version, for an older eventbus.

    It refuses while there are deliveries that the older version cannot hold, and says beforehand what is
    given up. Stop what uses the store first.

    Exit codes: 0 the tables have the older version; 1 it was refused, failed or not confirmed, and nothing
    was changed; 2 the URL names no database, there is no such version, or a package is missing.
    """
    _needs_alembic("eventbus db downgrade")
    from eventbus_adapters.sql.migrations import downgrade as run
    from eventbus_adapters.sql.migrations import losses

    with _failing():
        found = in_transaction(store, found_version)
        for loss in losses(found, to):
            typer.echo(loss, err=True)
        if not yes and not typer.confirm(f"Go back from schema version {found} to {to}?", err=True):
            leave("nothing was changed", _UNFIT)
        steps = in_transaction(store, lambda connection, database: run(connection, database, to))
    typer.echo(f"went back to schema version {steps[-1]}")


@db.command()
def current(store: Store) -> None:
    """Print the schema version of the tables, and the one of this eventbus.

    Exit codes: 0 it could be told, also when there are no tables; 1 they are not eventbus's, or of a newer
    one, or cannot be read; 2 the URL names no database.
    """
    with _failing():
        found = in_transaction(store, found_version)
    shown = "no tables" if found == NO_TABLES else f"schema version {found}"
    typer.echo(f"{shown}; this eventbus has schema version {SCHEMA_VERSION}")


@db.command()
def check(store: Store) -> None:
    """Tell whether the tables are the ones of this eventbus: their version, columns, indexes, constraints.

    Nothing is changed; on PostgreSQL the role has to be allowed to make temporary tables, with which it is
    compared.

    Exit codes: 0 they are; 1 they are not, or cannot be read; 2 the URL names no database.
    """
    with _failing():
        found, unlike = in_transaction(store, _compared)
    if found == NO_TABLES:
        leave("there are no tables; with the same --store, run: eventbus db upgrade", _UNFIT)
    if found < SCHEMA_VERSION:
        leave(
            f"the tables have schema version {found}, and this eventbus needs {SCHEMA_VERSION}; "
            "stop what uses them and, with the same --store, run: eventbus db upgrade",
            _UNFIT,
        )
    if unlike:
        for line in unlike:
            typer.echo(line)
        leave(
            f"the tables say schema version {found} and differ from it as listed; somebody has changed "
            "them by hand: change them back, or restore a backup",
            _UNFIT,
        )
    typer.echo(f"the tables fit: schema version {found}")


def _compared(connection: Connection, database: object) -> tuple[int, Sequence[str]]:
    found = found_version(connection, database)
    return found, differences(connection) if found == SCHEMA_VERSION else ()


def _needs_alembic(command: str) -> None:
    require(command, "cli", "alembic")


@contextmanager
def _failing() -> Generator[None]:
    """Tell what goes wrong in one line."""
    try:
        yield
    except ValueError as error:
        leave(str(error))
    except ModuleNotFoundError as error:
        leave(f"{error.name or error} is not installed; run: pip install 'eventbus[postgres]'")
    except EventBusError as error:
        leave(str(error), _UNFIT)
