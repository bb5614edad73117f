"""One publish of an event with an open field to one async handler, beside blinker's ``send_async``.

What stands in an open field is known only when it comes, so publishing encodes it to find out whether
a failure could be stored. Blinker looks at nothing. Otherwise as in ``one_handler_blinker``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from benchmarks.harness import Benchmark, MakeHandler, Operations, Sides, timed
from benchmarks.subjects import CHANGED, Changed, armed_bus, calling, no_op, publishing


@asynccontextmanager
async def sides(make_handler: MakeHandler = no_op) -> AsyncIterator[Sides]:
    """Open a bus and a signal with one handler each."""
    from blinker import Signal

    handler = make_handler()
    signal = Signal()
    signal.connect(handler)
    bus = armed_bus()
    bus.subscribe(Changed, handler, id="handler")
    async with bus:
        yield Sides(publishing(bus, CHANGED), calling(signal.send_async, CHANGED))


BENCHMARK = Benchmark(
    name="one-handler-open-event",
    question="one publish of an open dict, one handler",
    rival="blinker send_async",
    take=timed(sides, Operations(5_000, 5_000)),
    limit=1.2,
)
