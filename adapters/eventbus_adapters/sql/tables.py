"""The tables, as SQLAlchemy Core sees them.

Times are epoch microseconds in ``BigInteger`` columns. What listings read stands first in a row and
what is wide stands last, so that a listing never reads the pages of payloads and tracebacks.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

SCHEMA_VERSION = 1
"""The version of the tables below; a database says its own in ``eventbus_meta``."""

_row_number = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER is SQLite's own row number

metadata = MetaData()

meta = Table(
    "eventbus_meta",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
"""Facts about the database itself: ``schema_version``."""

letters = Table(
    "eventbus_dead_letters",
    metadata,
    Column("seq", _row_number, primary_key=True),
    # what it is: never changes
    Column("id", Text, nullable=False, unique=True),
    Column("event_id", Text, nullable=False),
    Column("handler_id", Text, nullable=False),
    Column("event_name", Text, nullable=False),
    Column("event_version", Integer, nullable=False),
    Column("tenant", Text),
    Column("user_id", Text),
    Column("correlation_id", Text, nullable=False),
    Column("causation_id", Text),
    Column("source", Text),
    Column("ordering_key", Text),
    Column("priority", Integer, nullable=False),
    Column("occurred_us", BigInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    # where it stands: changes with every verb
    Column("state", Text, nullable=False),
    Column("reason", Text),
    Column("state_before", Text),
    Column("attempts", Integer, nullable=False),
    Column("retries", Integer, nullable=False),
    Column("crashes", Integer, nullable=False),
    Column("retry_us", BigInteger),
    Column("updated_us", BigInteger, nullable=False),
    Column("last_attempt_us", BigInteger),
    Column("token", BigInteger, nullable=False),
    Column("lease_owner", Text),
    Column("lease_us", BigInteger),
    Column("acted_by", Text),
    Column("note", Text),
    # how it failed: changes with every failure
    Column("fingerprint", Text, nullable=False),
    Column("error_type", Text, nullable=False),
    Column("error_message", Text, nullable=False),
    Column("error_code", Text),
    Column("kind", Text, nullable=False),
    Column("category", Text, nullable=False),
    Column("route", Text, nullable=False),
    Column("redelivery", Text, nullable=False),
    Column("tags", Text, nullable=False),
    Column("headers", LargeBinary, nullable=False),
    Column("annotations", LargeBinary, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("error", LargeBinary, nullable=False),
    Column("history", LargeBinary, nullable=False),
    UniqueConstraint("event_id", "handler_id"),
    # Listings and their cursors are ordered by it: a text written by hand would have no place in them.
    CheckConstraint("typeof(created_us) = 'integer'").ddl_if(dialect="sqlite"),
)
"""One row per letter. ``state_before`` is what a release restores."""

PENDING = text("state = 'pending'")
"""The condition of ``DUE``, as a literal: SQLite uses a partial index for no bound parameter."""

BY_STATE = Index("eventbus_letters_state", letters.c.state, letters.c.created_us)
BY_EVENT = Index("eventbus_letters_event", letters.c.event_name, letters.c.created_us)
BY_HANDLER = Index("eventbus_letters_handler", letters.c.handler_id, letters.c.created_us)
BY_FINGERPRINT = Index("eventbus_letters_fingerprint", letters.c.fingerprint, letters.c.created_us)
BY_CORRELATION = Index("eventbus_letters_correlation", letters.c.correlation_id, letters.c.created_us)
BY_CREATED = Index("eventbus_letters_created", letters.c.created_us)
# The state stands in the index, so that a tenant's oldest open letter is found without reading rows.
BY_TENANT = Index(
    "eventbus_letters_tenant",
    letters.c.tenant,
    letters.c.created_us,
    letters.c.seq,
    letters.c.state,
    sqlite_where=letters.c.tenant.is_not(None),
    postgresql_where=letters.c.tenant.is_not(None),
)
# Tenant and state are there to be counted without reading rows.
DUE = Index(
    "eventbus_letters_due",
    letters.c.priority,
    letters.c.retry_us,
    letters.c.tenant,
    letters.c.state,
    sqlite_where=PENDING,
    postgresql_where=PENDING,
)

counts = Table(
    "eventbus_dead_letter_counts",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("event_name", Text, primary_key=True),
    Column("handler_id", Text, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("category", Text, primary_key=True),
    Column("route", Text, primary_key=True),
    Column("state", Text, primary_key=True),
    Column("letters", BigInteger, nullable=False),
    Column("attempts", BigInteger, nullable=False),
    Column("created_s", BigInteger, nullable=False),
    Column("created_rest_us", BigInteger, nullable=False),
)
"""How many letters there are of each sort, with the sums that averages need.

No tenant is the empty text, and a tenant has a mark before its name. The sum of ``created_us`` is kept in
two parts, because it passes 64 bits at five million letters.
"""
