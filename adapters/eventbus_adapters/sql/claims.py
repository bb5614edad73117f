"""``claim``, ``heartbeat``, ``settle`` and ``release``: what needs a lease, fenced by its token."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from eventbus_adapters.sql.decoding import BrokenRowError, checked_letter_of
from eventbus_adapters.sql.loading import row_by_id, save_failing, save_standing
from eventbus_dlq import moves
from eventbus_dlq.errors import DeadLetterNotFound, InvalidTransition, LeaseHeld
from eventbus_dlq.letter import DeadLetter, DeadLetterState, check_claim
from eventbus_dlq.store import Claim, Lease, Settlement

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy import Connection

    from eventbus.errors import EventBusError
    from eventbus_adapters.sql.counts import Deltas


def claim(
    connection: Connection, deltas: Deltas, ids: Sequence[str], *, owner: str, lease: float, now: datetime
) -> list[Claim | Exception]:
    """Take letters for a run; what cannot be claimed has its error in its place."""
    return [_claim(connection, deltas, it, owner=owner, lease=lease, now=now) for it in ids]


def heartbeat(
    connection: Connection, deltas: Deltas, leases: Sequence[Lease], *, lease: float, now: datetime
) -> list[Lease]:
    """Extend leases to ``lease`` seconds from ``now``; return those that are lost."""
    until = now + timedelta(seconds=lease)

    def extend(row: Mapping[str, Any], letter: DeadLetter) -> None:
        save_standing(connection, deltas, row, replace(letter, lease_until=until), before_of(row))

    return [it for it in leases if not _held(connection, it, extend)]


def settle(
    connection: Connection, deltas: Deltas, settlements: Sequence[Settlement], *, now: datetime
) -> list[Lease]:
    """Record how claimed runs ended; return the leases that were lost."""

    def settle_one(settlement: Settlement) -> bool:
        def end(row: Mapping[str, Any], letter: DeadLetter) -> None:
            settled = moves.settled(letter, settlement, now=now)
            failed = (settlement.error, settlement.attempt, settlement.fingerprint, settlement.annotations)
            if all(news is None for news in failed):
                save_standing(connection, deltas, row, settled, None)
            else:
                save_failing(connection, deltas, row, settled)

        return _held(connection, settlement.lease, end)

    return [it.lease for it in settlements if not settle_one(it)]


def release(connection: Connection, deltas: Deltas, leases: Sequence[Lease], *, now: datetime) -> list[Lease]:
    """Give claimed letters back to the state before, uncharged; return the leases that were lost."""

    def give_back(row: Mapping[str, Any], letter: DeadLetter) -> None:
        save_standing(connection, deltas, row, moves.released(letter, before_of(row), now=now), None)

    return [it for it in leases if not _held(connection, it, give_back)]


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
        raise InvalidTransition(
            f"dead letter {row['id']} is undecodable ({error}); it can only be deleted"
        ) from None


def _claim(
    connection: Connection, deltas: Deltas, dead_letter_id: str, *, owner: str, lease: float, now: datetime
) -> Claim | Exception:
    row = row_by_id(connection, dead_letter_id)
    if row is None:
        return DeadLetterNotFound(dead_letter_id)
    try:
        letter = understood(row)
        _check(letter, now)
    except (InvalidTransition, LeaseHeld) as error:
        return _plain(error)
    rescued = letter.state is DeadLetterState.RUNNING
    running = moves.claimed(letter, owner=owner, lease=lease, now=now)
    save_standing(connection, deltas, row, running, before_of(row) if rescued else letter.state)
    return Claim(letter=running, lease=Lease(dead_letter_id=letter.id, token=running.token), rescued=rescued)


def _check(letter: DeadLetter, now: datetime) -> None:
    if letter.state is not DeadLetterState.RUNNING:
        check_claim(letter.id, letter.state)
    elif letter.lease_until is not None and now < letter.lease_until:
        raise LeaseHeld(
            f"dead letter {letter.id} is run by {letter.lease_owner!r} until {letter.lease_until}; "
            "try again when it has settled"
        )


def _plain(error: EventBusError) -> EventBusError:
    """Return an error without its traceback, which would keep the row and the connection alive."""
    return error.with_traceback(None)


def _held(
    connection: Connection, lease: Lease, change: Callable[[Mapping[str, Any], DeadLetter], None]
) -> bool:
    """Change the letter under ``lease``; return False, and change nothing, when it is lost."""
    row = row_by_id(connection, lease.dead_letter_id)
    if row is None or row["state"] != DeadLetterState.RUNNING or row["token"] != lease.token:
        return False
    try:
        change(row, checked_letter_of(row))
    except BrokenRowError:
        return False
    return True
