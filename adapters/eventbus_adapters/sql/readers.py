"""The threads that read, each with a connection of its own; they never wait for the writer."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from eventbus.errors import EventBusError
from eventbus_adapters.sql.bridge import Failed, deliver
from eventbus_adapters.sql.engine import Database, Held
from eventbus_adapters.sql.failures import unavailable
from eventbus_adapters.sql.work import Mailbox, Read, Stop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventbus_adapters.sql.bridge import Waiter

THREADS = 2
"""How many reads run at a time."""


class Readers:
    """A few threads that share one queue of reads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._mailbox: Mailbox[Read] = Mailbox(database)
        self.put = self._mailbox.put
        self._closing = threading.Lock()
        for number in range(1, THREADS + 1):
            name = f"eventbus-reader-{number} {database}"
            threading.Thread(target=self._run, name=name, daemon=True).start()

    def stop(self, stopped: Sequence[Waiter[None]]) -> None:
        """Finish what was handed over, then end; each of the ``THREADS`` answers one of ``stopped``."""
        self._mailbox.close([Stop(waiting) for waiting in stopped])

    def _run(self) -> None:
        held = Held(self._database, "read")
        while not isinstance(job := self._mailbox.take(), Stop):
            deliver([(job.waiter, self._outcome(held, job))])
        with self._closing:  # two at a time would each leave the write-ahead log to the other
            held.close()
        deliver([(job.waiter, None)])

    def _outcome(self, held: Held, job: Read) -> Any:
        try:
            with held.transaction() as connection:
                return job.work(connection)
        except EventBusError as error:
            return Failed(error)
        except Exception as error:
            return Failed(unavailable(self._database, error))
