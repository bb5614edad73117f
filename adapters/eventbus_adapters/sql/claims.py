"""``claim``, ``heartbeat`` and ``release``: who owns a letter for how long, fenced by its token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventbus.errors import Paused
from eventbus_adapters.sql.changes import Changes
from eventbus_adapters.sql.closures import NOTHING_CLOSED, Closures, KnownControls
from eventbus_adapters.sql.decoding import BrokenRowError, checked_letter_of
from eventbus_adapters.sql.encoding import lease_us, microseconds
from eventbus_adapters.sql.leasing import granted, take
from eventbus_adapters.sql.loading import storable, values_by_ids
from eventbus_adapters.sql.locking import lock_rows
from eventbus_adapters.sql.plain import COLUMNS, letter_of_values
from eventbus_adapters.sql.statements import Padded
from eventbus_dlq import moves
from eventbus_dlq.closing import is_held, refusal
from eventbus_dlq.errors import DeadLetterNotFound, InvalidTransition, LeaseHeld
from eventbus_dlq.letter import DeadLetter, DeadLetterState, check_claim
from eventbus_dlq.store import Claim, Lease

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from eventbus_adapters.sql.counts import Deltas

_STATE, _TOKEN = COLUMNS.index("state"), COLUMNS.index("token")
_RUNNING = DeadLetterState.RUNNING.value

_LOOK = Padded(
    """WITH wanted (known_id) AS (VALUES {rows})
    SELECT {columns}, (SELECT stamp FROM {configuration}) AS stamp
    FROM wanted CROSS JOIN {letters} WHERE id = known_id {sure}""",
    row=["TEXT"],
    columns=", ".join(COLUMNS),
)
_BEAT = Padded(
    """WITH wanted (known_id, known_token) AS (VALUES {rows})
    UPDATE {letters} SET lease_us = {clock} + CAST(:lease_us AS BIGINT) WHERE seq IN (
        SELECT seq FROM wanted CROSS JOIN {letters}
        WHERE id = known_id AND token = known_token AND state || '' = 'running'
    ) RETURNING id, token""",
    row=["TEXT", "BIGINT"],
)


def claim(
    connection: Connection,
    deltas: Deltas,
    ids: Sequence[str],
    *,
    owner: str,
    lease: float,
    now: datetime,
    known: KnownControls,
) -> list[Claim | Exception]:
    """Take letters for a run; what cannot be claimed has its error in its place."""
    rows, closures = _looked_up(connection, ids, known)
    refused: dict[str, Exception] = {}
    for dead_letter_id, row in rows.items():
        try:
            _check(understood(row), closures, now)
        except (InvalidTransition, LeaseHeld, Paused) as error:
            # without its traceback, which would keep the row and the connection alive
            refused[dead_letter_id] = error.with_traceback(None)
    wanted = {row["seq"]: row["state"] for it, row in rows.items() if it not in refused}
    taken = take(connection, deltas, wanted, owner=owner, lease=lease, now=now)
    claims = {it.letter.id: it for it in granted(taken).claims}
    held = set(claims)
    outcomes: list[Claim | Exception] = []
    for dead_letter_id in ids:
        if dead_letter_id in claims:
            outcomes.append(claims.pop(dead_letter_id))
        elif dead_letter_id in refused:
            outcomes.append(refused[dead_letter_id])
        elif dead_letter_id in held:
            outcomes.append(_held_twice(dead_letter_id))
        elif dead_letter_id in rows:
            outcomes.append(_undecodable(dead_letter_id, "it cannot be counted any further"))
        else:
            outcomes.append(DeadLetterNotFound(dead_letter_id))
    return outcomes


def _looked_up(
    connection: Connection, ids: Sequence[str], known: KnownControls
) -> tuple[dict[str, dict[str, Any]], Closures]:
    wanted = [(it,) for it in dict.fromkeys(ids) if storable(it, connection)]
    found = _LOOK.tuples(connection, wanted)
    closures = known.at(connection, found[0][-1]) if found else NOTHING_CLOSED
    rows = (dict(zip(COLUMNS, row[:-1], strict=True)) for row in found)
    return {row["id"]: row for row in rows}, closures


def _check(letter: DeadLetter, closures: Closures, now: datetime) -> None:
    """Let a claim pass, or raise why not."""
    closing = closures.closing(letter.tenant, letter.event_name, letter.handler_id, now) if closures else None
    control = None if closing is None else closing.control
    if is_held(letter):
        raise refusal(letter.id, control)
    check_claim(letter.id, letter.state, waits=letter.waits)
    if control is not None:
        raise refusal(letter.id, control)


def heartbeat(
    connection: Connection, deltas: Deltas, leases: Sequence[Lease], *, lease: float, now: datetime
) -> list[Lease]:
    """Extend leases to ``lease`` seconds from ``now``; return those that are lost."""
    wanted = [(it.dead_letter_id, it.token) for it in leases if storable(it.dead_letter_id, connection)]
    lock_rows(connection, [dead_letter_id for dead_letter_id, _ in wanted])
    held = _BEAT.over(connection, wanted, now_us=microseconds(now), lease_us=lease_us(lease))
    extended = {tuple(row) for row in held}
    return [it for it in leases if (it.dead_letter_id, it.token) not in extended]


def release(connection: Connection, deltas: Deltas, leases: Sequence[Lease], *, now: datetime) -> list[Lease]:
    """Give claimed letters back to the state before, uncharged; return the leases that were lost."""
    lost: list[Lease] = []
    changes = Changes(connection, deltas, now=now)
    held = Held(connection, leases)
    for lease in leases:
        found = held.take(lease)
        if found is None:
            lost.append(lease)
            continue
        row, letter = found
        before = before_of(row)
        changes.standing(row, moves.released(letter, before, now=now), announces=False)
    changes.write()
    return lost


class Held:
    """The letters that are held under leases."""

    def __init__(self, connection: Connection, leases: Sequence[Lease]) -> None:
        self._rows = values_by_ids(connection, [it.dead_letter_id for it in leases])

    def take(self, lease: Lease) -> tuple[Mapping[str, Any], DeadLetter] | None:
        """Return what is held under ``lease``, once; None when it is lost."""
        values = self._rows.get(lease.dead_letter_id)
        if values is None or values[_STATE] != _RUNNING or values[_TOKEN] != lease.token:
            return None
        try:
            letter = letter_of_values(values)
        except BrokenRowError:
            return None
        del self._rows[lease.dead_letter_id]
        return dict(zip(COLUMNS, values, strict=True)), letter


def before_of(row: Mapping[str, Any]) -> DeadLetterState | None:
    """Return the state that a release restores; None when the letter arrived running."""
    try:
        return DeadLetterState(row["state_before"])
    except ValueError:
        return None


def understood(row: Mapping[str, Any]) -> DeadLetter:
    """Return the letter of a row that is to be changed.

    Raises:
        InvalidTransition: the row cannot be understood, so that nothing but deleting it is possible.
    """
    try:
        return checked_letter_of(row)
    except BrokenRowError as error:
        raise _undecodable(row["id"], error) from None


def _undecodable(dead_letter_id: str, why: object) -> InvalidTransition:
    return InvalidTransition(f"dead letter {dead_letter_id} is undecodable ({why}); it can only be deleted")


def _held_twice(dead_letter_id: str) -> LeaseHeld:
    return LeaseHeld(f"dead letter {dead_letter_id} is running; try again when the run has settled")
