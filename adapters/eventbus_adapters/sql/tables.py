"""The tables, as SQLAlchemy Core sees them.

Times are epoch microseconds in ``BigInteger`` columns. What listings read stands first in a row and
what is wide stands last, so that a listing never reads the pages of payloads and tracebacks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from sqlalchemy import TextClause

SCHEMA_VERSION = 3
"""The version of the tables below; a database says its own in ``eventbus_meta``."""

_row_number = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER is SQLite's own row number

metadata = MetaData()

meta = Table(
    "eventbus_meta",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
"""Facts about the database itself: ``schema_version``, and ``database_id``, which no other one has."""

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
    Column("live", Integer, nullable=False),
    Column("waits", Integer, nullable=False),
    Column("queued_us", BigInteger),
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
"""One row per letter. ``state_before`` is what a release restores, or the end of the control that
has parked it.

``live`` is 1 while a delivery that has never failed is accepted or running, else 0: the indexes for
listings leave live rows out, because most of them come and go within a moment. ``waits`` is 1 while an
earlier one of its sequence comes first. ``queued_us`` is since when an accepted one has been claimable.
"""

# Conditions of partial indexes are literals: SQLite uses such an index for no bound parameter.
FAILED = text("live = 0")
LIVE = text("live = 1")
PENDING = text("state = 'pending'")
READY_TO_RUN = text("state = 'accepted' AND waits = 0")
RUNNING = text("state = 'running'")
HELD = text("state = 'parked' AND reason IN ('paused', 'draining')")
IN_SEQUENCE = text(
    "ordering_key IS NOT NULL AND state IN ('accepted', 'running', 'pending', 'exhausted', 'parked')"
)


def _partial(name: str, where: TextClause, *columns: Column[Any]) -> Index:
    return Index(name, *columns, sqlite_where=where, postgresql_where=where)


BY_STATE = _partial("eventbus_letters_state", FAILED, letters.c.state, letters.c.created_us)
BY_EVENT = _partial("eventbus_letters_event", FAILED, letters.c.event_name, letters.c.created_us)
BY_HANDLER = _partial("eventbus_letters_handler", FAILED, letters.c.handler_id, letters.c.created_us)
BY_FINGERPRINT = _partial("eventbus_letters_fingerprint", FAILED, letters.c.fingerprint, letters.c.created_us)
BY_CORRELATION = _partial(
    "eventbus_letters_correlation", FAILED, letters.c.correlation_id, letters.c.created_us
)
# State and live stand in these indexes to be counted, and an oldest open letter found, without reading rows.
BY_CREATED = _partial("eventbus_letters_created", FAILED, letters.c.live, letters.c.created_us)
BY_TENANT = _partial(
    "eventbus_letters_tenant",
    text("live = 0 AND tenant IS NOT NULL"),
    letters.c.tenant,
    letters.c.created_us,
    letters.c.seq,
    letters.c.state,
    letters.c.live,
)
LIVE_BY_CREATED = _partial("eventbus_letters_live", LIVE, letters.c.live, letters.c.created_us)
"""What listings look through for live rows, whatever else is asked."""

# Tenant and state are there to be counted without reading rows.
DUE = _partial(
    "eventbus_letters_due",
    PENDING,
    letters.c.handler_id,
    letters.c.priority,
    letters.c.retry_us,
    letters.c.tenant,
    letters.c.waits,
    letters.c.state,
)
READY = _partial(
    "eventbus_letters_ready", READY_TO_RUN, letters.c.handler_id, letters.c.priority, letters.c.queued_us
)
LEASED = _partial("eventbus_letters_leased", RUNNING, letters.c.lease_us)
SEQUENCE = _partial(
    "eventbus_letters_sequence", IN_SEQUENCE, letters.c.handler_id, letters.c.ordering_key, letters.c.seq
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

count_deltas = Table(
    "eventbus_dead_letter_count_deltas",
    metadata,
    Column("seq", _row_number, primary_key=True),
    *(Column(column.name, column.type, nullable=False) for column in counts.columns),
)
"""Changes of ``counts`` that were not added to them yet.

