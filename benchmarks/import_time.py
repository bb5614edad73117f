"""``import eventbus``, beside importing anyio, pydantic and structlog alone.

Each import is timed inside a fresh interpreter of its own, in turn, so the interpreter's own start does
not thin the ratio; the first pair, which may write bytecode, does not count. The figure counts as short
whatever it is when ``import eventbus`` loads sqlalchemy or starlette.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from benchmarks.harness import Benchmark, Effort, Sample, Taken

OURS = "import eventbus"
ALONE = "import anyio, pydantic, structlog"
UNWANTED = ("sqlalchemy", "starlette")

_ROUNDS = 15
_TIMED = """
import sys, time
begun = time.perf_counter()
{statement}
taken = time.perf_counter() - begun
import json
import os
print(json.dumps([taken, [name for name in {unwanted!r} if name in sys.modules]]))
"""


def take(effort: Effort) -> Taken:
    """Time both imports in turn."""
    samples: list[Sample] = []
    loaded: set[str] = set()
    rounds = effort.rounds or _ROUNDS
    for number in range(rounds + 1):
        effort.progress(f"round {number} of {rounds}")
        ours, found = import_once(OURS)
        alone, _ = import_once(ALONE)
        loaded.update(found)
        if number:
            samples.append(Sample(ours, alone))
    return Taken(samples, fault=f"`{OURS}` loads {', '.join(sorted(loaded))}" if loaded else None)


def import_once(statement: str) -> tuple[float, list[str]]:
    """Return the seconds that a statement takes in a fresh interpreter, and the unwanted it loaded."""
    code = _TIMED.format(statement=statement, unwanted=UNWANTED)
    # bytecode is cached, as after any installation, even where the environment says not to write it
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], check=True, capture_output=True, text=True, env=env
    )
    seconds, loaded = json.loads(done.stdout)
    return float(seconds), list(loaded)


BENCHMARK = Benchmark(
    name="import-time",
    question="import eventbus",
    rival="import anyio, pydantic, structlog",
    take=take,
    limit=1.2,
)
