"""One publish to one async handler, beside blinker's ``send_async``.

Ours makes an envelope with its id and correlation, checks that the payload could be stored, counts,
times into a histogram, keeps the handler's context variables apart, answers with a receipt, and has a
dead-letter queue that would capture a failure. Blinker calls the handler and has none of these: an
exception of one receiver stops the others and reaches the sender.

The event is made once and passed as blinker's sender, which is the least that can be passed: one
positional argument, the very handler that the bus calls. With the event as a keyword blinker takes a
tenth longer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.harness import Benchmark, MakeHandler, Operations, Sides, timed
from benchmarks.subjects import PLACED, Placed, armed_bus, calling, no_op, publishing


@asynccontextmanager
async def sides(make_handler: MakeHandler = no_op) -> AsyncIterator[Sides]:
    """Open a bus and a signal with one handler each."""
    from blinker import Signal

    handler = make_handler()
    signal = Signal()
    signal.connect(handler)
    bus = armed_bus()
    bus.subscribe(Placed, handler, id="handler")
    async with bus:
        yield Sides(publishing(bus, PLACED), calling(signal.send_async, PLACED))


BENCHMARK = Benchmark(
    name="one-handler-blinker",
    question="one publish, one handler",
    rival="blinker send_async",
    take=timed(sides, Operations(5_000, 5_000)),
    limit=1.2,
)
