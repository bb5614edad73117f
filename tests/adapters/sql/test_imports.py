"""What is loaded when."""

from __future__ import annotations

import subprocess
import sys

from eventbus_adapters.sql.encoding import ROW, STANDING
from eventbus_adapters.sql.tables import letters


def test_importing_the_adapters_loads_no_outside_library() -> None:
    script = "import sys, eventbus_adapters; print({'sqlalchemy', 'aiosqlite', 'typer'} & sys.modules.keys())"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"


def test_the_wide_columns_stand_last() -> None:
    wide = {"headers", "annotations", "payload", "error", "history"}
    assert {column.name for column in list(letters.columns)[-5:]} == wide
    assert set(STANDING) < set(ROW)
