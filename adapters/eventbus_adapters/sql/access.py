"""What a store needs to hand work to the threads of its database, from its opening to its closing."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeVar

from eventbus_adapters.sql.after_commit import AfterCommit
from eventbus_adapters.sql.bridge import waiter
from eventbus_adapters.sql.closures import KnownControls
from eventbus_adapters.sql.running import backend_of
from eventbus_adapters.sql.work import Change, Read
from eventbus_dlq.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from sqlalchemy import Connection

    from eventbus_adapters.sql.bridge import Waiter
    from eventbus_adapters.sql.counts import Deltas
    from eventbus_adapters.sql.engine import Synchronous
    from eventbus_adapters.sql.running import Running

T = TypeVar("T")


class Access:
    """Opens and closes a database, and has work done there."""

    def __init__(
        self,
        url: str,
        *,
        synchronous: Synchronous = "FULL",
        busy_timeout: float = 5.0,
        timeout: float = 10.0,
    ) -> None:
        self._backend = backend_of(url, synchronous=synchronous, busy_timeout=busy_timeout, timeout=timeout)
        self._database = self._backend.database
        self._lock = threading.Lock()
        self._running: Running | None = None
        self._wake: Callable[[], None] | None = None
        self._known = KnownControls()
        self._after_commit = AfterCommit(self._tell_of_work)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._database)!r})"

    @property
    def judges_leases(self) -> bool:
        """Whether the database tells by its own clock which leases have run out: PostgreSQL does."""
        return self._backend.judges_leases

    async def open(self) -> None:
        """Create what is missing of file and tables, check them, and start the threads.

        Raises:
            StoreUnavailable: the database cannot be reached or written, or has tables of another version.
        """
        if self._running is not None:
            return
        started = await self._backend.start()
        if not self._keep(started):
            await started.stop()  # another task has opened the store in the meantime

    async def close(self) -> None:
        """Finish every write that was handed over, then end the threads."""
        with self._lock:
            running, self._running = self._running, None
        if running is not None:
            await running.stop()

    def on_work(self, wake: Callable[[], None] | None) -> None:
        """Call ``wake``, from any thread, when PostgreSQL tells that something may have become claimable."""
        with self._lock:
            self._wake = wake
            if self._running is not None:
                self._running.on_work(wake)

    def _keep(self, started: Running) -> bool:
        with self._lock:
            if self._running is not None:
                return False
            started.on_work(self._wake)
            self._running = started
            return True

    def _opened(self) -> Running:
        running = self._running
        if running is None:
            raise StoreUnavailable(
                f"the dead-letter store {self._database} is not open; await its open() first", retryable=False
            )
        return running

    async def _read(self, work: Callable[[Connection], T]) -> T:
        running = self._opened()
        waiting: Waiter[T] = waiter()
        running.read(Read(work, waiting))
        return await waiting.wait()

    async def _change(
        self,
        work: Callable[[Connection, Deltas], T],
        about: Callable[[], str],
        *,
        ids: Collection[str] = (),
        alone: Collection[str] = (),
        keys: Collection[tuple[str, str]] = (),
        divisible: bool = False,
        apart: bool = False,
    ) -> T:
        running = self._opened()
        waiting: Waiter[T] = waiter(about)
        running.write(
            Change(work, waiting, ids=ids, alone=alone, keys=keys, divisible=divisible, apart=apart)
        )
        return await waiting.wait()

    def _tell_of_work(self) -> None:
        wake, running = self._wake, self._running
        if wake is not None:
            wake()
        if running is not None:
            running.tell()
