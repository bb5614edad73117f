"""Resident memory after ten million events, beside that after the first hundred thousand.

A process of its own publishes and says how much memory it holds after both numbers, each time after a
full collection. Of ten events eight are published with scalars, one with an open field, and one is
enqueued; every event is a new object with a text of its own. One process, one round: the figure is a
difference, not a median. It is read from ``/proc``, so it is taken on Linux only.

With ``--quick`` it stops at one million, and its row says so.
"""

from __future__ import annotations

import gc
import resource
import subprocess
import sys
from pathlib import Path

import anyio

from benchmarks.harness import Benchmark, CannotMeasureError, Effort, Figure, Sample, Taken

FEW, MANY, QUICK = 100_000, 10_000_000, 1_000_000

_QUESTION = "resident memory after {:,} events"
_STATM = Path("/proc/self/statm")
_TOLD_EVERY = 100_000


def take(effort: Effort) -> Taken:
    """Have a process publish, and compare what it says."""
    if not _STATM.exists():
        raise CannotMeasureError(f"resident memory is read from {_STATM}, which is not there")
    many = QUICK if effort.quick else MANY
    held = resident_after(FEW, many, effort)
    question = f"{_QUESTION.format(many)} (--quick)" if effort.quick else None
    return Taken([Sample(ours=held[many], rival=held[FEW])], question=question)


def resident_after(few: int, many: int, effort: Effort) -> dict[int, int]:
    """Return the bytes that a process holds after ``few`` and after ``many`` events."""
    held: dict[int, int] = {}
    command = [sys.executable, "-m", "benchmarks.memory", str(few), str(many)]
    root = Path(__file__).parent.parent
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            events, size = line.split()
            effort.progress(f"{int(events):,} of {many:,} events")
            held[int(events)] = int(size)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return held


async def publish(few: int, many: int) -> None:
    """Publish ``many`` events, and print the memory held after ``few``, after all, and now and then."""
    from benchmarks.subjects import Changed, Placed, armed_bus, no_op

    bus = armed_bus()
    bus.subscribe(Placed, no_op(), id="placed")
    bus.subscribe(Changed, no_op(), id="changed")
    async with bus:
        for number in range(1, many + 1):
            customer = f"customer {number}"
            if number % 10 == 1:
                await bus.publish(Changed(order_id=number, changes={"customer": customer}))
            elif number % 10 == 2:
                await bus.enqueue(Placed(order_id=number, customer=customer))
            else:
                await bus.publish(Placed(order_id=number, customer=customer))
            if number % 1_000 == 0:
                await bus.wait_idle()
            if number in (few, many) or number % _TOLD_EVERY == 0:
                await bus.wait_idle()
                gc.collect()
                print(number, resident(), flush=True)


def resident() -> int:
    """Return the bytes of memory that this process holds."""
    return int(_STATM.read_text().split()[1]) * resource.getpagesize()


BENCHMARK = Benchmark(
    name="memory",
    question=_QUESTION.format(MANY),
    rival="after 100,000",
    take=take,
    figure=Figure.GROWTH,
    limit=2.0,
)

if __name__ == "__main__":
    anyio.run(publish, int(sys.argv[1]), int(sys.argv[2]))
