"""The written contract of a dead-letter store. ``MemoryStore`` is the reference.

One conformance suite (``tests/contracts``) runs over every store; what stands here is what it checks.

Rules that hold for every method:

- Each call is one transaction: all of it happens, or none.
- ``now`` is the caller's clock, so that a test can turn it. A store with a clock that all its processes
  agree on (see ``judges_leases``) measures leases by that one instead.
- A failure of the store itself is ``StoreUnavailable``, whatever the library below calls it.
- Calls may come from asyncio and from trio, and from several at a time.
- A write is handed over before the first suspension: cancelling the caller ends the wait, not the write.

Sequences. The open letters of one handler with one ordering key are a sequence, in the order in which they
were stored first. Exactly one of them, its head, does not wait (``DeadLetter.waits``), and only that one
can be claimed. It stays the head until it leaves the open states, by a settlement, a person's verb or its
deletion; then the first of the others becomes it. A closed letter that is opened again (by a restore, or by
a further failure) has its old place: it becomes the head when it comes before the head and that one is not
running; else it waits, although it may be older. A letter that becomes the head and is ``parked/sequence``
becomes ``accepted`` again; one in any other state stays as it is and no longer waits.

A sequence is blocked when one of its letters has failed or is parked: it is in ``pending``, ``exhausted`` or
``parked``, or it is ``running`` and was claimed in another state than ``accepted``, or arrived running. In a
blocked sequence every ``accepted`` letter that is not the head becomes ``parked/sequence``. Keys are compared
as they are.

What operators have set (controls, schedules, and what is announced) is in ``control_store.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from eventbus_dlq.control_store import ControlStore

if TYPE_CHECKING:
    from eventbus.failure import ErrorRecord
    from eventbus.retry import RetryPolicy
    from eventbus_dlq.letter import Attempt, DeadLetter, DeadLetterState, Reason, Verb
    from eventbus_dlq.query import DeadLetterQuery, Page
    from eventbus_dlq.stats import Stats

Order = Literal["newest", "oldest"]


class Kept(NamedTuple):
    """Where an accepted delivery is kept.

    Attributes:
        id: the letter's id: the one it came with, or the one its event and handler were known by.
        state: ``accepted``, ``running`` if it came so, or ``parked`` when its sequence is blocked or it came
            so and its scope is closed; of one that was known already whatever it is in.
    """

    id: str
    state: DeadLetterState


class SequenceKey(NamedTuple):
    """What names a sequence: a handler's id and an ordering key."""

    handler_id: str
    ordering_key: str


class Lease(NamedTuple):
    """Temporary ownership of a letter.

    Attributes:
        dead_letter_id: the letter.
        token: the number that fences out a former owner.
    """

    dead_letter_id: str
    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A letter that was handed out.

    Attributes:
        letter: the letter as it is now: ``running``, the attempt charged, the token raised.
        lease: what heartbeat, settle and release ask for.
    """

    letter: DeadLetter
    lease: Lease


@dataclass(frozen=True, slots=True, kw_only=True)
class Leased:
    """A letter that somebody runs, as a rescuer sees it.

    Attributes:
        dead_letter_id: the letter.
        token: the token of its claim.
        lease_until: when its lease ends; every heartbeat moves it.
        owner: whose claim it is.
        expired: whether the lease has run out, by the store's own clock; None when the store has none
            that all processes agree on, and the rescuer has to watch the letter for a whole lease in which
            the store takes writes.
    """

    dead_letter_id: str
    token: int
    lease_until: datetime
    owner: str
    expired: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """How a claimed run ended.

    Attributes:
        lease: the claim's lease.
        state: where the letter goes: resolved, pending or exhausted.
        reason: why, where the state alone does not say.
        retry_at: when it is due again, for ``pending``.
        error: the new last error; None keeps the one before.
        attempts: the runs that failed, oldest first, added to the history; they are numbered by whoever
            settles.
        reruns: how often the handler ran within the claim beyond the one run that the claim has charged;
            added to ``attempts``.
        fingerprint: the group of the new error; None keeps the one before.
        annotations: what the handler noted in this run; None keeps what it noted before.
        uncharged: True when the handler did not run: the claim's charge is given back (a letter that
            arrived running was not charged).
        excused: True when the run is not held against the schedule: ``retries`` is what it was before the
            claim. The attempt counts, and is kept in the history.
        redelivery: the schedule that applies from now on; None keeps the one before.
        forget: True to delete the letter instead of keeping it as resolved, if it has never failed
            before and is ``resolved`` now; else it is kept.
        acted_by: who asked for the run; None keeps who acted before.
        note: their note; None keeps the note before.
    """

    lease: Lease
    state: DeadLetterState
    reason: Reason | None = None
    retry_at: datetime | None = None
    error: ErrorRecord | None = None
    attempts: tuple[Attempt, ...] = ()
    reruns: int = 0
    fingerprint: str | None = None
    annotations: Mapping[str, Any] | None = None
    uncharged: bool = False
    excused: bool = False
    redelivery: RetryPolicy | None = None
    forget: bool = False
    acted_by: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A running bus, as the processes that share a store see each other.

    Attributes:
        id: unique for each start of a bus; the owner of its claims begins with it.
        name: the bus's name.
        host: the machine's name.
        pid: the process's number there.
        started_at: when the bus started (aware UTC).
        beat_at: when it said last that it is alive (aware UTC).
        handlers: the handler ids that it runs, aliases included.
    """

    id: str
    name: str
    host: str
    pid: int
    started_at: datetime
    beat_at: datetime
    handlers: tuple[str, ...]


