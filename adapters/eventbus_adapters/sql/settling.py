"""``settle``: first runs that succeeded are deleted together, the others recorded in their rows.

What has a place in a sequence is read, moved and written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventbus_adapters.sql.changes import Changes
from eventbus_adapters.sql.claims import Held, before_of
from eventbus_adapters.sql.counts import COUNTED
from eventbus_adapters.sql.loading import storable
from eventbus_adapters.sql.recording import record
from eventbus_adapters.sql.statements import Padded
from eventbus_dlq import moves
from eventbus_dlq.letter import DeadLetterState
from eventbus_dlq.store import Lease, Settlement

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Connection

    from eventbus_adapters.sql.counts import Deltas

_FORGOTTEN: tuple[str, ...] = ("id", "token", "seq", "ordering_key", "waits", *COUNTED)
_SEQ, _ORDERING_KEY = _FORGOTTEN.index("seq"), _FORGOTTEN.index("ordering_key")
_COUNTED = len(_FORGOTTEN) - len(COUNTED)  # where they begin
_FROM_HELD = """FROM wanted CROSS JOIN {letters}
    WHERE id = known_id AND token = known_token AND state || '' = 'running' AND live + 0 = 1"""
_FORGET = Padded(
    """WITH wanted (known_id, known_token) AS (VALUES {rows})
    DELETE FROM {letters} WHERE seq IN (SELECT seq {from_held}) RETURNING {forgotten}""",
    row=["TEXT", "BIGINT"],
    from_held=_FROM_HELD,
    forgotten=", ".join(_FORGOTTEN),
)
_FIND = Padded(
    """WITH wanted (known_id, known_token) AS (VALUES {rows})
    SELECT {forgotten} {from_held}""",
    row=["TEXT", "BIGINT"],
    from_held=_FROM_HELD,
    forgotten=", ".join(_FORGOTTEN),
)
_DELETE = Padded(
    """WITH wanted (row_seq) AS (VALUES {rows})
    DELETE FROM {letters} WHERE seq IN (SELECT row_seq FROM wanted)""",
    row=["BIGINT"],
)


def settle(
    connection: Connection, deltas: Deltas, settlements: Sequence[Settlement], *, now: datetime
) -> list[Lease]:
    """Record how claimed runs ended; return the leases that were lost."""
    changes = Changes(connection, deltas, now=now)
    forgotten = _forget(connection, deltas, changes, settlements)
    if len(forgotten) == len(settlements):
        changes.write()
        return []
    done = forgotten | record(
        connection, deltas, [it for it in settlements if it.lease not in forgotten], now=now
    )
    if len(done) == len(settlements):
        changes.write()
        return []
    held = Held(connection, [it.lease for it in settlements if it.lease not in done])
    unsettled = set(done)
    lost: list[Lease] = []
    for settlement in settlements:
        if settlement.lease in unsettled:
            unsettled.remove(settlement.lease)
        elif settlement.lease in done or not _settle(changes, held, settlement, now):
            lost.append(settlement.lease)
    changes.write()
    return lost


def _forget(
    connection: Connection, deltas: Deltas, changes: Changes, settlements: Sequence[Settlement]
) -> set[tuple[str, int]]:
    """Delete what is forgotten, without reading it; return the leases that are done with."""
    first: dict[Lease, Settlement] = {}
    for it in settlements:
        first.setdefault(it.lease, it)
    wanted = [lease for lease, it in first.items() if it.forget and it.state is DeadLetterState.RESOLVED]
    if not storable("".join([it.dead_letter_id for it in wanted]), connection):
        wanted = [it for it in wanted if storable(it.dead_letter_id, connection)]
    gone = _deleted(connection, wanted)
    deltas.take_out([row[_COUNTED:] for row in gone])
    for row in gone:
        if row[_ORDERING_KEY] is not None:
            changes.left(dict(zip(_FORGOTTEN, row, strict=True)))
    return {row[:2] for row in gone}


def _deleted(connection: Connection, wanted: Sequence[Lease]) -> list[tuple[Any, ...]]:
    """Delete what is held under leases; return the rows as they were."""
    if connection.dialect.name != "sqlite":
        return _FORGET.tuples(connection, wanted)
    gone = _FIND.tuples(connection, wanted)  # cheaper there than to have a deletion return what it deletes
    _DELETE.tuples(connection, [(row[_SEQ],) for row in gone])
    return gone


def _settle(changes: Changes, held: Held, settlement: Settlement, now: datetime) -> bool:
    found = held.take(settlement.lease)
    if found is None:
        return False
    row, letter = found
    if moves.is_forgotten(letter, settlement):
        changes.remove(row)
        return True
    settled = moves.settled(letter, settlement, before_of(row), now=now)
    news = (settlement.error, settlement.fingerprint, settlement.annotations, settlement.redelivery)
    if settlement.attempts or any(it is not None for it in news):
        changes.failing(row, settled)
    else:
        changes.standing(row, settled)
    return True
