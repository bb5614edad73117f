"""One publish to ten async handlers in turn (``concurrency="serial"``), beside blinker with ten.

Blinker awaits its receivers one after another too. As in ``one_handler_blinker`` the event is passed
as the sender, and blinker has neither metrics nor envelope nor isolation.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.harness import Benchmark, MakeHandler, Operations, Sides, timed
from benchmarks.subjects import PLACED, calling, no_op, publishing, ten_handlers


@asynccontextmanager
async def sides(make_handler: MakeHandler = no_op) -> AsyncIterator[Sides]:
    """Open a serial bus and a signal with ten handlers each."""
    from blinker import Signal

    bus, handlers = ten_handlers(make_handler, "serial")
    signal = Signal()
    for handler in handlers:
        signal.connect(handler)
    async with bus:
        yield Sides(publishing(bus, PLACED), calling(signal.send_async, PLACED))


BENCHMARK = Benchmark(
    name="ten-handlers-serial",
    question="one publish, ten handlers in turn",
    rival="blinker send_async",
    take=timed(sides, Operations(1_000, 1_000)),
    limit=1.0,
)
