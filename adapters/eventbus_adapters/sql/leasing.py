"""Taking letters for a run: what is behind every claim."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from eventbus_adapters.sql import first_runs
from eventbus_adapters.sql.announcing import announce, exhausted
from eventbus_adapters.sql.counts import COUNTED
from eventbus_adapters.sql.decoding import BrokenRowError, moment_of
from eventbus_adapters.sql.encoding import lease_us, microseconds
from eventbus_adapters.sql.first_runs import Terms, letter_of_first_run
from eventbus_adapters.sql.plain import COLUMNS, letter_of_values
from eventbus_adapters.sql.statements import Padded, Statement
from eventbus_dlq.claiming import claim_of
from eventbus_dlq.letter import DeadLetter, DeadLetterState, Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from sqlalchemy import Connection

    from eventbus_adapters.sql.counts import Deltas
    from eventbus_dlq.store import Claim

Row: TypeAlias = Sequence[Any]
Unread: TypeAlias = "tuple[Callable[[Row], DeadLetter], Row]"
"""A claimed row, of which ``seq`` stands first, and what makes a letter of it."""

_SEQ, _STATE, _STATE_BEFORE = (COLUMNS.index(it) for it in ("seq", "state", "state_before"))
_ATTEMPTS, _RETRIES, _TOKEN = (COLUMNS.index(it) for it in ("attempts", "retries", "token"))
_OWNER, _LEASE, _UPDATED = (COLUMNS.index(it) for it in ("lease_owner", "lease_us", "updated_us"))
_QUEUED, _LIVE, _KIND = (COLUMNS.index(it) for it in ("queued_us", "live", "kind"))
_RAISED = ("attempts", "retries", "token")
_counted_of = itemgetter(*[COLUMNS.index(name) for name in COUNTED])
_raised_of = itemgetter(*[COLUMNS.index(name) for name in _RAISED])
_first_raised_of = itemgetter(*[first_runs.COLUMNS.index(name) for name in _RAISED])
_MOST, _MOST_TOKENS = 2**31 - 2, 2**63 - 2  # one more is what their columns hold on PostgreSQL
_ACCEPTED, _RUNNING = DeadLetterState.ACCEPTED.value, DeadLetterState.RUNNING.value

_TAKE = """WITH wanted (row_seq) AS (VALUES {rows})
    UPDATE {letters} SET
        state = 'running', state_before = state, attempts = attempts + 1, token = token + 1,
        retries = retries + CASE WHEN state = 'accepted' THEN 0 ELSE 1 END,
        queued_us = NULL,
        lease_owner = :owner, lease_us = {clock} + CAST(:lease_us AS BIGINT), updated_us = :now_us
    WHERE seq IN (SELECT row_seq FROM wanted)
        AND attempts BETWEEN 0 AND {most} AND retries BETWEEN 0 AND {most}
        AND token BETWEEN 0 AND {most_tokens}"""
_LIMITS = {"most": str(_MOST), "most_tokens": str(_MOST_TOKENS)}
_TAKE_ALONE = Padded(_TAKE, row=["BIGINT"], **_LIMITS)
_TAKE_AND_READ = Padded(
    f"{_TAKE} RETURNING {{columns}}", row=["BIGINT"], columns=", ".join(COLUMNS), **_LIMITS
)
_READ = Padded(
    """WITH wanted (row_seq) AS (VALUES {rows})
    SELECT {columns} FROM {letters} WHERE seq IN (SELECT row_seq FROM wanted) {sure}""",
    row=["BIGINT"],
    columns=", ".join(COLUMNS),
)
_READ_FIRST_RUNS = Padded(
    """WITH wanted (row_seq) AS (VALUES {rows})
    SELECT {columns} FROM {letters} WHERE seq IN (SELECT row_seq FROM wanted)
        AND state || '' = 'accepted' AND kind = '' AND category = '' AND route = '' AND fingerprint = ''
        AND error = CAST('null' AS BLOB) AND history = CAST('[]' AS BLOB)""",
    row=["BIGINT"],
    columns=", ".join(first_runs.COLUMNS),
)
# Not in the statement above: SQLite would write most indexes again, although live hardly ever changes.
_MAKE_LIVE = Padded(
    """WITH wanted (row_seq) AS (VALUES {rows})
    UPDATE {letters} SET live = 1 WHERE seq IN (SELECT row_seq FROM wanted)""",
    row=["BIGINT"],
)
_SET_ASIDE = Statement(
    """UPDATE {letters} SET state = 'exhausted', reason = 'undecodable', state_before = NULL, live = 0,
        lease_owner = NULL, lease_us = NULL
    WHERE seq = :row_seq"""
)


def take(
    connection: Connection,
    deltas: Deltas,
    wanted: Mapping[int, str],
    *,
    owner: str,
    lease: float,
    now: datetime,
) -> list[Unread]:
    """Claim the letters of rows, whose states are given by their numbers.

    Return them in that order, to be read when the claim is committed. What cannot be counted any further is
    set aside instead: somebody has written numbers by hand.
    """
    taking = _Taking(connection, deltas, owner=owner, lease_us=lease_us(lease), now_us=microseconds(now))
    if connection.dialect.name == "sqlite":
        taking.read_and_claim(wanted)
    else:
        taking.claim_and_read(wanted)
    taking.count()
    left = [it for it in wanted if it not in taking.taken]
    _set_aside(connection, deltas, _READ.tuples(connection, [(it,) for it in left]), now=now)
    return [taking.taken[it] for it in wanted if it in taking.taken]


class _Taking:
    """One claim of some letters.

    Attributes:
        taken: the rows by their numbers.
    """

    def __init__(
        self, connection: Connection, deltas: Deltas, *, owner: str, lease_us: int, now_us: int
    ) -> None:
        self.taken: dict[int, Unread] = {}
        self._connection = connection
        self._deltas = deltas
        self._terms = {"owner": owner, "lease_us": lease_us, "now_us": now_us}
        self._owner = owner
        self._now_us = now_us
        self._until_us = now_us + lease_us
        self._counted: list[tuple[str, Row]] = []
        self._to_be_live: list[tuple[int]] = []

    def claim_and_read(self, wanted: Iterable[int]) -> None:
        """Claim rows, and have the update return them."""
        for row in _TAKE_AND_READ.tuples(self._connection, [(it,) for it in wanted], **self._terms):
            self._take_whole(row)

    def read_and_claim(self, wanted: Mapping[int, str]) -> None:
        """Read rows, and then claim them: on SQLite nobody else writes in between.

        There, to read costs half of what it costs to have an update return what it has written.
        """
        accepted = [(seq,) for seq, state in wanted.items() if state == _ACCEPTED]
        found = _READ_FIRST_RUNS.tuples(self._connection, accepted)
        fresh = {row[_SEQ]: row for row in found if _are_countable(*_first_raised_of(row))}
        others = _READ.tuples(self._connection, [(seq,) for seq in wanted if seq not in fresh])
        countable = [row for row in others if _are_countable(*_raised_of(row))]
        seqs = [(seq,) for seq in (*fresh, *(row[_SEQ] for row in countable))]
        _TAKE_ALONE.tuples(self._connection, seqs, **self._terms)
        self._take_first_runs(fresh.values())
        for row in countable:
            self._take_as_read(row)

    def count(self) -> None:
        """Write what follows from the claim."""
        _MAKE_LIVE.over(self._connection, self._to_be_live)
        self._deltas.claim(self._counted)

    def _take_first_runs(self, rows: Iterable[Row]) -> None:
        terms = Terms(self._owner, moment_of(self._until_us), moment_of(self._now_us))
        read = partial(letter_of_first_run, terms=terms)
        for row in rows:
            seq, live, event_name, handler_id, tenant, attempts, created_us, *_ = row
            counted = (tenant, event_name, handler_id, "", "", "", _RUNNING, attempts + 1, created_us)
            self._counted.append((_ACCEPTED, counted))
            if not live:
                self._to_be_live.append((seq,))
            self.taken[seq] = (read, row)

    def _take_as_read(self, before: Row) -> None:
        attempts, retries, token = _raised_of(before)
        row = list(before)
        state = row[_STATE_BEFORE] = row[_STATE]
        row[_STATE] = _RUNNING
        row[_ATTEMPTS] = attempts + 1
        row[_RETRIES] = retries + (state != _ACCEPTED)
        row[_TOKEN] = token + 1
        row[_QUEUED] = None
        row[_OWNER] = self._owner
        row[_LEASE] = self._until_us
        row[_UPDATED] = self._now_us
        self._take_whole(row)

    def _take_whole(self, row: Row) -> None:
        if not (row[_LIVE] or row[_KIND]):
            self._to_be_live.append((row[_SEQ],))
        self._counted.append((row[_STATE_BEFORE], _counted_of(row)))
        self.taken[row[_SEQ]] = (letter_of_values, row)


def _are_countable(attempts: Any, retries: Any, token: Any) -> bool:
    return (
        type(attempts) is type(retries) is type(token) is int
        and 0 <= attempts <= _MOST
        and 0 <= retries <= _MOST
        and 0 <= token <= _MOST_TOKENS
    )


class Granted(NamedTuple):
    """What claimed rows say.

    Attributes:
        claims: of those that can be understood, in order.
        broken: the numbers of the others.
    """

    claims: list[Claim]
    broken: list[int]


def granted(rows: Iterable[Unread]) -> Granted:
    """Read claimed rows."""
    claims: list[Claim] = []
    broken: list[int] = []
    for read, row in rows:
        try:
            claims.append(claim_of(read(row)))
        except BrokenRowError:
            broken.append(row[_SEQ])
    return Granted(claims, broken)


def set_aside_broken(
    connection: Connection, deltas: Deltas, broken: Sequence[int], *, owner: str, now: datetime
) -> None:
    """Make rows that ``owner`` has claimed and nobody can understand ``exhausted/undecodable``.

    Else they would be found, and stand before all others, each time.
    """
    rows = [
        row
        for row in _READ.tuples(connection, [(it,) for it in broken])
        if row[_STATE] == _RUNNING and row[_OWNER] == owner and granted([(letter_of_values, row)]).broken
    ]
    _set_aside(connection, deltas, rows, now=now)


def _set_aside(connection: Connection, deltas: Deltas, rows: Iterable[Row], *, now: datetime) -> None:
    for row in rows:
        set_aside(connection, deltas, dict(zip(COLUMNS, row, strict=True)), now=now)


def set_aside(connection: Connection, deltas: Deltas, row: Mapping[str, Any], *, now: datetime) -> None:
    """Make a row that cannot be understood ``exhausted/undecodable``."""
    _SET_ASIDE.run(connection, row_seq=row["seq"])
    deltas.move(row, {**row, "state": DeadLetterState.EXHAUSTED.value})
    announce(connection, [exhausted({**row, "reason": Reason.UNDECODABLE.value}, microseconds(now))])
