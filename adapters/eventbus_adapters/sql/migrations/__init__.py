"""From one schema version to another, with Alembic. Needs the extra ``cli``; a running store does not.

``eventbus_meta`` is the one place where a database says its version. Every revision in ``versions`` writes
its own there, and Alembic's table of versions is not used. So a database that was created whole, without
any revision, is known as well as one that came up step by step.

Everything runs in the one transaction of the caller, on SQLite too: a step that fails leaves nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from eventbus_adapters.sql.schema import found_version, lock
from eventbus_adapters.sql.tables import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alembic.script import Script
    from sqlalchemy import Connection


def upgrade(connection: Connection, database: object, target: int = SCHEMA_VERSION) -> Sequence[int]:
    """Bring the tables to version ``target``, or create them; return the versions gone through.

    Args:
        connection: in a transaction; on SQLite in one that writes from its beginning.
        database: what messages call it.
        target: the version of this code, unless an older one is wanted.

    Raises:
        StoreUnavailable: the tables are of a newer eventbus, or not eventbus's.
    """
    lock(connection)
    found = found_version(connection, database)
    revisions = _revisions()
    steps = [version for version in sorted(revisions) if found < version <= target]
    with Operations.context(MigrationContext.configure(connection)):
        for version in steps:
            revisions[version].module.upgrade()
    return steps


def downgrade(connection: Connection, database: object, target: int) -> Sequence[int]:
    """Take the tables back to version ``target``; return the versions gone through.

    Args:
        connection: as for :func:`upgrade`.
        database: what messages call it.
        target: an older version, 1 at least.

    Raises:
        StoreUnavailable: the tables are of a newer eventbus, or not eventbus's, or hold what the older
            version cannot hold; the message says what.
        ValueError: there is no such way down.
    """
    lock(connection)
    found = found_version(connection, database)
    losses(found, target)
    revisions = _revisions()
    with Operations.context(MigrationContext.configure(connection)):
        for version in range(found, target, -1):
            revisions[version].module.downgrade()
    return list(range(found - 1, target - 1, -1))


def losses(found: int, target: int) -> Sequence[str]:
    """Return what the way down from version ``found`` to ``target`` gives up: a sentence for each step.

    Raises:
        ValueError: there is no such way down.
    """
    revisions = _revisions()
    below = [version for version in sorted(revisions) if version < found]
    if target not in below:
        raise ValueError(
            f"the tables have schema version {found}, and there is no way down to {target} "
            f"(older versions: {', '.join(str(version) for version in below) or 'none'})"
        )
    return [str(revisions[version].module.GIVES_UP) for version in range(found, target, -1)]


def _revisions() -> dict[int, Script]:
    """Return the revisions by the schema version that they lead to."""
    scripts = ScriptDirectory(str(Path(__file__).parent))
    return {int(script.revision): script for script in scripts.walk_revisions()}
