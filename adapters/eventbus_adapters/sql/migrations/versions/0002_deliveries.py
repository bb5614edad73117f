"""Deliveries that have not run yet: sequences, live rows, processes, spools, count deltas."""

import uuid
from typing import Any, TypeAlias

import sqlalchemy as sa
from alembic import op

from eventbus_dlq.errors import StoreUnavailable

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

GIVES_UP = (
    "version 1 knows no processes and no spools: their rows go, and so does the order within sequences; "
    "it is worked out anew by the next upgrade. No dead letter is lost"
)

_Indexes: TypeAlias = dict[str, tuple[tuple[str, ...], str | None]]
"""Columns and condition of each, by its name."""

_LETTERS = "eventbus_dead_letters"
_REBUILT = "eventbus_dead_letters_rebuilt"
_ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_NEW_TABLES = (
    "eventbus_dead_letter_count_deltas",
    "eventbus_processes",
    "eventbus_handlers",
    "eventbus_spools",
)
_COUNTER = ("tenant", "event_name", "handler_id", "kind", "category", "route", "state")
_SUMS = ("letters", "attempts", "created_s", "created_rest_us")

_OLD_INDEXES: _Indexes = {
    "eventbus_letters_state": (("state", "created_us"), None),
    "eventbus_letters_event": (("event_name", "created_us"), None),
    "eventbus_letters_handler": (("handler_id", "created_us"), None),
    "eventbus_letters_fingerprint": (("fingerprint", "created_us"), None),
    "eventbus_letters_correlation": (("correlation_id", "created_us"), None),
    "eventbus_letters_created": (("created_us",), None),
    "eventbus_letters_tenant": (("tenant", "created_us", "seq", "state"), "tenant IS NOT NULL"),
    "eventbus_letters_due": (("priority", "retry_us", "tenant", "state"), "state = 'pending'"),
}
_OPEN_IN_SEQUENCE = (
    "ordering_key IS NOT NULL AND state IN ('accepted', 'running', 'pending', 'exhausted', 'parked')"
)
_NEW_INDEXES: _Indexes = {
    "eventbus_letters_state": (("state", "created_us"), "live = 0"),
    "eventbus_letters_event": (("event_name", "created_us"), "live = 0"),
    "eventbus_letters_handler": (("handler_id", "created_us"), "live = 0"),
    "eventbus_letters_fingerprint": (("fingerprint", "created_us"), "live = 0"),
    "eventbus_letters_correlation": (("correlation_id", "created_us"), "live = 0"),
    "eventbus_letters_created": (("live", "created_us"), "live = 0"),
    "eventbus_letters_tenant": (
        ("tenant", "created_us", "seq", "state", "live"),
        "live = 0 AND tenant IS NOT NULL",
    ),
    "eventbus_letters_live": (("live", "created_us"), "live = 1"),
    "eventbus_letters_due": (
        ("handler_id", "priority", "retry_us", "tenant", "waits", "state"),
        "state = 'pending'",
    ),
    "eventbus_letters_ready": (
        ("handler_id", "priority", "queued_us"),
        "state = 'accepted' AND waits = 0",
    ),
    "eventbus_letters_leased": (("lease_us",), "state = 'running'"),
    "eventbus_letters_sequence": (("handler_id", "ordering_key", "seq"), _OPEN_IN_SEQUENCE),
}

