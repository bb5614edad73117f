"""Work on its way from callers to threads, and the queue it waits in."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from eventbus_dlq.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from sqlalchemy import Connection

    from eventbus_adapters.sql.bridge import Answered
    from eventbus_adapters.sql.closures import KnownControls
    from eventbus_adapters.sql.counts import Deltas
    from eventbus_adapters.sql.encoding import Value
    from eventbus_dlq.letter import DeadLetter


@dataclass(frozen=True, slots=True)
class Read:
    """Something to be read in one transaction."""

    work: Callable[[Connection], Any]
    waiter: Answered[Any]


@dataclass(frozen=True, slots=True)
class Change:
    """Something to be changed; together with others in one transaction.

    ``work`` raises an ``EventBusError`` only before it has written anything. What is ``urgent`` passes
    the work that waits. The letters of ``ids``, with their sequences, and the sequences of ``keys`` are
    locked before: no other transaction changes them meanwhile. So are the letters of ``alone``, without their
    sequences. What is ``divisible`` is not kept waiting for those of another transaction, but refused with
    ``StoreLocked``. What changes controls has, on PostgreSQL, a transaction ``apart`` from all else.
    """

    work: Callable[[Connection, Deltas], Any]
    waiter: Answered[Any]
    urgent: bool = False
    ids: Collection[str] = ()
    alone: Collection[str] = ()
    keys: Collection[tuple[str, str]] = ()
    divisible: bool = False
    apart: bool = False


@dataclass(slots=True)
class Add:
    """Letters to be added, or accepted; neighbours are inserted by one statement.

    Those that come parked by a control are looked up in the ``known`` ones.
    """

    letters: Sequence[DeadLetter]
    rows: Sequence[tuple[Value, ...]]
    waiter: Answered[Any]
    verb: Literal["add", "accept"] = "add"
    known: KnownControls | None = None


@dataclass(frozen=True, slots=True)
class Stop:
    """The last thing that a thread is given."""

    waiter: Answered[Any]


J = TypeVar("J")


@dataclass(slots=True)
class Mailbox(Generic[J]):
    """Takes jobs from any loop or thread; what comes after :meth:`close` is refused."""

    database: object
    _jobs: deque[J | Stop] = field(default_factory=lambda: deque())
    _urgent: deque[J] = field(default_factory=lambda: deque())
    _waiting: SimpleQueue[None] = field(default_factory=lambda: SimpleQueue())
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _closed: bool = False

    def put(self, job: J) -> None:
        """Hand over a job.

        Raises:
            StoreUnavailable: the store is being closed.
        """
        with self._lock:
            if self._closed:
                raise StoreUnavailable(f"the dead-letter store {self.database} is closed; open it first")
            if isinstance(job, Change) and job.urgent:
                self._urgent.append(job)
            else:
                self._jobs.append(job)
            self._waiting.put(None)

    def close(self, stops: Sequence[Stop]) -> None:
        """Refuse further jobs, and hand a ``Stop`` to every thread behind what was put in before."""
        with self._lock:
            self._closed = True
            for stop in stops:
                self._jobs.append(stop)
                self._waiting.put(None)

    def take(self) -> J | Stop:
        """Wait for the next job."""
        self._waiting.get()
        return self._next()

    def take_waiting(self) -> J | Stop | None:
        """Return the next job if one waits already, else None."""
        try:
            self._waiting.get_nowait()
        except Empty:
            return None
        return self._next()

    def _next(self) -> J | Stop:
        return self._urgent.popleft() if self._urgent else self._jobs.popleft()
