"""One publish to ten async handlers in turn on trio, beside blinker with ten.

Reported without a limit; the sides are those of ``ten_handlers_serial``. Blinker awaits and knows no
event loop; ours goes through one cancel scope for each delivery.
"""

from __future__ import annotations

from benchmarks.harness import Benchmark, Operations, timed
from benchmarks.ten_handlers_serial import sides

BENCHMARK = Benchmark(
    name="ten-handlers-serial-trio",
    question="one publish, ten handlers in turn, on trio",
    rival="blinker send_async",
    take=timed(sides, Operations(200, 1_000), backend="trio"),
)