# Every letter of version 1 has failed, so none is live. One that somebody has made 'accepted' by hand
# counts as claimable since it was stored.
_STANDING = "UPDATE eventbus_dead_letters SET queued_us = created_us WHERE state = 'accepted'"
# Version 1 knew no sequences: the first of the open ones becomes the head, or the one that is running.
_WAITING = f"""
UPDATE eventbus_dead_letters SET waits = 1, queued_us = NULL WHERE seq IN (
    SELECT seq FROM (
        SELECT seq, row_number() OVER (
            PARTITION BY handler_id, ordering_key
            ORDER BY CASE state WHEN 'running' THEN 0 ELSE 1 END, seq
        ) AS place
        FROM eventbus_dead_letters WHERE {_OPEN_IN_SEQUENCE}
    ) AS placed WHERE place > 1
)
"""  # noqa: S608  # names and conditions of this file
_FOLD = f"""
INSERT INTO eventbus_dead_letter_counts ({", ".join((*_COUNTER, *_SUMS))})
SELECT {", ".join(_COUNTER)}, {", ".join(f"CAST(sum({name}) AS BIGINT)" for name in _SUMS)}
FROM eventbus_dead_letter_count_deltas WHERE true GROUP BY {", ".join(_COUNTER)}
ON CONFLICT ({", ".join(_COUNTER)}) DO UPDATE SET
{", ".join(f"{name} = eventbus_dead_letter_counts.{name} + excluded.{name}" for name in _SUMS)}
"""  # noqa: S608  # names of this file
_NEVER_FAILED = "SELECT count(*) FROM eventbus_dead_letters WHERE error_type = '' AND kind = ''"


def upgrade() -> None:
    """Bring version 1 to version 2."""
    if op.get_context().dialect.name == "sqlite":
        _rebuild(_new_columns())
    else:
        _add_columns()
    op.execute(_STANDING)
    op.execute(_WAITING)
    _create_indexes(_NEW_INDEXES)
    _create_tables()
    _say("schema_version", "2")
    _say("database_id", str(uuid.uuid4()))


def downgrade() -> None:
    """Take version 2 back to version 1.

    Raises:
        StoreUnavailable: there are deliveries that have not failed, for which version 1 has no place.
    """
    on_sqlite = op.get_context().dialect.name == "sqlite"
    if not on_sqlite:
        op.execute(f"LOCK TABLE {_LETTERS} IN ACCESS EXCLUSIVE MODE")
    _refuse_deliveries()
    op.execute(_FOLD)
    if on_sqlite:
        _rebuild(_old_columns())
    else:
        for name in _NEW_INDEXES:
            op.drop_index(name, _LETTERS)
        for name in ("live", "waits", "queued_us"):
            op.drop_column(_LETTERS, name)
    _create_indexes(_OLD_INDEXES)
    for table in _NEW_TABLES:
        op.drop_table(table)
    _say("schema_version", "1")
    _forget("database_id")


def _refuse_deliveries() -> None:
    kept = op.get_bind().execute(sa.text(_NEVER_FAILED)).scalar_one()
    if kept:
        raise StoreUnavailable(
            f"{kept} deliveries are accepted, running or parked without having failed, and version 1 has no "
            "place for them; let the workers finish them, or resolve or discard them, and try again. "
            "Nothing was changed",
            retryable=False,
        )


def _add_columns() -> None:
    op.execute(f"LOCK TABLE {_LETTERS} IN ACCESS EXCLUSIVE MODE")
    for name in _OLD_INDEXES:
        op.drop_index(name, _LETTERS)
    for name in ("live", "waits"):  # a default that is dropped again spares writing every row
        op.add_column(_LETTERS, sa.Column(name, sa.Integer, nullable=False, server_default="0"))
        op.alter_column(_LETTERS, name, server_default=None)
    op.add_column(_LETTERS, sa.Column("queued_us", sa.BigInteger))


def _rebuild(columns: list[sa.Column[Any]]) -> None:
    """Copy the letters into a table with these columns: SQLite adds columns only behind the wide ones."""
    op.create_table(
        _REBUILT,
        *columns,
        sa.UniqueConstraint("event_id", "handler_id"),
        sa.CheckConstraint("typeof(created_us) = 'integer'"),
    )
    values = {column.name: column.name for column in columns} | {"queued_us": "NULL"}
    values |= dict.fromkeys(("live", "waits"), "0")
    names = [column.name for column in columns]
    op.execute(
        f"INSERT INTO {_REBUILT} ({', '.join(names)}) "  # noqa: S608  # names of this file
        f"SELECT {', '.join(values[name] for name in names)} FROM {_LETTERS} ORDER BY seq"
    )
    op.drop_table(_LETTERS)
    op.rename_table(_REBUILT, _LETTERS)


