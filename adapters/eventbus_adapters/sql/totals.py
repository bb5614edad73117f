"""``stats``: from the counter rows and a few index seeks; no letter is read."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, ColumnElement, cast, func, select, union_all

from eventbus_adapters.sql.counts import KEY, SUMS, TENANT_MARK, tenant_key
from eventbus_adapters.sql.decoding import moment_of
from eventbus_adapters.sql.encoding import microseconds
from eventbus_adapters.sql.loading import storable
from eventbus_adapters.sql.portable import among
from eventbus_adapters.sql.tables import (
    BY_CREATED,
    BY_STATE,
    BY_TENANT,
    DUE,
    FAILED,
    LIVE,
    LIVE_BY_CREATED,
    PENDING,
    count_deltas,
    counts,
    letters,
)
from eventbus_dlq.closing import closed_scopes
from eventbus_dlq.letter import OPEN_STATES, DeadLetterState
from eventbus_dlq.stats import Recovery, Stats

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy import Connection, Row, Select, TextClause

    from eventbus_adapters.sql.closures import KnownControls

_OPEN = sorted(state.value for state in OPEN_STATES)
_OF_TENANTS, _OF_THE_REST = KEY[:1], KEY[1:]  # there are many tenants, and few of the rest
_counters = union_all(
    *(select(*(table.c[name] for name in (*KEY, *SUMS))) for table in (counts, count_deltas))
).subquery()
"""The counter rows, and what was not added to them yet."""

_LIVE_STATES = frozenset({DeadLetterState.ACCEPTED, DeadLetterState.RUNNING})
_PRIORITIES = range(1, 11)
_SECOND_US = 1_000_000


def stats(
    connection: Connection, *, now: datetime, tenants: Collection[str] | None, known: KnownControls
) -> Stats:
    """Return the totals, of all letters or of those of ``tenants``."""
    own = None if tenants is None else sorted({it for it in tenants if storable(it, connection)})
    of_tenants = _counted(connection, own, _OF_TENANTS)
    rows = _counted(connection, own, _OF_THE_REST)
    total = sum(row.letters for row in rows)
    still_open = [row for row in rows if row.state in OPEN_STATES]
    pending = sum(row.letters for row in still_open)
    by_state = _tally(rows, "state")
    failed, live = _apart(still_open)
    waiting = sorted({row.handler_id for row in still_open if row.state == DeadLetterState.PENDING})
    oldest, newest = _open_ends(connection, own, failed, live)
    paused, draining = closed_scopes(known.current(connection).controls, now, tenants)
    return Stats(
        total=total,
        by_state=by_state,
        by_event=_tally(rows, "event_name"),
        by_handler=_tally(rows, "handler_id"),
        by_tenant={_tenant_of(key): number for key, number in _tally(of_tenants, "tenant").items()},
        by_kind=_tally(rows, "kind", but=""),
        by_category=_tally(rows, "category", but=""),
        by_route=_tally(rows, "route", but=""),
        last_24h=_stored_since(connection, now - timedelta(hours=24), own, live),
        average_attempts=sum(row.attempts for row in rows) / total if total else 0.0,
        average_age=_average_age(still_open, pending, now) if pending else 0.0,
        due=_count(connection, _due(now, own, waiting)),
        oldest_open=oldest,
        newest_open=newest,
        recovery=Recovery(
            total=total,
            pending=pending,
            recovered=by_state.get(DeadLetterState.RESOLVED, 0),
            abandoned=by_state.get(DeadLetterState.DISCARDED, 0) + by_state.get(DeadLetterState.ARCHIVED, 0),
        ),
        paused=paused,
        draining=draining,
    )


def _counted(
    connection: Connection, tenants: list[str] | None, names: Sequence[str]
) -> Sequence[Row[*tuple[Any, ...]]]:
    """Return the counters, summed for each combination of the columns ``names``."""
    columns = [_counters.c[name] for name in names]
    sums = [cast(func.sum(_counters.c[name]), BigInteger).label(name) for name in SUMS]
    statement = select(*columns, *sums).group_by(*columns).having(func.sum(_counters.c.letters) > 0)
    if tenants is not None:
        statement = statement.where(among(_counters.c.tenant, [tenant_key(it) for it in tenants]))
    return connection.execute(statement).all()


def _tenant_of(key: str) -> str | None:
    return key.removeprefix(TENANT_MARK) if key else None


def _tally(rows: Sequence[Row[*tuple[Any, ...]]], column: str, *, but: str | None = None) -> dict[str, int]:
    found: Counter[str] = Counter()
    for row in rows:
        found[getattr(row, column)] += row.letters
    return {value: number for value, number in found.items() if value != but}


def _apart(rows: Sequence[Row[*tuple[Any, ...]]]) -> tuple[set[str], int]:
    """Return the states of the open letters that are not live, and how many are live."""
    failed: set[str] = set()
    live = 0
    for row in rows:
        if row.kind == "" and row.state in _LIVE_STATES:
            live += row.letters
        else:
            failed.add(row.state)
    return failed, live


def _average_age(rows: Sequence[Row[*tuple[Any, ...]]], letters_open: int, now: datetime) -> float:
    born_us: int = sum(row.created_s for row in rows) * _SECOND_US + sum(row.created_rest_us for row in rows)
    return (microseconds(now) * letters_open - born_us) / letters_open / _SECOND_US


def _count(connection: Connection, statement: Select[int]) -> int:
    return int(connection.execute(statement).scalar_one())


def _stored_since(connection: Connection, moment: datetime, tenants: list[str] | None, live: int) -> int:
    """Count what was stored since then: of what is ``live``, all but what is older."""
    moment_us = microseconds(moment)
    since, older = _counting(FAILED, letters.c.created_us >= moment_us), 0
    if tenants is None:
        since = since.with_hint(letters, f"INDEXED BY {BY_CREATED.name}", "sqlite")
    else:
        since = since.with_hint(letters, f"INDEXED BY {BY_TENANT.name}", "sqlite")
        since = since.where(among(letters.c.tenant, tenants))
    if live:
        stale = _counting(LIVE, letters.c.created_us < moment_us)
        stale = stale.with_hint(letters, f"INDEXED BY {LIVE_BY_CREATED.name}", "sqlite")
        older = _count(
            connection, stale if tenants is None else stale.where(among(letters.c.tenant, tenants))
        )
    return _count(connection, since) + live - older


def _counting(*conditions: ColumnElement[bool] | TextClause) -> Select[int]:
    return select(func.count()).select_from(letters).where(*conditions)


def _due(now: datetime, tenants: list[str] | None, handlers: Collection[str]) -> Select[int]:
    """Count what is pending for ``handlers`` and whose time has come: a seek for each, and each priority."""
    statement = (
        select(func.count())
        .select_from(letters)
        .where(
            PENDING,
            among(letters.c.handler_id, handlers),
            letters.c.priority.in_(_PRIORITIES),
            letters.c.retry_us <= microseconds(now),
        )
        .with_hint(letters, f"INDEXED BY {DUE.name}", "sqlite")
    )
    return statement if tenants is None else statement.where(among(letters.c.tenant, tenants))


def _open_ends(
    connection: Connection, tenants: list[str] | None, failed: Collection[str], live: int
) -> tuple[datetime | None, datetime | None]:
    """Return when the oldest and the newest open letter were stored."""
    ends: list[int | None] = []
    if failed:
        ends += (
            _ends_of_tenants(connection, tenants)
            if tenants is not None
            else _ends_of_states(connection, failed)
        )
    if live:
        ends += _ends_of_live(connection, tenants)
    found = [moment for moment in ends if moment is not None]
    return (moment_of(min(found)), moment_of(max(found))) if found else (None, None)


def _ends_of_live(connection: Connection, tenants: list[str] | None) -> list[int | None]:
    own = select(letters.c.created_us).where(LIVE)
    own = own.with_hint(letters, f"INDEXED BY {LIVE_BY_CREATED.name}", "sqlite").limit(1)
    if tenants is not None:
        own = own.where(among(letters.c.tenant, tenants))
    keys = (letters.c.created_us, letters.c.created_us.desc())
    return list(connection.execute(select(*(own.order_by(key).scalar_subquery() for key in keys))).one())


def _ends_of_states(connection: Connection, states: Collection[str]) -> list[int | None]:
    keys = (letters.c.created_us, letters.c.created_us.desc())
    seeks: list[ColumnElement[int | None]] = []
    for state in sorted(states):
        own = select(letters.c.created_us).where(FAILED, letters.c.state == state)
        own = own.with_hint(letters, f"INDEXED BY {BY_STATE.name}", "sqlite").limit(1)
        seeks += [own.order_by(key).scalar_subquery() for key in keys]
    return list(connection.execute(select(*seeks)).one())


def _ends_of_tenants(connection: Connection, tenants: list[str]) -> list[int | None]:
    """Seek both ends of every tenant that has open letters, all in one statement."""
    owners = (
        select(_counters.c.tenant)
        .where(
            _counters.c.letters > 0,
            _counters.c.state.in_(_OPEN),
            among(_counters.c.tenant, [tenant_key(it) for it in tenants]),
        )
        .distinct()
        .subquery()
    )
    own = (
        select(letters.c.created_us)
        .where(
            FAILED,
            letters.c.tenant == func.substr(owners.c.tenant, 1 + len(TENANT_MARK)),
            letters.c.state.in_(_OPEN),
        )
        .with_hint(letters, f"INDEXED BY {BY_TENANT.name}", "sqlite")
        .limit(1)
        .correlate(owners)
    )
    first = own.order_by(letters.c.created_us, letters.c.seq).scalar_subquery()
    last = own.order_by(letters.c.created_us.desc(), letters.c.seq.desc()).scalar_subquery()
    return list(connection.execute(select(func.min(first), func.max(last)).select_from(owners)).one())
