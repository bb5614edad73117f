"""Recording how runs ended in the rows themselves, without reading the letters: most of what is settled.

It does what ``moves.settled`` does, to letters outside sequences; whatever it leaves out is read, moved and
written as a letter.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from sqlalchemy import bindparam, func, null, update

from eventbus_adapters.sql.announcing import announce
from eventbus_adapters.sql.counts import COUNTED
from eventbus_adapters.sql.encoding import (
    annotations_json,
    failure_of,
    microseconds,
    policy_text,
    word_of,
)
from eventbus_adapters.sql.histories import added
from eventbus_adapters.sql.loading import storable
from eventbus_adapters.sql.prepared import Prepared
from eventbus_adapters.sql.statements import Padded
from eventbus_adapters.sql.tables import letters
from eventbus_dlq.letter import DeadLetterState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from eventbus_adapters.sql.counts import Deltas
    from eventbus_dlq.store import Lease, Settlement

Row: TypeAlias = "tuple[Any, ...]"

_FAILURE = ("fingerprint", "error_type", "error_message", "error_code", "kind", "category", "route", "error")
_NARROW = ("id", "token", "seq", "state_before", "retries", "last_attempt_us", "live", "event_id", *COUNTED)
_WIDE = (*_NARROW, *_FAILURE, "history")
_counted_of = itemgetter(*[_NARROW.index(name) for name in COUNTED])
_SORT = slice(COUNTED.index("kind"), COUNTED.index("state") + 1)  # of a failure, and where it stands
_known_failure_of = itemgetter(*[_WIDE.index(name) for name in _FAILURE])
_HISTORY = _WIDE.index("history")
_SEQ, _LIVE, _BEFORE = (_NARROW.index(it) for it in ("seq", "live", "state_before"))
_ATTEMPTS, _RETRIES, _LAST_ATTEMPT = (_NARROW.index(it) for it in ("attempts", "retries", "last_attempt_us"))
_ANNOUNCED = ("id", "event_id", "event_name", "handler_id", "tenant")
_announced_of = itemgetter(*[_NARROW.index(it) for it in _ANNOUNCED])
_STATES = {None, *map(str, DeadLetterState)}
_ACCEPTED = DeadLetterState.ACCEPTED.value
_EXHAUSTED = DeadLetterState.EXHAUSTED.value

_SQL = """WITH wanted (known_id, known_token) AS (VALUES {rows})
    SELECT {columns} FROM wanted CROSS JOIN {letters}
    WHERE id = known_id AND token = known_token AND state || '' = 'running' AND ordering_key IS NULL {sure}"""
_HELD = Padded(_SQL, row=["TEXT", "BIGINT"], columns=", ".join(_NARROW))
_HELD_WHOLE = Padded(_SQL, row=["TEXT", "BIGINT"], columns=", ".join(_WIDE))

_STANDING = ("state", "reason", "attempts", "retries", "retry_us", "updated_us", "last_attempt_us")
_KEPT_WITHOUT = ("acted_by", "note", "redelivery", "annotations")  # what None leaves as it is


def _saving(names: Sequence[str]) -> Prepared:
    coalesce: Any = func.coalesce
    values: list[tuple[str, Any]] = [
        *((name, null()) for name in ("state_before", "lease_owner", "lease_us")),
        *((name, bindparam(f"new_{name}")) for name in names if name not in _KEPT_WITHOUT),
        *((it, coalesce(bindparam(f"new_{it}"), letters.c[it])) for it in _KEPT_WITHOUT if it in names),
    ]
    return Prepared(
        update(letters).where(letters.c.seq == bindparam("row_seq")).ordered_values(*values),
        [*(f"new_{name}" for name in names), "row_seq"],
    )


_FAILED = (*_STANDING, "acted_by", "note", "redelivery", "annotations", *_FAILURE[1:], "history")
# Columns of indexes are set where they change: SQLite writes all indexes again that have to do with them.
_SAVE_FAILED = _saving(_FAILED)
_SAVE_FAILED_ELSEWHERE = _saving((*_FAILED, "fingerprint"))
_SAVE_FIRST_FAILED = _saving((*_FAILED, "fingerprint", "live"))


_STAND_SQL = """WITH wanted (row_seq) AS (VALUES {rows})
    UPDATE {letters} SET {live}
        state_before = NULL, lease_owner = NULL, lease_us = NULL,
        state = CAST(:state AS TEXT), reason = CAST(:reason AS TEXT),
        attempts = attempts + CAST(:more_attempts AS INTEGER),
        retries = retries - CAST(:fewer_retries AS INTEGER),
        retry_us = CAST(:retry_us AS BIGINT), updated_us = CAST(:updated_us AS BIGINT),
        last_attempt_us = coalesce(CAST(:last_attempt_us AS BIGINT), last_attempt_us),
        acted_by = coalesce(CAST(:acted_by AS TEXT), acted_by), note = coalesce(CAST(:note AS TEXT), note),
        redelivery = coalesce(CAST(:redelivery AS TEXT), redelivery)
    WHERE seq IN (SELECT row_seq FROM wanted)"""
_STAND = Padded(_STAND_SQL, row=["BIGINT"], live="")
_STAND_FIRST = Padded(_STAND_SQL, row=["BIGINT"], live="live = 0,")


class _Standing(NamedTuple):
    """What a run that has ended changes in its row, but for how it failed; most of a batch have the same."""

    state: str | None
    reason: str | None
    more_attempts: int
    fewer_retries: int
    retry_us: int | None
    updated_us: int
    last_attempt_us: int | None
    acted_by: str | None
    note: str | None
    redelivery: str | None


def record(
    connection: Connection, deltas: Deltas, settlements: Iterable[Settlement], *, now: datetime
) -> set[Lease]:
    """Record what can be recorded like this; return the leases that are done with."""
    first: dict[tuple[str, int], Settlement] = {}
    for it in settlements:
        first.setdefault(it.lease, it)
    storables = [lease for lease in first if storable(lease[0], connection)]
    recorder = _Recorder(deltas, microseconds(now))
    for row in _HELD.tuples(connection, [it for it in storables if _has_no_news(first[it])]):
        recorder.stand(row, first[row[:2]])
    for row in _HELD_WHOLE.tuples(connection, [it for it in storables if _is_failure(first[it])]):
        recorder.fail(row, first[row[:2]])
    return recorder.write(connection)


def _is_failure(settlement: Settlement) -> bool:
    return settlement.error is not None and settlement.fingerprint is not None


def _has_no_news(settlement: Settlement) -> bool:
    news = (settlement.error, settlement.fingerprint, settlement.annotations)
    return not settlement.attempts and all(it is None for it in news)


class _Recorder:
    """Gathers what becomes of rows."""

    def __init__(self, deltas: Deltas, now_us: int) -> None:
        self._deltas = deltas
        self._now_us = now_us
        self._standing: dict[tuple[Padded, _Standing], list[tuple[int]]] = {}
        self._failing: dict[Prepared, list[Row]] = {}
        self._before: list[Row] = []
        self._after: list[Row] = []
        self._exhausted: list[Row] = []
        self._done: set[Lease] = set()

    def stand(self, row: Row, settlement: Settlement) -> None:
        """Note that a run ended without a failure."""
        standing = self._standing_of(row, settlement)
        if standing is None:
            return
        statement = _STAND_FIRST if row[_LIVE] else _STAND
        self._standing.setdefault((statement, standing), []).append((row[_SEQ],))
        self._count(row, standing, None)
        self._done.add(settlement.lease)

    def fail(self, row: Row, settlement: Settlement) -> None:
        """Note that a run failed."""
        standing = self._standing_of(row, settlement)
        error = settlement.error
        assert error is not None
        known = _known_failure_of(row)
        history = added(row[_HISTORY], known[1:], settlement.attempts, error)
        if standing is None or history is None:
            return
        failure = failure_of(error)
        values = (
            standing.state,
            standing.reason,
            row[_ATTEMPTS] + standing.more_attempts,
            row[_RETRIES] - standing.fewer_retries,
            standing.retry_us,
            standing.updated_us,
            row[_LAST_ATTEMPT] if standing.last_attempt_us is None else standing.last_attempt_us,
            standing.acted_by,
            standing.note,
            standing.redelivery,
            annotations_json(settlement.annotations),
            *failure,
            history,
        )
        if row[_LIVE]:
            self._save(_SAVE_FIRST_FAILED, row, (*values, settlement.fingerprint, 0))
        elif known[0] != settlement.fingerprint:
            self._save(_SAVE_FAILED_ELSEWHERE, row, (*values, settlement.fingerprint))
        else:
            self._save(_SAVE_FAILED, row, values)
        self._count(row, standing, failure)
        self._done.add(settlement.lease)

    def write(self, connection: Connection) -> set[Lease]:
        """Write what was gathered; return the leases that it was about."""
        for (standing_statement, standing), seqs in self._standing.items():
            standing_statement.tuples(connection, seqs, **standing._asdict())
        for statement, rows in self._failing.items():
            statement.many(connection, rows)
        self._deltas.take_out(self._before)
        self._deltas.take_in(self._after)
        announce(connection, self._exhausted)
        return self._done

    def _standing_of(self, row: Row, settlement: Settlement) -> _Standing | None:
        """Return where a letter stands after its run; None when it is not a row as the store writes them."""
        attempts, retries, before = row[_ATTEMPTS], row[_RETRIES], row[_BEFORE]
        if not (type(attempts) is type(retries) is int and before in _STATES):
            return None
        given_back = settlement.uncharged and before is not None
        not_held_against = given_back or (settlement.excused and before is not None)
        return _Standing(
            word_of(settlement.state),
            word_of(settlement.reason),
            settlement.reruns - given_back,
            int(not_held_against and before != _ACCEPTED),
            None if settlement.retry_at is None else microseconds(settlement.retry_at),
            self._now_us,
            None if settlement.uncharged else self._now_us,
            settlement.acted_by,
            settlement.note,
            None if settlement.redelivery is None else policy_text(settlement.redelivery),
        )

    def _save(self, saving: Prepared, row: Row, values: Row) -> None:
        self._failing.setdefault(saving, []).append((*values, row[_SEQ]))

    def _count(self, row: Row, standing: _Standing, failure: Row | None) -> None:
        before = _counted_of(row)
        after = list(before)
        if failure is not None:
            after[_SORT] = [*failure[3:6], None]
        after[_SORT.stop - 1], after[-2] = standing.state, row[_ATTEMPTS] + standing.more_attempts
        self._before.append(before)
        self._after.append(tuple(after))
        if standing.state == _EXHAUSTED:
            self._exhausted.append((*_announced_of(row), standing.reason, self._now_us))
