"""What operators set: controls with what they have parked, schedules; and announcements."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

GIVES_UP = (
    "version 2 knows no controls, no schedules that were set at run time and no announcements: they go, what "
    "was paused runs again, and what was to be told is not told. No dead letter is lost"
)

_LETTERS = "eventbus_dead_letters"
_DELTAS = "eventbus_dead_letter_count_deltas"
_ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_REOPENED = sa.text("state = 'reopened'")
_NEW_TABLES = (
    "eventbus_configuration",
    "eventbus_controls",
    "eventbus_control_acks",
    "eventbus_parked",
    "eventbus_schedules",
    "eventbus_announcements",
)

_HELD = "state = 'parked' AND reason IN ('paused', 'draining')"
# What came parked, or whose former state is not known, goes on as what it looks like.
_BEFORE = """CASE WHEN state_before IN ('accepted', 'pending') THEN state_before
    WHEN kind = '' THEN 'accepted' ELSE 'pending' END"""
_HEAD = f"{_BEFORE} = 'accepted' AND waits = 0"
_AFTER = f"CASE WHEN {_BEFORE} = 'accepted' AND waits = 1 THEN 'parked' ELSE {_BEFORE} END"
_RELEASE = f"""
UPDATE {_LETTERS} SET
    live = CASE WHEN {_HEAD} AND kind = '' THEN 1 ELSE 0 END,
    queued_us = CASE WHEN {_HEAD} THEN created_us END,
    retry_us = CASE WHEN {_BEFORE} = 'pending' THEN coalesce(retry_us, updated_us) ELSE retry_us END,
    reason = CASE WHEN {_BEFORE} = 'accepted' AND waits = 1 THEN 'sequence' END,
    state = {_AFTER},
    state_before = NULL
WHERE {_HELD}
"""  # noqa: S608  # names and conditions of this file
_COUNTED = "event_name, handler_id, kind, category, route"
_COUNT = f"""
INSERT INTO {_DELTAS} (
    tenant, {_COUNTED}, state, letters, attempts, created_s, created_rest_us
) SELECT CASE WHEN tenant IS NULL THEN '' ELSE '=' || tenant END, {_COUNTED}, counted_state,
    CAST(SUM(sign) AS BIGINT), CAST(SUM(sign * attempts) AS BIGINT),
    CAST(SUM(sign * (created_us / 1000000)) AS BIGINT), CAST(SUM(sign * (created_us % 1000000)) AS BIGINT)
FROM (
    SELECT {_LETTERS}.*, state AS counted_state, -1 AS sign FROM {_LETTERS} WHERE {_HELD}
    UNION ALL
    SELECT {_LETTERS}.*, {_AFTER} AS counted_state, 1 AS sign FROM {_LETTERS} WHERE {_HELD}
) AS moved GROUP BY tenant, {_COUNTED}, counted_state
"""  # noqa: S608  # names and conditions of this file


def upgrade() -> None:
    """Bring version 2 to version 3."""
    _create_configuration()
    _create_parking()
    _create_announcements()
    _say("3")


def downgrade() -> None:
    """Take version 3 back to version 2; what controls have parked is claimable again."""
    if op.get_context().dialect.name != "sqlite":
        op.execute(f"LOCK TABLE {_LETTERS} IN ACCESS EXCLUSIVE MODE")
    op.execute(_COUNT)
    op.execute(_RELEASE)
    for table in reversed(_NEW_TABLES):
        op.drop_table(table)
    _say("2")


def _create_configuration() -> None:
    op.create_table(
        "eventbus_configuration",
        sa.Column("number", sa.Integer, primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("stamp", sa.Text, nullable=False),
        sa.Column("automatic_retries", sa.Integer, nullable=False),
    )
    op.create_table(
        "eventbus_schedules",
        sa.Column("seq", _ROW_NUMBER, primary_key=True),
        sa.Column("scope", sa.Text, nullable=False, unique=True),
        sa.Column("handler_id", sa.Text),
        sa.Column("event_name", sa.Text),
        sa.Column("redelivery", sa.Text, nullable=False),
        sa.Column("set_by", sa.Text),
        sa.Column("since_us", sa.BigInteger, nullable=False),
    )


def _create_parking() -> None:
    op.create_table(
        "eventbus_controls",
        sa.Column("number", _ROW_NUMBER, primary_key=True, autoincrement=False),
        sa.Column("scope", sa.Text, nullable=False, unique=True),
        sa.Column("tenant", sa.Text),
        sa.Column("event_name", sa.Text),
        sa.Column("handler_id", sa.Text),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("closed_by", sa.Text, nullable=False),
        sa.Column("since_us", sa.BigInteger, nullable=False),
        sa.Column("until_us", sa.BigInteger),
        sa.Column("drained_us", sa.BigInteger),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    where: dict[str, Any] = {"sqlite_where": _REOPENED, "postgresql_where": _REOPENED}
    op.create_index("eventbus_controls_reopened", "eventbus_controls", ["number"], **where)
    op.create_index("eventbus_controls_until", "eventbus_controls", ["until_us"])
    op.create_table(
        "eventbus_control_acks",
        sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("process_id", sa.Text, primary_key=True),
    )
    op.create_table(
        "eventbus_parked",
        sa.Column("letter_seq", _ROW_NUMBER, primary_key=True, autoincrement=False),
        sa.Column("control", sa.BigInteger, nullable=False),
        sa.Column("created_us", sa.BigInteger, nullable=False),
    )
    op.create_index("eventbus_parked_control", "eventbus_parked", ["control", "created_us", "letter_seq"])


def _create_announcements() -> None:
    op.create_table(
        "eventbus_announcements",
        sa.Column("seq", _ROW_NUMBER, primary_key=True),
        sa.Column("key", sa.Text, nullable=False, unique=True),
        sa.Column("dead_letter_id", sa.Text, nullable=False),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("event_name", sa.Text, nullable=False),
        sa.Column("handler_id", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("owner", sa.Text),
        sa.Column("lease_us", sa.BigInteger),
    )


def _say(version: str) -> None:
    op.execute(
        sa.text("UPDATE eventbus_meta SET value = :version WHERE key = 'schema_version'").bindparams(
            version=version
        )
    )
