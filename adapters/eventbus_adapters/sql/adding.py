"""``add``: one statement for all new letters, and a merge for each that is known already."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from sqlalchemy import bindparam, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from eventbus_adapters.sql.counts import KEY, tenant_key
from eventbus_adapters.sql.decoding import BrokenRowError, checked_letter_of
from eventbus_adapters.sql.encoding import ROW, Value
from eventbus_adapters.sql.loading import row_by_key, save_everything, save_failing
from eventbus_adapters.sql.prepared import Prepared
from eventbus_adapters.sql.tables import letters
from eventbus_dlq import moves
from eventbus_dlq.letter import DeadLetter, DeadLetterState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy import Connection

    from eventbus_adapters.sql.counts import Deltas


class TakenIdError(ValueError):
    """A letter's id is the one of another event or handler."""


def _inserting(insert: Any) -> Any:
    statement = insert(letters).values({name: bindparam(name) for name in ROW})
    return statement.on_conflict_do_nothing(index_elements=["event_id", "handler_id"])


_INSERT = Prepared({"sqlite": _inserting(sqlite.insert), "postgresql": _inserting(postgresql.insert)}, ROW)
_LAST_SEQ = Prepared(select(func.max(letters.c.seq)), ())
_KEY_OF_ID = Prepared(
    select(letters.c.event_id, letters.c.handler_id).where(letters.c.id == bindparam("taken")), ["taken"]
)
_key_of = itemgetter(*[ROW.index(name) for name in KEY])
_ATTEMPTS = ROW.index("attempts")
_CREATED = ROW.index("created_us")


def add(
    connection: Connection, deltas: Deltas, arrived: Sequence[DeadLetter], rows: list[tuple[Value, ...]]
) -> list[str]:
    """Keep letters, each with the row it would be; return the ids under which they are kept, in order.

    Raises:
        TakenIdError: an id is already taken by the letter of another event or handler.
    """
    try:
        inserted = _INSERT.many_at_once(connection, rows)
    except IntegrityError:
        for letter in arrived:
            _refuse_taken_id(connection, letter)
        raise
    if inserted == len(rows):
        _count(deltas, rows)
        return [letter.id for letter in arrived]
    return _add_or_merge(connection, deltas, zip(arrived, rows, strict=True), inserted)


def _add_or_merge(
    connection: Connection,
    deltas: Deltas,
    arrivals: Iterable[tuple[DeadLetter, tuple[Value, ...]]],
    inserted: int,
) -> list[str]:
    """Merge the arrivals that were not ``inserted``: new rows are the last ones of the table."""
    newest = _LAST_SEQ.run(connection).scalar_one()
    fresh = set(range(newest - inserted + 1, newest + 1))
    ids: list[str] = []
    for letter, new in arrivals:
        row = row_by_key(connection, letter.event_id, letter.handler_id)
        if row is None:  # pragma: no cover  # the INSERT left it out, so its key is there
            raise AssertionError(f"dead letter {letter.id} was neither inserted nor known")
        if row["seq"] in fresh:
            fresh.remove(row["seq"])
            _count(deltas, [new])
        else:
            _refuse_taken_id(connection, letter)
            _merge(connection, deltas, row, letter)
        ids.append(row["id"])
    return ids


def _merge(connection: Connection, deltas: Deltas, row: Any, letter: DeadLetter) -> None:
    try:
        known = checked_letter_of(row)
    except BrokenRowError:  # nothing can be added to it, and the failure that arrives must not be lost
        save_everything(connection, deltas, row, letter)
        return
    if known.id != letter.id and known.state is not DeadLetterState.RUNNING:  # else it was added already
        save_failing(connection, deltas, row, moves.merged(known, letter))


def _count(deltas: Deltas, rows: Sequence[tuple[Any, ...]]) -> None:
    for (tenant, *rest), alike in _by_key(rows).items():
        deltas.count(
            (tenant_key(tenant), *rest),
            len(alike),
            sum([row[_ATTEMPTS] for row in alike]),
            sum([row[_CREATED] for row in alike]),
        )


def _by_key(rows: Sequence[tuple[Any, ...]]) -> dict[tuple[Any, ...], list[tuple[Any, ...]]]:
    groups: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
    for row in rows:
        groups.setdefault(_key_of(row), []).append(row)
    return groups


def _refuse_taken_id(connection: Connection, letter: DeadLetter) -> None:
    own = (letter.event_id, letter.handler_id)
    taken = _KEY_OF_ID.run(connection, letter.id).first()
    if taken is not None and tuple(taken) != own:
        raise TakenIdError(
            f"id {letter.id!r} of the letter for {own!r} is taken by {tuple(taken)!r}; "
            "make a new one with eventbus.ids.new_id()"
        )
