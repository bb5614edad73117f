"""Whether a role may do with the tables what a store does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbus_adapters.sql.postgres.failures import READ_ONLY
from eventbus_adapters.sql.tables import meta, metadata
from eventbus_dlq.errors import StoreUnavailable

if TYPE_CHECKING:
    from sqlalchemy import Connection

_NEEDED = ("SELECT", "INSERT", "UPDATE", "DELETE")
_WRITTEN = sorted(set(metadata.tables) - {meta.name})
_NUMBERED = sorted(name for name, table in metadata.tables.items() if "seq" in table.columns)
_LACKING = f"""
SELECT current_user, current_setting('transaction_read_only') = 'on', ARRAY(
    SELECT name FROM unnest(ARRAY['{"', '".join(_WRITTEN)}']) AS name
    WHERE NOT ({" AND ".join(f"has_table_privilege(name, '{right}')" for right in _NEEDED)}) ORDER BY name
), ARRAY(
    SELECT pg_get_serial_sequence(name, 'seq') FROM unnest(ARRAY['{"', '".join(_NUMBERED)}']) AS name
    WHERE NOT has_sequence_privilege(pg_get_serial_sequence(name, 'seq'), 'USAGE') ORDER BY name
)
"""  # noqa: S608  # names of ours


def check_rights(connection: Connection, database: object) -> None:
    """Let a connection pass whose role may write the tables.

    Raises:
        StoreUnavailable: it may not, or nobody may: it is a standby, or set to be read only.
    """
    role, read_only, tables, sequences = connection.exec_driver_sql(_LACKING).one()
    if read_only:
        raise StoreUnavailable(
            f"the dead-letter store {database} {READ_ONLY.text}; {READ_ONLY.advice}",
            retryable=READ_ONLY.retryable,
        )
    wanted = [f"{', '.join(_NEEDED)} on {', '.join(tables)}"] if tables else []
    wanted += [f"USAGE on {', '.join(sequences)}"] if sequences else []
    if wanted:
        raise StoreUnavailable(
            f"the dead-letter store {database} may not be written by the role {role!r}; grant it "
            f"{', and '.join(wanted)}",
            retryable=False,
        )