class Spooled(NamedTuple):
    """A write that waited in a spool file.

    Attributes:
        verb: which method it was meant for.
        letter: what it was to write.
    """

    verb: Literal["add", "accept"]
    letter: DeadLetter


class DeadLetterStore(ControlStore, Protocol):
    """Keeps deliveries and dead letters, and hands them out under leases."""

    @property
    def judges_leases(self) -> bool:
        """Whether the store itself tells which leases have run out, see :class:`Leased`.

        It may tell so of an owner that is alive, when it was away for as long: whoever rescues has to have
        seen it take writes for a whole lease.
        """
        ...

    async def open(self) -> None:
        """Make the store ready, creating what it needs on first use. Opening twice is harmless.

        Raises:
            StoreUnavailable: it cannot be reached, or is not what it should be.
        """
        ...

    async def close(self) -> None:
        """Finish every write that was handed over, then let go. Closing twice is harmless."""
        ...

    def on_work(self, wake: Callable[[], None] | None) -> None:
        """Call ``wake``, from any thread, whenever another process may have made something claimable.

        So it does when a :meth:`claim_due` has parked as much as one call may, and is to be asked again.
        It is a hint that may come late, often, or never: whoever waits for work asks again by itself. None
        ends it.
        """
        ...

    # -- taking in

    async def accept(self, deliveries: Sequence[DeadLetter]) -> Sequence[Kept]:
        """Commit deliveries that have not run yet; return where each is kept, in order.

        When this returns they are durable. They come ``accepted``, without an error. One whose sequence
        is blocked becomes ``parked/sequence``; within a sequence, the order of the deliveries of one
        call, and of calls of which one began when the other had returned, is kept.

        One without an ordering key may come ``running`` instead, claimed by whoever accepts it: its
        attempt is charged, and it has a token, an owner and a lease that lasts from its ``updated_at`` to
        its ``lease_until``. It is as if it had been accepted and then claimed; a release makes it
        ``accepted``.

        One may come ``parked`` with the reason ``paused`` or ``draining``, because its process knows its
        scope to be closed. It is kept so if a control does close it at its ``updated_at`` (of a spool, when
        it is imported), and if it would be claimable; else it is taken in as if it had come ``accepted``.

        A delivery whose event and handler are already known changes nothing: where that one is kept is
        the answer. That makes it harmless to repeat a call, or to publish one event id twice. One that is
        gone again, because it has succeeded, is not known any more. Tokens go on from the one that a
        delivery comes with, so that whoever repeats a call can tell it from one that is gone.
        """
        ...

    async def add(self, letters: Sequence[DeadLetter]) -> Sequence[str]:
        """Commit new failures; return the ids under which they are kept, in order.

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

    async def spool_position(self, spool_id: str) -> int:
        """Return up to which byte a spool was imported; 0 for one that is not known."""
        ...

    async def import_spool(
        self, spool_id: str, writes: Sequence[Spooled], *, start: int, end: int, now: datetime
    ) -> bool:
        """Carry out writes of a spool file and note its new position, in one transaction.

        They are the ones between the bytes ``start`` and ``end``. They follow the rules of ``add`` and
        ``accept``, except that an addition leaves closed rows as they are, too. Returns False, and
        changes nothing, when the position is not ``start``: somebody else has imported them.
        """
        ...

    # -- looking

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
        """Return the totals, of all letters or of those of ``tenants``; an empty set has none.

        Letters that have not failed count in ``total``, ``by_state``, ``by_event``, ``by_handler`` and
        ``by_tenant``, and not in ``by_kind``, ``by_category`` and ``by_route``. ``paused`` and ``draining``
        name the closed scopes: of ``tenants``, only those that are theirs.
        """
        ...

    async def blocked(self, handlers: Collection[str]) -> frozenset[SequenceKey]:
        """Return the sequences of ``handlers`` that have open letters: no transient delivery may pass."""
        ...

    # -- running

    async def claim(
        self, dead_letter_ids: Sequence[str], *, owner: str, lease: float, now: datetime
    ) -> Sequence[Claim | Exception]:
        """Take letters for a run, all in one transaction; the answers are in the order of the ids.

        Each is claimed from ``accepted``, ``pending`` or ``exhausted``: it becomes ``running``, its
        token rises by one, ``attempts`` rises by one and, unless it was ``accepted``, ``retries`` too,
        and the lease ends ``lease`` seconds from now. The state before is remembered for a release;
        reason and retry_at stay as they are while it runs.

        What cannot be claimed has its error in its place: ``DeadLetterNotFound``, ``LeaseHeld`` (it
        is running, whatever became of its lease: a rescue frees it), ``InvalidTransition`` (its
        state allows no run, or it waits for an earlier one of its sequence), or ``Paused`` (a control closes
        it, or it is parked by one).
        """
        ...

    async def claim_due(
        self,
        wanted: Mapping[str, int],
        *,
        states: Collection[DeadLetterState],
        limit: int,
        owner: str,
        lease: float,
        now: datetime,
    ) -> Sequence[Claim]:
        """Take what is due for a run, like :meth:`claim`, the most urgent first; return at most ``limit``.

        Due is what does not wait and is ``accepted``, or ``pending`` with a ``retry_at`` that has come;
        ``states`` says which of these two are wanted. The order is by priority, and within one priority
        by the time since which a letter has been due: a ``pending`` one its ``retry_at``; an ``accepted``
        one its ``created_at``, or the moment at which it became the head of its sequence or came back
        from a run, so that no sequence holds up the others.

        ``wanted`` says how many letters of each handler may be claimed; of other handlers none is. What is
        due and closed by a control is parked instead, however urgent it is, so that it keeps nothing else
        waiting; a call may stop after a bounded number of these.
        """
        ...

    def heartbeat(self, leases: Sequence[Lease], *, lease: float, now: datetime) -> Sequence[Lease]:
        """Extend leases to ``lease`` seconds from now; return those that are lost.

        It blocks, and is called from a thread that has no event loop, so that a loop that is busy does
        not lose its work.
        """
        ...

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime) -> Sequence[Lease]:
        """Record how claimed runs ended; return the leases that were lost, for which nothing changed.

        A lease is lost when its token is no longer the letter's, or the letter is not running.
        ``updated_at`` and ``last_attempt_at`` (unless uncharged) become ``now``, owner and lease end.

        Raises:
            StoreLocked: another transaction, a write of some process or one of the application's own,
                holds the sequences of some of them; nothing was changed. So do ``release`` and ``rescue``.
        """
        ...

    async def release(self, leases: Sequence[Lease], *, now: datetime) -> Sequence[Lease]:
        """Give claimed letters back to the state before, uncharged; return the leases that were lost.

        The token stays where it is, so that the former owner is fenced out from then on.
        """
        ...

    async def leased(self, *, now: datetime, owner: str | None = None) -> Sequence[Leased]:
        """Return the letters that are running; of those that a judging store knows, the expired ones.

        With ``owner``, return all that this owner has claimed, expired or not.
        """
        ...

    async def rescue(
        self, leased: Sequence[Leased], *, max_crashes: int, now: datetime
    ) -> Sequence[DeadLetter]:
        """Take letters back from owners that have died; return them as they are then.

        One whose token or ``lease_until`` is another by now is left alone, and so is one whose lease
        has not expired where the store judges that. ``crashes`` rises by one and the charged attempt
        stays. Below ``max_crashes`` a letter goes back to the state before its claim, claimable at once
        (one that arrived running becomes ``pending``); at ``max_crashes`` it is ``exhausted/poison``,
        and one without an error gets one that says so, with its fingerprint.
        """
        ...

    # -- the processes that share the store

    async def announce(self, process: Process) -> None:
        """Keep a process's row as it is given, in place of an earlier one of the same id."""
        ...

    async def withdraw(self, process_id: str) -> None:
        """Remove the row of a process that ends. What it has announced stays known."""
        ...

    async def processes(self) -> Sequence[Process]:
        """Return the rows of all processes, dead ones included, by id."""
        ...

    async def exhaust_unhandled(self, *, since: datetime, now: datetime) -> Sequence[str]:
        """Make deliveries ``exhausted/unhandled`` whose handler no process has announced since then.

        They are those that are ``accepted``, do not wait, were stored before ``since``, and whose
        handler id was in no ``announce`` with a ``beat_at`` of ``since`` or later. Returns their ids,
        at most 1,000. Rows of processes whose last beat is older than ``since`` are removed.
        """
        ...

    # -- deciding by hand

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
        for a snooze, ``now`` for a requeue, which also makes ``retries`` 0, and None for the others; the
        reason becomes None.

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


class SessionStore(Protocol):
    """A store that can take deliveries in within a transaction of the application's own."""

    async def accept_in(self, session: Any, deliveries: Sequence[DeadLetter]) -> Sequence[Kept]:
        """Write deliveries in the transaction of an ``AsyncSession``, like ``accept``, without committing.

        They become visible, and claimable, with the session's commit; a rollback leaves nothing.

        Raises:
            InvalidSession: it is on another database, in AUTOCOMMIT, or finds no tables of ours;
                nothing was written.
        """
        ...

    def accept_in_sync(self, session: Any, deliveries: Sequence[DeadLetter]) -> Sequence[Kept]:
        """Do the same with a synchronous ``Session``; needs no event loop."""
        ...