Where transactions are long or run side by side, all of them would wait for the same few counter rows.
They append here instead; whoever counts adds both up, and upkeep folds the one into the other.
"""

processes = Table(
    "eventbus_processes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_us", BigInteger, nullable=False),
    Column("beat_us", BigInteger, nullable=False),
    Column("handlers", Text, nullable=False),
)
"""The processes that share this database, each with the handlers that it runs (JSON)."""

handlers = Table(
    "eventbus_handlers",
    metadata,
    Column("handler_id", Text, primary_key=True),
    Column("announced_us", BigInteger, nullable=False),
)
"""When each handler was last announced by a process."""

spools = Table(
    "eventbus_spools",
    metadata,
    Column("id", Text, primary_key=True),
    Column("position", BigInteger, nullable=False),
    Column("imported_us", BigInteger, nullable=False),
)
"""Up to which byte each spool file was imported."""

configuration = Table(
    "eventbus_configuration",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("stamp", Text, nullable=False),
    Column("automatic_retries", Integer, nullable=False),
)
"""One row, number 1, once operators have set anything.

``version`` rises with every change of controls, schedules and switch. ``stamp`` is another one then, that
never was: what a transaction has read that was rolled back can be told from what came to be instead.
"""

REOPENED = text("state = 'reopened'")

controls = Table(
    "eventbus_controls",
    metadata,
    Column("number", _row_number, primary_key=True, autoincrement=False),
    Column("scope", Text, nullable=False, unique=True),
    Column("tenant", Text),
    Column("event_name", Text),
    Column("handler_id", Text),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("closed_by", Text, nullable=False),
    Column("since_us", BigInteger, nullable=False),
    Column("until_us", BigInteger),
    Column("drained_us", BigInteger),
    Column("version", BigInteger, nullable=False),
    Index("eventbus_controls_reopened", "number", sqlite_where=REOPENED, postgresql_where=REOPENED),
    Index("eventbus_controls_until", "until_us"),
)
"""The scopes that are closed (``scope`` is its three names in JSON), each with a number of its own.

One that was opened is gone; only while letters are left that it has parked its row stays, ``reopened``.
"""

control_acks = Table(
    "eventbus_control_acks",
    metadata,
    Column("version", BigInteger, primary_key=True, autoincrement=False),
    Column("process_id", Text, primary_key=True),
)
"""Which processes run nothing any more of the draining control of a version; no two have the same."""

parked = Table(
    "eventbus_parked",
    metadata,
    Column("letter_seq", _row_number, primary_key=True, autoincrement=False),
    Column("control", BigInteger, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Index("eventbus_parked_control", "control", "created_us", "letter_seq"),
)
"""Which control has parked which letter, by the number of its row.

A letter that leaves ``parked`` in another way, or is deleted, leaves its row here behind. That means nothing:
who looks at it looks at the letter too.
"""

schedules = Table(
    "eventbus_schedules",
    metadata,
    Column("seq", _row_number, primary_key=True),
    Column("scope", Text, nullable=False, unique=True),
    Column("handler_id", Text),
    Column("event_name", Text),
    Column("redelivery", Text, nullable=False),
    Column("set_by", Text),
    Column("since_us", BigInteger, nullable=False),
)
"""The redelivery schedules that were set at run time; ``scope`` is handler and event in JSON."""

announcements = Table(
    "eventbus_announcements",
    metadata,
    Column("seq", _row_number, primary_key=True),
    Column("key", Text, nullable=False, unique=True),
    Column("dead_letter_id", Text, nullable=False),
    Column("event_id", Text, nullable=False),
    Column("event_name", Text, nullable=False),
    Column("handler_id", Text, nullable=False),
    Column("tenant", Text),
    Column("reason", Text),
    Column("at_us", BigInteger, nullable=False),
    Column("owner", Text),
    Column("lease_us", BigInteger),
)
"""The letters that have become exhausted and were not told of; who tells of one has it for a while."""
