"""One verb on many letters: membership is fixed first, then each one is done and accounted for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import anyio

from eventbus.errors import Paused
from eventbus_dlq.errors import (
    DeadLetterNotFound,
    InvalidTransition,
    LeaseHeld,
    LeaseLost,
    PayloadRedacted,
)
from eventbus_dlq.letter import CLAIMABLE_STATES, DeadLetterState

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from eventbus_dlq.query import DeadLetterQuery
    from eventbus_dlq.replay import Replayer
    from eventbus_dlq.store import DeadLetterStore

OperationState = Literal["running", "cancelled", "completed"]

_PAGE = 1_000
_AT_A_TIME = 10


@dataclass(slots=True)
class Operation:
    """The account of a verb on many letters.

    Attributes:
        total: letters that were meant when it began.
        done: those that are resolved now; of a requeue, those that are due.
        failed: those whose handler failed again, or could not be run.
        skipped: those for which it was not possible: closed, running, paused, redacted, or changed since it
            began.
        state: running, cancelled or completed.
    """

    total: int
    done: int = 0
    failed: int = 0
    skipped: int = 0
    state: OperationState = "running"


@dataclass(frozen=True, slots=True)
class Member:
    """A letter of an operation, as it was when the operation began."""

    dead_letter_id: str
    token: int
    runnable: bool


def check_meant(query: DeadLetterQuery) -> None:
    """Refuse a query without a condition that was not asked for by name.

    Raises:
        ValueError: it would mean every letter.
    """
    if query.is_empty and not query.is_everything:
        raise ValueError(
            "an empty query would act on every dead letter; give a condition, or say "
            "DeadLetterQuery.everything()"
        )


async def members_of(store: DeadLetterStore, query: DeadLetterQuery) -> Sequence[Member]:
    """Return the letters that ``query`` means now, oldest first."""
    members: list[Member] = []
    cursor: str | None = None
    while True:
        page = await store.find(query, limit=_PAGE, cursor=cursor, order="oldest")
        members += [Member(item.id, item.token, item.state in CLAIMABLE_STATES) for item in page.items]
        cursor = page.next_cursor
        if cursor is None:
            return members


async def replay_members(
    replayer: Replayer, members: Sequence[Member], *, by: str | None, note: str | None
) -> Operation:
    """Replay letters, a few at a time, oldest first, and return the account."""

    async def replay(member: Member, operation: Operation) -> None:
        await _replay_one(replayer, member, operation, by=by, note=note)

    return await _each(members, replay)


async def requeue_members(
    requeue: Callable[[str], Awaitable[object]], members: Sequence[Member]
) -> Operation:
    """Requeue letters, a few at a time, oldest first, and return the account."""

    async def requeue_one(member: Member, operation: Operation) -> None:
        try:
            await requeue(member.dead_letter_id)
        except (DeadLetterNotFound, InvalidTransition, LeaseHeld):
            operation.skipped += 1
        else:
            operation.done += 1

    return await _each(members, requeue_one)


async def _each(members: Sequence[Member], do: Callable[[Member, Operation], Awaitable[None]]) -> Operation:
    operation = Operation(total=len(members))
    waiting = iter(members)

    async def work() -> None:
        for member in waiting:  # the workers share one iterator, so each letter has one of them
            await do(member, operation)

    try:
        async with anyio.create_task_group() as group:
            for _ in range(min(_AT_A_TIME, len(members))):
                group.start_soon(work)
    except BaseException:
        operation.state = "cancelled"
        raise
    operation.state = "completed"
    return operation


async def _replay_one(
    replayer: Replayer, member: Member, operation: Operation, *, by: str | None, note: str | None
) -> None:
    if not member.runnable:
        operation.skipped += 1
        return
    try:
        outcome = await replayer.replay(member.dead_letter_id, by=by, note=note, token=member.token)
    except (DeadLetterNotFound, InvalidTransition, LeaseHeld, LeaseLost, Paused, PayloadRedacted):
        operation.skipped += 1
        return
    if outcome.state is DeadLetterState.RESOLVED:
        operation.done += 1
    else:
        operation.failed += 1
