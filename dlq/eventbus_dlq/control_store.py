"""The part of the store's contract that has to do with operators: controls, schedules, announcements.

``store.py`` has the rest, and the rules that hold for every method.

Controls. A scope has at most one control, and while it has one that has not come to its ``until`` it is
closed: no letter of it can be claimed. ``claim`` refuses such a letter, and ``claim_due`` parks those that
it would have handed out: ``parked``, with the reason ``paused`` or ``draining``. They keep everything else,
and the state they were in is remembered. When no control closes them any more they go back to it: one that
was ``accepted`` is claimable since its ``created_at`` again, so that what was parked runs in order. Only what
could be claimed is parked so; what waits behind an earlier one of its sequence is held by that one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from eventbus.controls import Control, Scope
    from eventbus.retry import RetryPolicy
    from eventbus_dlq.letter import Reason

Closing = Literal["paused", "draining"]


class Schedule(NamedTuple):
    """A redelivery schedule that was set at run time, for every process.

    Attributes:
        handler: the handler's id that it is for; None for every handler.
        event: the event's name that it is for; None for every event. Not both are given.
        redelivery: the schedule.
        by: who set it, or None.
        since: when (aware UTC).
    """

    handler: str | None
    event: str | None
    redelivery: RetryPolicy
    by: str | None
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What operators have set, for every process that shares the store.

    Attributes:
        version: rises with every change of anything here, and with nothing else; 0 of a store where nothing
            was ever set.
        controls: the scopes that are closed, by the time since when; one that has come to its ``until``
            is among them until it is removed.
        schedules: the redelivery schedules that were set, at most one for each handler, event, or all.
        automatic_retries: whether what is pending is retried when it is due.
    """

    version: int = 0
    controls: tuple[Control, ...] = ()
    schedules: tuple[Schedule, ...] = ()
    automatic_retries: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """Says that a letter has become exhausted: written with the move itself, and told at least once.

    Attributes:
        key: the same whenever it is told again, and that of no other move.
        dead_letter_id: the letter.
        event_id: its event's id.
        event_name: its event's name.
        handler_id: whose delivery it is.
        tenant: whose event it was, or None.
        reason: why it is exhausted.
        at: when it became so (aware UTC).
    """

    key: str
    dead_letter_id: str
    event_id: str
    event_name: str
    handler_id: str
    tenant: str | None
    reason: Reason | None
    at: datetime


class ControlStore(Protocol):
    """Keeps what operators have set, and what is to be told of."""

    async def configuration(self, *, known: int | None = None) -> Configuration | None:
        """Return what operators have set; None when its version is still ``known``."""
        ...

    async def configure(
        self,
        *,
        now: datetime,
        by: str | None = None,
        handler: str | None = None,
        event: str | None = None,
        redelivery: RetryPolicy | None = None,
        forget_redelivery: bool = False,
        automatic_retries: bool | None = None,
    ) -> Configuration:
        """Set a schedule, or the switch of the automatic retries, or both; return everything as it is then.

        ``redelivery`` is for ``handler``, for ``event``, or without either for all; it takes the place of
        one that was set for the same, and ``forget_redelivery`` removes that one. None leaves things as they
        are.
        """
        ...

    # -- scopes

    async def close_scope(
        self, scope: Scope, state: Closing, *, reason: str, by: str, until: datetime | None, now: datetime
    ) -> Control:
        """Close a scope, from the moment at which this returns; return its control.

        One that is closed already takes over reason, by, until and since. To drain what is paused makes it
        ``draining``, and so does to drain again what is drained; to pause what is draining or drained makes
        it ``paused``. Its version is a new one.
        """
        ...

    async def open_scopes(self, scopes: Collection[Scope] | None, *, now: datetime) -> Sequence[Control]:
        """Remove the controls of exactly these scopes, None for all; return those that there were.

        Letters that they had parked, and that no other control closes, go back to their former state, the
        oldest first: at most 1,000 within this call, see :meth:`unpark`.
        """
        ...

    async def unpark(self, *, limit: int, now: datetime) -> bool:
        """Let up to ``limit`` parked letters that no control closes any more go back to their former state.

        Controls that have come to their ``until`` are removed first. Returns whether such letters may be
        left, so that it is to be called again; while nothing was opened that costs next to nothing.
        """
        ...

    async def acknowledge(
        self, process_id: str, drains: Collection[Control], *, live_since: datetime, now: datetime
    ) -> Sequence[Control]:
        """Note that a process runs nothing of these ``draining`` scopes any more, at their versions.

        Whatever ``drains`` says, each draining control becomes ``drained``, with ``drained_at``, when every
        process whose row has beaten at ``live_since`` or later has acknowledged its version, and no letter of
        its scope is running. Returns those that did so in this call. A control of another version by now is
        not acknowledged.
        """
        ...

    # -- announcements

    async def claim_announcements(
        self, *, limit: int, owner: str, lease: float, now: datetime
    ) -> Sequence[Announcement]:
        """Take announcements that were not told yet, the oldest first, for ``lease`` seconds.

        Every letter that becomes ``exhausted`` has one, from the same transaction: by an ``add``, a
        settlement, a rescue, ``exhaust_unhandled``, or a claim that cannot understand its row; not by a
        person's restore, nor when it was exhausted before and fails again by an ``add``, or goes back to it
        by a release or a rescue. What another owner has taken is left to it until its lease is over.
        """
        ...

    async def confirm_announcements(self, keys: Collection[str]) -> None:
        """Forget announcements: they were told. Unknown keys are harmless."""
        ...
