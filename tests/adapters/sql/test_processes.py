"""Several processes on one file: nobody sees a lock, and nothing is lost or counted twice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from letters import NOW

from eventbus_adapters.sql import SqlStore
from eventbus_dlq.letter import DeadLetterState
from eventbus_dlq.query import DeadLetterQuery

PROCESSES = 8
LETTERS = 20
DELIVERIES = 40

ONCE = pytest.mark.parametrize("anyio_backend", ["asyncio"])
"""The processes have event loops of their own, whatever the test's is."""

CHILD = f"""
import asyncio, sys
from letters import NOW, build_letter
from eventbus_adapters.sql import SqlStore
from eventbus_dlq.letter import DeadLetterState
from eventbus_dlq.store import Settlement

async def main():
    store = SqlStore(sys.argv[1], busy_timeout=30)
    print("ready", flush=True)
    sys.stdin.readline()
    await store.open()
    for _ in range({LETTERS}):
        (id,) = await store.add([build_letter()])
        (claim,) = await store.claim([id], owner=sys.argv[2], lease=30, now=NOW)
        assert not await asyncio.to_thread(store.heartbeat, [claim.lease], lease=60, now=NOW)
        done = Settlement(lease=claim.lease, state=DeadLetterState.RESOLVED)
        assert not await store.settle([done], now=NOW)
    await store.close()

asyncio.run(main())
"""


WORKER = f"""
import asyncio, sys
from letters import after, build_delivery
from eventbus_adapters.sql import SqlStore
from eventbus_dlq.letter import DeadLetterState
from eventbus_dlq.store import Settlement

async def main():
    store = SqlStore(sys.argv[1])
    print("ready", flush=True)
    sys.stdin.readline()
    await store.open()
    for _ in range({DELIVERIES}):
        await store.accept([build_delivery()])
    own = []
    while claims := await store.claim_due(
        {{"billing.charge": 7}}, states=set(DeadLetterState),
        limit=7, owner=sys.argv[2], lease=30, now=after(9),
    ):
        own += [it.letter.id for it in claims]
        await asyncio.to_thread(store.heartbeat, [it.lease for it in claims], lease=60, now=after(9))
        done = [Settlement(lease=it.lease, state=DeadLetterState.RESOLVED, forget=True) for it in claims]
        assert not await store.settle(done, now=after(9))
    await store.close()
    print(*own)

asyncio.run(main())
"""


@ONCE
async def test_eight_processes_create_and_share_one_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shared.db"
    await run_together(CHILD, url)
    store = SqlStore(url)
    await store.open()
    stats = await store.stats(now=NOW)
    page = await store.find(DeadLetterQuery(state="resolved"), limit=1_000)
    await store.close()
    assert stats.by_state == {DeadLetterState.RESOLVED: PROCESSES * LETTERS}
    assert len(page.items) == PROCESSES * LETTERS


@ONCE
async def test_of_eight_processes_each_delivery_is_run_by_one(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shared.db"
    handled = [it for output in await run_together(WORKER, url) for it in output.split()]
    assert len(handled) == len(set(handled)) == PROCESSES * DELIVERIES
    store = SqlStore(url)
    await store.open()
    assert (await store.stats(now=NOW)).total == 0
    await store.close()


async def run_together(program: str, url: str) -> list[str]:
    """Run a program in eight processes; return what each has printed behind its first line."""
    folder = str(Path(__file__).parents[2] / "contracts")
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program, url, f"process-{number}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": folder},
        )
        for number in range(PROCESSES)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:  # all at once: they race for creating the tables
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    endings = [child.communicate() for child in children]
    assert [(child.returncode, errors) for child, (_, errors) in zip(children, endings, strict=True)] == [
        (0, "")
    ] * PROCESSES
    return [output for output, _ in endings]