def _new_columns() -> list[sa.Column[Any]]:
    columns = _old_columns()
    behind = [column.name for column in columns].index("note") + 1
    columns[behind:behind] = [
        sa.Column("live", sa.Integer, nullable=False),
        sa.Column("waits", sa.Integer, nullable=False),
        sa.Column("queued_us", sa.BigInteger),
    ]
    return columns


def _old_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("seq", _ROW_NUMBER, primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("handler_id", sa.Text, nullable=False),
        sa.Column("event_name", sa.Text, nullable=False),
        sa.Column("event_version", sa.Integer, nullable=False),
        sa.Column("tenant", sa.Text),
        sa.Column("user_id", sa.Text),
        sa.Column("correlation_id", sa.Text, nullable=False),
        sa.Column("causation_id", sa.Text),
        sa.Column("source", sa.Text),
        sa.Column("ordering_key", sa.Text),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("occurred_us", sa.BigInteger, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("state_before", sa.Text),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("retries", sa.Integer, nullable=False),
        sa.Column("crashes", sa.Integer, nullable=False),
        sa.Column("retry_us", sa.BigInteger),
        sa.Column("updated_us", sa.BigInteger, nullable=False),
        sa.Column("last_attempt_us", sa.BigInteger),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("lease_owner", sa.Text),
        sa.Column("lease_us", sa.BigInteger),
        sa.Column("acted_by", sa.Text),
        sa.Column("note", sa.Text),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("error_type", sa.Text, nullable=False),
        sa.Column("error_message", sa.Text, nullable=False),
        sa.Column("error_code", sa.Text),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("category", sa.Text, nullable=False),
        sa.Column("route", sa.Text, nullable=False),
        sa.Column("redelivery", sa.Text, nullable=False),
        sa.Column("tags", sa.Text, nullable=False),
        sa.Column("headers", sa.LargeBinary, nullable=False),
        sa.Column("annotations", sa.LargeBinary, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.Column("error", sa.LargeBinary, nullable=False),
        sa.Column("history", sa.LargeBinary, nullable=False),
    ]


def _create_indexes(indexes: _Indexes) -> None:
    for name, (columns, condition) in indexes.items():
        where = None if condition is None else sa.text(condition)
        op.create_index(name, _LETTERS, list(columns), sqlite_where=where, postgresql_where=where)


def _create_tables() -> None:
    deltas, processes, handlers, spools = _NEW_TABLES
    op.create_table(
        deltas,
        sa.Column("seq", _ROW_NUMBER, primary_key=True),
        *(sa.Column(name, sa.Text, nullable=False) for name in _COUNTER),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in _SUMS),
    )
    op.create_table(
        processes,
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("started_us", sa.BigInteger, nullable=False),
        sa.Column("beat_us", sa.BigInteger, nullable=False),
        sa.Column("handlers", sa.Text, nullable=False),
    )
    op.create_table(
        handlers,
        sa.Column("handler_id", sa.Text, primary_key=True),
        sa.Column("announced_us", sa.BigInteger, nullable=False),
    )
    op.create_table(
        spools,
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("imported_us", sa.BigInteger, nullable=False),
    )


def _say(key: str, value: str) -> None:
    _forget(key)
    op.execute(
        sa.text("INSERT INTO eventbus_meta (key, value) VALUES (:key, :value)").bindparams(
            key=key, value=value
        )
    )


def _forget(key: str) -> None:
    op.execute(sa.text("DELETE FROM eventbus_meta WHERE key = :key").bindparams(key=key))
