"""The written contract of a dead-letter store. ``MemoryStore`` is the reference.

One conformance suite (``tests/contracts``) runs over every store; what stands here is what it checks.

Rules that hold for every method:

- Each call is one transaction: all of it happens, or none.
- ``now`` is the caller's clock, so that a test can turn it.
- A failure of the store itself is ``StoreUnavailable``, whatever the library below calls it.
- Calls may come from asyncio and from trio, and from several at a time.
- A write is handed over before the first suspension: cancelling the caller ends the wait, not the write.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from eventbus.failure import ErrorRecord
    from eventbus_dlq.letter import Attempt, DeadLetter, DeadLetterState, Reason, Verb
    from eventbus_dlq.query import DeadLetterQuery, Page
    from eventbus_dlq.stats import Stats

Order = Literal["newest", "oldest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Temporary ownership of a letter.

    Attributes:
        dead_letter_id: the letter.
        token: the number that fences out a former owner.
    """

    dead_letter_id: str
    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A letter that was handed out, and what it was before.

    Attributes:
        letter: the letter as it is now: ``running``, the attempt charged, the token raised.
        lease: what heartbeat, settle and release ask for.
        rescued: True when the claim took over a lease that had run out; ``crashes`` has risen.
    """

    letter: DeadLetter
    lease: Lease
    rescued: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """How a claimed run ended.

    Attributes:
        lease: the claim's lease.
        state: where the letter goes: resolved, pending or exhausted.
        reason: why, where the state alone does not say.
        retry_at: when it is due again, for ``pending``.
        error: the new last error; None keeps the one before.
        attempt: the run, when it failed: added to the history.
        fingerprint: the group of the new error; None keeps the one before.
        annotations: what the handler noted in this run; None keeps what it noted before.
        uncharged: True when the handler did not run: the claim's charge is given back.
        acted_by: who asked for the run; None keeps who acted before.
        note: their note; None keeps the note before.
    """

    lease: Lease
    state: DeadLetterState
    reason: Reason | None = None
    retry_at: datetime | None = None
    error: ErrorRecord | None = None
    attempt: Attempt | None = None
    fingerprint: str | None = None
    annotations: Mapping[str, Any] | None = None
    uncharged: bool = False
    acted_by: str | None = None
    note: str | None = None


class DeadLetterStore(Protocol):
    """Keeps dead letters and hands them out under leases."""

    async def open(self) -> None:
        """Make the store ready, creating what it needs on first use. Opening twice is harmless.

        Raises:
            StoreUnavailable: it cannot be reached, or is not what it should be.
        """
        ...

    async def close(self) -> None:
        """Finish every write that was handed over, then let go. Closing twice is harmless."""
        ...

    async def add(self, letters: Sequence[DeadLetter]) -> Sequence[str]:
        """Commit new letters; return the ids under which they are kept, in order.

        When this returns they are durable. A letter whose event and handler are already known
        changes that row instead and its id is returned: an open row at rest, or a closed one, takes
        over state, reason, retry_at, error, fingerprint, annotations, redelivery, updated_at and
        (unless it is None) last_attempt_at, adds attempts and history, the latter numbered on from
        its own attempts (a closed row is thereby reopened), and keeps everything else; a running
        row is left to its owner. The same rule holds for two letters of one call. A letter that was
        added already stays as it is, so that an add whose outcome is unknown may be repeated.

        A letter may arrive ``running`` with token, owner and lease of its own: its owner settles it
        later, and a release makes it ``pending``, due now unless it came with a ``retry_at``. A
        token never goes down: a known row keeps the higher one, and a letter that arrives running
        gets at least one more than the row had, so that no former owner can settle it.
        """
        ...

    async def get(self, dead_letter_id: str) -> DeadLetter:
        """Return one letter, whole.

        A row that cannot be understood (an unknown state, broken JSON) is returned as
        ``exhausted/undecodable``, with what is readable of it.

        Raises:
            DeadLetterNotFound: no letter has that id.
        """
        ...

    async def find(
        self, query: DeadLetterQuery, *, limit: int = 50, cursor: str | None = None, order: Order = "newest"
    ) -> Page:
        """Return a page of summaries, ordered by ``created_at`` and then by insertion.

        Keyset pages: letters stored meanwhile neither shift nor repeat what follows. A call examines
        a bounded number of letters, so a page may be short, or empty, while its cursor goes on.
        Rows that cannot be understood appear as ``exhausted/undecodable`` in listings that are not
        narrowed to what is broken in them.

        Raises:
            InvalidCursor: the cursor is not from this method with this ``order``.
            ValueError: ``limit`` is not between 1 and 1,000.
        """
        ...

    async def stats(self, *, now: datetime, tenants: Collection[str] | None = None) -> Stats:
        """Return the totals, of all letters or of those of ``tenants``; an empty set has none."""
        ...

    async def claim(
        self, dead_letter_ids: Sequence[str], *, owner: str, lease: float, now: datetime
    ) -> Sequence[Claim | Exception]:
        """Take letters for a run, all in one transaction; the answers are in the order of the ids.

        Each is claimed from ``accepted``, ``pending`` or ``exhausted``: it becomes ``running``, its
        token rises by one, ``attempts`` and ``retries`` rise by one, and the lease ends ``lease``
        seconds from now. The state before is remembered for a release; reason and retry_at stay as
        they are while it runs. A letter whose lease has run out is taken over: the same rises, and
        ``crashes`` too; a release still gives it back to the state before the first of the claims.
        An unexpired lease is never taken.

        What cannot be claimed has its error in its place: ``DeadLetterNotFound``, ``LeaseHeld`` (it
        is running), or ``InvalidTransition`` (its state allows no run).
        """
        ...

    async def heartbeat(self, leases: Sequence[Lease], *, lease: float, now: datetime) -> Sequence[Lease]:
        """Extend leases to ``lease`` seconds from now; return those that are lost."""
        ...

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime) -> Sequence[Lease]:
        """Record how claimed runs ended; return the leases that were lost, for which nothing changed.

        A lease is lost when its token is no longer the letter's, or the letter is not running.
        ``updated_at`` and ``last_attempt_at`` (unless uncharged) become ``now``, owner and lease end.
        """
        ...

    async def release(self, leases: Sequence[Lease], *, now: datetime) -> Sequence[Lease]:
        """Give claimed letters back to the state before, uncharged; return the leases that were lost.

        The token stays where it is, so that the former owner is fenced out from then on.
        """
        ...

    async def change(
        self,
        dead_letter_id: str,
        verb: Verb,
        *,
        now: datetime,
        by: str | None = None,
        note: str | None = None,
        until: datetime | None = None,
    ) -> DeadLetter:
        """Carry out a person's verb (all but delete); return the letter as it is then.

        ``acted_by`` and ``note`` become what is given, None included; ``retry_at`` becomes ``until``
        for a snooze and None for the others; the reason becomes None.

        Raises:
            DeadLetterNotFound: no letter has that id.
            LeaseHeld: it is running.
            InvalidTransition: its state does not allow the verb.
            ValueError: the verb is delete.
        """
        ...

    async def delete(self, dead_letter_id: str) -> None:
        """Remove a letter that is not running.

        Raises:
            DeadLetterNotFound: no letter has that id.
            LeaseHeld: it is running.
        """
        ...
