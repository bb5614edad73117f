"""Feeding a bus from lines: one event each, some at a time, and an account of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
import pydantic

from eventbus import CaptureFailed, EventBusError, InvalidEvent
from eventbus_adapters.cli.documents import parse, told
from eventbus_adapters.cli.lines import LineSplitter
from eventbus_adapters.cli.names import KnownNames

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import TaskGroup

    from eventbus import EventBus, Receipt
    from eventbus_adapters.cli.documents import Publication
    from eventbus_adapters.cli.lines import Line, Source


@dataclass(slots=True)
class Tally:
    """What became of the lines.

    Attributes:
        published: events whose deliveries have all settled.
        dead_lettered: failed deliveries that are kept as dead letters.
        lost: failed deliveries that are not kept: the bus has no dead-letter queue, or could not store.
        bad: lines that were refused.
        cut_short: events whose publishing was cancelled.
        last_line: the number of the last line that was taken in, or refused.
        stopped: whether the end was not reached because somebody stopped it.
        error: what made it impossible to go on, or None.
    """

    published: int = 0
    dead_lettered: int = 0
    lost: int = 0
    bad: int = 0
    cut_short: int = 0
    last_line: int = 0
    stopped: bool = False
    error: Exception | None = None


class Feeder:
    """Publishes the lines of a source on a running bus; used once.

    Args:
        bus: a running one.
        concurrency: how many events are under way at a time; 1 keeps them in order.
        complain: told the number of a bad line and what is wrong with it.
        progress: told how many bytes have been read.
    """

    def __init__(
        self,
        bus: EventBus,
        *,
        concurrency: int,
        complain: Callable[[int, str], object],
        progress: Callable[[int], object],
    ) -> None:
        self.tally = Tally()
        self._bus = bus
        self._names = KnownNames(bus)
        self._room = anyio.Semaphore(concurrency)
        self._complain = complain
        self._progress = progress
        self._intake = anyio.CancelScope()
        self._work = anyio.CancelScope()

    def stop(self) -> None:
        """Take no more lines, and finish what is under way. Again: cut that short too."""
        if self._intake.cancel_called:
            self._work.cancel()
        self.tally.stopped = True
        self._intake.cancel()

    async def run(self, source: Source) -> None:
        """Publish every line until the end, or until it is stopped; the account is in ``tally``."""
        with self._work:
            async with anyio.create_task_group() as tasks:
                with self._intake:
                    await self._take_in(source, tasks)

    async def _take_in(self, source: Source, tasks: TaskGroup) -> None:
        splitter = LineSplitter()
        read = 0
        try:
            while chunk := await source.chunk():
                read += len(chunk)
                for line in splitter.feed(chunk):
                    await self._take(line, tasks)
                self._progress(read)
            for line in splitter.finish():
                await self._take(line, tasks)
        except OSError as error:
            self.tally.error = error

    async def _take(self, line: Line, tasks: TaskGroup) -> None:
        if line.content is None:
            self._refuse(line.number, "longer than 8 MiB")
            return
        try:
            publication = parse(line.content)
            self._names.check(publication.event, publication.version)
        except ValueError as error:
            self._refuse(line.number, str(error))
            return
        await self._room.acquire()
        self.tally.last_line = line.number
        tasks.start_soon(self._publish, line.number, publication)

    def _refuse(self, number: int, why: str) -> None:
        self.tally.bad += 1
        self.tally.last_line = max(self.tally.last_line, number)
        self._complain(number, why)

    async def _publish(self, number: int, publication: Publication) -> None:
        try:
            self._count(await self._bus.publish(publication.event, publication.data, **publication.options))
        except InvalidEvent as error:
            self._refuse(number, _why(error))
        except CaptureFailed as error:
            self._complain(number, str(error))
            if error.receipt is not None:
                self._count(error.receipt)
        except EventBusError as error:
            self.tally.error = error
            self._intake.cancel()
        except anyio.get_cancelled_exc_class():
            self.tally.cut_short += 1
            raise
        finally:
            self._room.release()

    def _count(self, receipt: Receipt) -> None:
        self.tally.published += 1
        for result in receipt.deliveries.values():
            if result.state == "failed" or (
                result.state == "dead_lettered" and result.dead_letter_id is None
            ):
                self.tally.lost += 1
            elif result.state == "dead_lettered":
                self.tally.dead_lettered += 1


def _why(error: InvalidEvent) -> str:
    if isinstance(error.__cause__, pydantic.ValidationError):
        return f"the payload does not fit: {told(error.__cause__)}"
    return str(error)
