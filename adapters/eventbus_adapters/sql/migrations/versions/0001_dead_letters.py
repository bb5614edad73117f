"""Dead letters and their counters."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = ("eventbus",)
depends_on = None

_ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")

_INDEXES = {
    "eventbus_letters_state": ("state", "created_us"),
    "eventbus_letters_event": ("event_name", "created_us"),
    "eventbus_letters_handler": ("handler_id", "created_us"),
    "eventbus_letters_fingerprint": ("fingerprint", "created_us"),
    "eventbus_letters_correlation": ("correlation_id", "created_us"),
    "eventbus_letters_created": ("created_us",),
    "eventbus_letters_tenant": ("tenant", "created_us", "seq", "state"),
    "eventbus_letters_due": ("priority", "retry_us", "tenant", "state"),
}
_PARTIAL = {
    "eventbus_letters_tenant": sa.text("tenant IS NOT NULL"),
    "eventbus_letters_due": sa.text("state = 'pending'"),
}


def upgrade() -> None:
    """Create the tables of version 1."""
    meta = op.create_table(
        "eventbus_meta",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "eventbus_dead_letters",
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
        sa.UniqueConstraint("event_id", "handler_id"),
        sa.CheckConstraint("typeof(created_us) = 'integer'").ddl_if(dialect="sqlite"),
    )
    for name, columns in _INDEXES.items():
        where = _PARTIAL.get(name)
        op.create_index(
            name, "eventbus_dead_letters", list(columns), sqlite_where=where, postgresql_where=where
        )
    op.create_table(
        "eventbus_dead_letter_counts",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("event_name", sa.Text, primary_key=True),
        sa.Column("handler_id", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("category", sa.Text, primary_key=True),
        sa.Column("route", sa.Text, primary_key=True),
        sa.Column("state", sa.Text, primary_key=True),
        sa.Column("letters", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.BigInteger, nullable=False),
        sa.Column("created_s", sa.BigInteger, nullable=False),
        sa.Column("created_rest_us", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(meta, [{"key": "schema_version", "value": "1"}])
