"""What is loaded when, and that statements and rows fit each other."""

from __future__ import annotations

import subprocess
import sys

import pytest
from sqlalchemy import bindparam, create_engine, select

from eventbus_adapters.sql.encoding import ROW, STANDING
from eventbus_adapters.sql.prepared import Prepared
from eventbus_adapters.sql.tables import letters


def test_importing_the_adapters_loads_no_outside_library() -> None:
    script = "import sys, eventbus_adapters; print({'sqlalchemy', 'aiosqlite', 'typer'} & sys.modules.keys())"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"


def test_the_wide_columns_stand_last() -> None:
    wide = {"headers", "annotations", "payload", "error", "history"}
    assert {column.name for column in list(letters.columns)[-5:]} == wide
    assert set(STANDING) < set(ROW)


def test_a_statement_whose_parameters_are_named_in_another_order_is_refused() -> None:
    engine = create_engine("sqlite://")
    prepared = Prepared(select(letters.c.id).where(letters.c.id == bindparam("wanted")), ["another"])
    with engine.connect() as connection, pytest.raises(AssertionError, match="wanted"):
        prepared.sql(connection)
    engine.dispose()
