"""A spool: what it was given is on the disk, and later writes queue behind it until all is imported."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import anyio
import pytest
from letters import build_letter
from structlog.testing import capture_logs
from tests.dlq.spooling import FlakyStore, ids_of, importing, leave_behind, some_writes, spool_files, until

from eventbus.testing import FakeClock
from eventbus_dlq import Spooled, SpoolUnavailable
from eventbus_dlq.spool import Spool, writer
from eventbus_dlq.spool.file import SpoolFile
from eventbus_dlq.spool.records import decoded


def records_of(folder: Path) -> list[Spooled]:
    """Return what the one file in a folder holds, which its process has let go of."""
    (name,) = spool_files(folder)
    file = SpoolFile.adopt(folder / name)
    assert file is not None
    records, _ = file.read(0)
    file.close()
    return [decoded(record.body) for record in records]


async def test_what_was_appended_is_in_the_file(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    await spool.open()
    writes = [Spooled("accept", build_letter()), *some_writes(2)]
    await spool.append(writes[:1])
    await spool.append(writes[1:])
    await spool.close()
    assert records_of(tmp_path / "spool") == writes


async def test_a_spool_that_was_never_needed_leaves_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    await spool.open()
    await spool.open()
    assert len(spool_files(tmp_path)) == 1
    assert not spool.is_waiting
    await spool.close()
    await spool.close()
    assert os.listdir(tmp_path) == []


async def test_a_spool_may_be_opened_again_and_finds_what_it_left(tmp_path: Path) -> None:
    spool, store, writes = Spool(tmp_path), FlakyStore(), some_writes(3)
    await spool.open()
    await spool.append(writes)
    await spool.close()
    await spool.open()
    assert spool.is_waiting
    async with importing(spool, store):
        await until(lambda: not spool.is_waiting)
    await spool.close()
    assert store.imported == ids_of(writes)
    assert os.listdir(tmp_path) == []


async def test_later_writes_wait_from_the_call_of_append_until_all_is_imported(tmp_path: Path) -> None:
    spool, store, writes = Spool(tmp_path), FlakyStore(), some_writes(2)
    await spool.open()
    async with anyio.create_task_group() as group:
        group.start_soon(spool.append, writes)
        await until(lambda: spool.is_waiting)
    assert spool.is_waiting
    async with importing(spool, store):
        await until(lambda: not spool.is_waiting)
        assert store.imported == ids_of(writes), "it said that all was imported before it was"
    await spool.close()


async def test_the_write_is_handed_over_before_the_first_suspension(tmp_path: Path) -> None:
    spool, writes = Spool(tmp_path), some_writes(1)
    await spool.open()
    with anyio.CancelScope() as cancelled:
        cancelled.cancel()
        await spool.append(writes)
    assert cancelled.cancelled_caught
    await spool.close()
    assert records_of(tmp_path) == writes


async def test_appends_of_many_tasks_are_all_kept_each_whole(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    await spool.open()
    calls = [some_writes(1 + number % 3) for number in range(100)]
    async with anyio.create_task_group() as group:
        for writes in calls:
            group.start_soon(spool.append, writes)
    await spool.close()
    kept = [write.letter.id for write in records_of(tmp_path)]
    expected = {write.letter.id for writes in calls for write in writes}
    assert set(kept) == expected
    assert len(kept) == len(expected)
    for writes in calls:
        at = kept.index(writes[0].letter.id)
        assert kept[at : at + len(writes)] == ids_of(writes)


async def test_an_append_of_nothing_keeps_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    await spool.open()
    await spool.append([])
    assert not spool.is_waiting
    await spool.close()
    assert os.listdir(tmp_path) == []


async def test_a_closed_spool_takes_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    with pytest.raises(SpoolUnavailable, match="is closed; open it first"):
        await spool.append(some_writes(1))
    await spool.open()
    await spool.close()
    with pytest.raises(SpoolUnavailable, match="is closed; open it first"):
        await spool.append(some_writes(1))


async def test_a_full_disk_is_told_to_whom_it_concerns_and_later_writes_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, before, after = Spool(tmp_path), some_writes(1), some_writes(1)
    await spool.open()
    await spool.append(before)
    real = os.pwrite
    with monkeypatch.context() as full_disk:
        calls = iter(range(1000))

        def pwrite(fd: int, data: bytes, offset: int) -> int:
            if next(calls) % 2:
                raise OSError(28, "No space left on device")
            return real(fd, data[: len(data) // 2], offset)

        full_disk.setattr(os, "pwrite", pwrite)
        with pytest.raises(SpoolUnavailable, match=r"nothing was kept in the spool .*: No space left"):
            await spool.append(some_writes(1))
    await spool.append(after)
    await spool.close()
    assert records_of(tmp_path) == before + after


async def test_a_write_too_large_for_the_disk_does_not_take_its_neighbours_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite

    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        if len(data) > 50_000:
            raise OSError(28, "No space left on device")
        return real(fd, data, offset)

    spool, small = Spool(tmp_path), some_writes(5)
    large = Spooled("add", build_letter(payload_json=b'"' + b"x" * 60_000 + b'"'))
    await spool.open()
    monkeypatch.setattr(os, "pwrite", pwrite)
    failed: list[Spooled] = []

    async def append(write: Spooled) -> None:
        try:
            await spool.append([write])
        except SpoolUnavailable:
            failed.append(write)

    async with anyio.create_task_group() as group:
        for write in [*small[:2], large, *small[2:]]:
            group.start_soon(append, write)
    await spool.close()
    assert failed == [large]
    assert {write.letter.id for write in records_of(tmp_path)} == set(ids_of(small))


async def test_a_failed_append_leaves_nobody_waiting(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    await spool.open()
    with pytest.raises(SpoolUnavailable, match="has no JSON form"):
        await spool.append([Spooled("add", build_letter(annotations={"lock": object()}))])
    assert not spool.is_waiting
    await spool.close()
    assert os.listdir(tmp_path) == []


async def test_a_failure_that_nobody_waits_for_any_more_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    spool, writes = Spool(tmp_path), some_writes(1)
    await spool.open()
    with capture_logs() as logs, monkeypatch.context() as broken_disk:
        broken_disk.setattr(os, "fsync", broken)
        with anyio.CancelScope() as cancelled:
            cancelled.cancel()
            await spool.append(writes)
        await spool.close()
    (line,) = [it for it in logs if it["event"] == "spool.append_failed"]
    assert line["dead_letters"] == ids_of(writes)
    assert "Input/output error" in line["error"]


def test_a_failure_whose_event_loop_is_gone_is_logged(
    tmp_path: Path, anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = Spool(tmp_path)
    finish = threading.Event()

    def slow_and_broken(_: int) -> None:
        finish.wait(20)
        raise OSError(5, "Input/output error")

    async def give_up() -> None:
        await spool.open()
        monkeypatch.setattr(os, "fsync", slow_and_broken)
        with anyio.CancelScope() as cancelled:
            cancelled.cancel()
            await spool.append(some_writes(1))

    async def close() -> None:
        await spool.close()

    with capture_logs() as logs:
        anyio.run(give_up, backend=anyio_backend)
        finish.set()
        anyio.run(close, backend=anyio_backend)
    assert [it["event"] for it in logs] == ["spool.append_failed"]


async def test_no_write_slips_past_earlier_ones_while_the_store_comes_and_goes(tmp_path: Path) -> None:
    """Writers go directly when they may: whatever the store takes, it takes in the order of the calls."""
    spool, store = Spool(tmp_path), FlakyStore()
    await spool.open()
    order: list[str] = []
    direct: list[str] = []
    dice = random.Random(7)

    def imported(writes: Sequence[Spooled]) -> None:
        order.extend(ids_of(writes))

    async def write(expected: list[str]) -> None:
        for one in some_writes(60):
            expected.append(one.letter.id)
            if spool.is_waiting or dice.random() < 0.3:  # here: the store was down just then
                await spool.append([one])
            else:
                order.append(one.letter.id)
                direct.append(one.letter.id)
                await store.add([one.letter])
            await anyio.sleep(dice.choice([0, 0, 0.002]))

    written: list[list[str]] = [[], [], []]
    async with anyio.create_task_group() as group:
        group.start_soon(partial(spool.run, store, FakeClock(), imported=imported))
        async with anyio.create_task_group() as writers:
            for expected in written:
                writers.start_soon(write, expected)
        await until(lambda: not spool.is_waiting)
        group.cancel_scope.cancel()
    await spool.close()
    assert direct, "no write went directly, so that nothing was tried"
    assert len(order) == 180
    for expected in written:
        mine = set(expected)
        assert [it for it in order if it in mine] == expected


async def test_the_writes_of_dead_processes_come_before_new_ones(tmp_path: Path) -> None:
    older, newer = some_writes(2), some_writes(2)
    leave_behind(tmp_path, older)
    leave_behind(tmp_path, newer)
    spool, store, own = Spool(tmp_path), FlakyStore(), some_writes(1)
    await spool.open()
    assert spool.is_waiting
    await spool.append(own)
    async with importing(spool, store):
        await until(lambda: not spool.is_waiting)
        await until(lambda: len(spool_files(tmp_path)) == 1)
    assert store.imported == ids_of([*older, *newer, *own])
    await spool.close()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("at_once", "syncs"), [(512, 2), (20, 6)])
async def test_what_gathers_during_one_fsync_shares_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int, syncs: int
) -> None:
    spool, real, go_on = Spool(tmp_path), os.fsync, threading.Event()
    begun: list[int] = []

    def slow(fd: int) -> None:
        begun.append(fd)
        go_on.wait(20)
        real(fd)

    await spool.open()
    monkeypatch.setattr(writer, "_MAX_APPENDS", at_once)
    monkeypatch.setattr(os, "fsync", slow)
    async with anyio.create_task_group() as group:
        group.start_soon(spool.append, some_writes(1))
        await until(lambda: len(begun) == 1)
        assert spool.is_waiting, "a later write could overtake one that is on its way to the disk"
        for _ in range(100):
            group.start_soon(spool.append, some_writes(1))
        await anyio.wait_all_tasks_blocked()
        go_on.set()
    assert len(begun) == syncs
    await spool.close()
    assert len(records_of(tmp_path)) == 101
