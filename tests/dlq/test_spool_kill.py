"""A spool whose process is killed: what append had returned for is all there, and imported once."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from tests.dlq.spool_process import JournalStore
from tests.dlq.spooling import (
    FlakyStore,
    importing,
    leave_behind,
    some_writes,
    spool_files,
    unmeasured,
    until,
)

from eventbus_dlq.spool import Spool

ROOT = Path(__file__).parents[2]


def start(*arguments: object) -> subprocess.Popen[str]:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "contracts")])
    return subprocess.Popen(
        [sys.executable, "-m", "tests.dlq.spool_process", *map(str, arguments)],
        cwd=ROOT,
        env={**unmeasured(), "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
    )


def ids_in(output: str) -> list[str]:
    """Return what a process has told: whole lines, and none of its log."""
    return [line for line in output.splitlines() if re.fullmatch(r"[0-9a-f-]{36}", line)]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # what is tried is a thread and a file
@pytest.mark.parametrize("kept_before_the_kill", [1, 40, 200, 333])
async def test_what_append_had_returned_for_outlives_a_kill(
    tmp_path: Path, kept_before_the_kill: int
) -> None:
    folder = tmp_path / "spool"
    with start("append", folder) as process:
        assert process.stdout is not None
        told = [process.stdout.readline().strip() for _ in range(kept_before_the_kill)]
        process.kill()
        told.append(process.stdout.read())
    kept_for_sure = set(ids_in("\n".join(told)))
    spool, store = Spool(folder), FlakyStore()
    await spool.open()
    assert spool.is_waiting
    async with importing(spool, store):
        await until(lambda: not spool.is_waiting)
    await spool.close()
    assert len(kept_for_sure) >= kept_before_the_kill
    assert kept_for_sure <= set(store.imported)
    assert len(store.imported) == len(set(store.imported))
    assert os.listdir(folder) == []


@pytest.mark.parametrize(
    "where", ["before the commit", "after the commit", "before the clearing", "after the clearing"]
)
async def test_a_kill_in_the_middle_of_an_import_loses_and_repeats_nothing(
    tmp_path: Path, where: str
) -> None:
    folder = tmp_path / "spool"
    spooled: list[str] = []
    for _ in range(2):
        with start("import", folder, where) as process:
            assert process.stdout is not None
            spooled += ids_in(process.stdout.read())
        assert process.returncode == -signal.SIGKILL
    assert len(spooled) == 600
    store, spool = JournalStore(tmp_path / "journal"), Spool(folder)
    await spool.open()
    async with importing(spool, store):
        await until(lambda: not spool.is_waiting)
    await spool.close()
    assert store.imported == spooled
    assert os.listdir(folder) == []


async def test_the_file_of_a_living_process_is_left_alone_beside_one_of_the_dead(tmp_path: Path) -> None:
    with start("append", tmp_path) as living:
        try:
            assert living.stdout is not None
            living.stdout.readline()
            (name,) = spool_files(tmp_path)
            leave_behind(tmp_path, writes := some_writes(2))
            spool, store = Spool(tmp_path), FlakyStore()
            await spool.open()
            with anyio.fail_after(20):
                async with importing(spool, store):
                    await until(lambda: not spool.is_waiting)
            await spool.close()
            assert store.imported == [write.letter.id for write in writes]
            assert spool_files(tmp_path) == [name]
        finally:
            living.kill()
