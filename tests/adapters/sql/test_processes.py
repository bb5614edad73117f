"""Several processes on one file: nobody sees a lock, and nothing is lost or counted twice."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from letters import NOW

from eventbus_adapters.sql import SqlStore
from eventbus_dlq.letter import DeadLetterState
from eventbus_dlq.query import DeadLetterQuery

PROCESSES = 8
LETTERS = 20

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
        assert not await store.heartbeat([claim.lease], lease=60, now=NOW)
        done = Settlement(lease=claim.lease, state=DeadLetterState.RESOLVED)
        assert not await store.settle([done], now=NOW)
    await store.close()

asyncio.run(main())
"""


async def test_eight_processes_create_and_share_one_file(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shared.db"
    folder = str(Path(__file__).parents[2] / "contracts")
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, url, f"process-{number}"],
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
    store = SqlStore(url)
    await store.open()
    stats = await store.stats(now=NOW)
    page = await store.find(DeadLetterQuery(state="resolved"), limit=1_000)
    await store.close()
    assert stats.by_state == {DeadLetterState.RESOLVED: PROCESSES * LETTERS}
    assert len(page.items) == PROCESSES * LETTERS
