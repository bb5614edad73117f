"""Importing a spool: in order, each write once, whatever the store, the disk or the process does."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import anyio
import pytest
from letters import NOW, build_letter, build_letter_in
from structlog.testing import capture_logs
from tests.dlq.spooling import (
    FlakyStore,
    ids_of,
    importing,
    kept_in,
    leave_behind,
    some_writes,
    spool_files,
    until,
)

from eventbus.testing import FakeClock
from eventbus_dlq import InvalidTransition, Spooled, StoreUnavailable
from eventbus_dlq.letter import DeadLetterState, Verb
from eventbus_dlq.spool import Spool
from eventbus_dlq.spool import file as spool_file
from eventbus_dlq.spool.file import SpoolFile
from eventbus_dlq.spool.records import framed, header
from eventbus_dlq.store import DeadLetterStore


async def opened(folder: Path) -> Spool:
    spool = Spool(folder)
    await spool.open()
    return spool


async def import_all(spool: Spool, store: FlakyStore) -> None:
    async with importing(spool, store):
        await until(lambda: not spool.is_waiting)


async def test_writes_are_imported_in_order_and_the_file_is_emptied(tmp_path: Path) -> None:
    spool, store = await opened(tmp_path), FlakyStore()
    writes = some_writes(450)
    await spool.append(writes[:10])
    await spool.append(writes[10:])
    (name,) = spool_files(tmp_path)
    empty = len(header(name.removesuffix(".spool")))
    async with importing(spool, store):
        await until(lambda: (tmp_path / name).stat().st_size == empty)
    assert store.imported == ids_of(writes)
    assert [len(batch) for batch in store.batches] == [200, 200, 50]
    await spool.close()
    assert os.listdir(tmp_path) == []


async def test_the_importer_wakes_at_once_when_something_is_appended(tmp_path: Path) -> None:
    spool, store, writes = await opened(tmp_path), FlakyStore(), some_writes(3)
    async with importing(spool, store) as clock:
        for write in writes:
            await clock.wait_for_sleepers()  # it has nothing to do
            await spool.append([write])
            await until(lambda: not spool.is_waiting)
    assert store.imported == ids_of(writes)
    await spool.close()


async def test_a_store_that_is_away_is_asked_again_ever_later(tmp_path: Path) -> None:
    spool, store = await opened(tmp_path), FlakyStore()
    store.failure = StoreUnavailable("the database is away")
    await spool.append(writes := some_writes(2))
    async with importing(spool, store) as clock:
        for wait in (0.5, 1.0, 2.0, 4.0, 5.0, 5.0):
            await clock.wait_for_sleepers()
            assert clock.sleepers == (wait,)
            assert spool.is_waiting
            clock.advance(wait)
            await until(lambda: not clock.sleepers)
        store.failure = None
        await clock.wait_for_sleepers()
        clock.advance(5)
        await until(lambda: not spool.is_waiting)
        store.failure = StoreUnavailable("the database is away again")
        await spool.append(more := some_writes(1))
        await until(lambda: 0.5 in clock.sleepers)
        store.failure = None
        clock.advance(0.5)
        await until(lambda: not spool.is_waiting)
    assert store.imported == ids_of([*writes, *more])
    await spool.close()


async def test_an_append_does_not_disturb_the_wait_for_a_store_that_is_away(tmp_path: Path) -> None:
    spool, store = await opened(tmp_path), FlakyStore()
    store.failure = StoreUnavailable("the database is away")
    await spool.append(some_writes(1))
    async with importing(spool, store) as clock:
        await clock.wait_for_sleepers()
        for _ in range(5):
            await spool.append(some_writes(1))
        assert store.asked == 1
    await spool.close()


@pytest.mark.parametrize("error", [RuntimeError("a bug"), StoreUnavailable("broken", retryable=False)])
async def test_a_store_that_is_broken_altogether_refuses_no_write(tmp_path: Path, error: Exception) -> None:
    spool, store = await opened(tmp_path), FlakyStore()
    store.failure = error
    await spool.append(writes := some_writes(2))
    with capture_logs() as logs:
        async with importing(spool, store) as clock:
            await clock.wait_for_sleepers()
            store.failure = None
            clock.advance(0.5)
            await until(lambda: not spool.is_waiting)
    assert store.imported == ids_of(writes)
    assert spool_files(tmp_path, ".refused") == []
    assert [it["event"] for it in logs] in (["spool.import_failed"], ["spool.waits"])
    await spool.close()


@pytest.mark.parametrize("lost", [1, 2, 3])
async def test_an_import_that_was_committed_and_then_failed_is_not_repeated(
    tmp_path: Path, lost: int
) -> None:
    spool, store = await opened(tmp_path), FlakyStore()
    store.lost = lost
    await spool.append(writes := some_writes(450))
    async with importing(spool, store) as clock:
        for _ in range(lost):
            await until(lambda: 0.5 in clock.sleepers)
            clock.advance(0.5)
            await until(lambda: 0.5 not in clock.sleepers)
        await until(lambda: not spool.is_waiting)
    assert store.imported == ids_of(writes)
    await spool.close()


async def test_a_death_between_the_commit_and_the_clearing_imports_nothing_twice(tmp_path: Path) -> None:
    spool, store = await opened(tmp_path), FlakyStore()
    await spool.append(writes := some_writes(250))
    (name,) = spool_files(tmp_path)
    shutil.copy(tmp_path / name, copy := tmp_path / "copy")
    await import_all(spool, store)
    await spool.close()
    copy.rename(tmp_path / name)  # as if it had died before it cleared the file
    again = await opened(tmp_path)
    assert again.is_waiting
    async with importing(again, store):
        await until(lambda: not again.is_waiting)
    await again.close()
    assert store.imported == ids_of(writes)
    assert os.listdir(tmp_path) == []


async def test_a_death_between_two_batches_goes_on_where_the_store_is(tmp_path: Path) -> None:
    path = leave_behind(tmp_path, writes := some_writes(450))
    shutil.copy(path, copy := tmp_path / "copy")
    store, spool = FlakyStore(), await opened(tmp_path)
    store.refuses = lambda letter: StoreUnavailable("away") if letter.id in ids_of(writes[200:]) else None
    async with importing(spool, store) as clock:
        await clock.wait_for_sleepers()
    await spool.close()
    assert store.imported == ids_of(writes[:200])
    copy.rename(path)
    store.refuses = lambda _: None
    again = await opened(tmp_path)
    await import_all(again, store)
    await again.close()
    assert store.imported == ids_of(writes)


async def test_a_store_that_answers_nonsense_is_not_asked_in_a_hurry(tmp_path: Path) -> None:
    class Stubborn(FlakyStore):
        async def import_spool(self, *_: Any, **__: Any) -> bool:
            self.asked += 1
            return False

    spool, store = await opened(tmp_path), Stubborn()
    await spool.append(some_writes(1))
    with capture_logs() as logs:
        async with importing(spool, store) as clock:
            await clock.wait_for_sleepers()
    assert store.asked == 1
    assert "does not go on there" in logs[0]["error"]
    await spool.close()


async def test_what_the_store_refuses_for_good_is_put_aside_and_the_others_go_on(tmp_path: Path) -> None:
    spool, store, writes = await opened(tmp_path), FlakyStore(), some_writes(5)
    taken = build_letter(id=writes[2].letter.id)
    await store.add([taken])
    await spool.append(writes)
    with capture_logs() as logs:
        await import_all(spool, store)
    others = ids_of([*writes[:2], *writes[3:]])
    assert store.imported == others
    assert (await store.get(taken.id)).event_id == taken.event_id
    (name,) = spool_files(tmp_path, ".refused")
    (line,) = (tmp_path / name).read_text().splitlines()
    refused = json.loads(line)
    assert refused["write"]["letter"]["event_id"] == writes[2].letter.event_id
    assert refused["write"]["verb"] == "add"
    assert refused["reason"].startswith("ValueError: id ")
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    (told,) = [it for it in logs if it["event"] == "spool.refused"]
    assert told["log_level"] == "error"
    assert told["file"] == str(tmp_path / name)
    await spool.close()
    assert spool_files(tmp_path) == []


async def test_a_record_that_only_the_store_cannot_take_is_put_aside_though_it_says_unavailable(
    tmp_path: Path,
) -> None:
    spool, store, writes = await opened(tmp_path), FlakyStore(), some_writes(4)
    bad = {writes[0].letter.id, writes[3].letter.id}
    store.refuses = lambda letter: (
        StoreUnavailable("string too long", retryable=False) if letter.id in bad else None
    )
    await spool.append(writes)
    await import_all(spool, store)
    await spool.close()
    assert store.imported == ids_of(writes[1:3])
    (name,) = spool_files(tmp_path, ".refused")
    assert len((tmp_path / name).read_text().splitlines()) == 2


async def test_a_record_that_this_release_cannot_read_is_put_aside_once(tmp_path: Path) -> None:
    body = b'{"verb":"add","letter":{"id":"from-a-newer-release"}}'
    file = SpoolFile.create(tmp_path)
    file.append([body])
    file.close()
    spool, store = await opened(tmp_path), FlakyStore()
    store.failure = StoreUnavailable("away")
    async with importing(spool, store) as clock:
        for wait in (0.5, 1.0):
            await until(lambda wait=wait: wait in clock.sleepers)
            clock.advance(wait)
        await until(lambda: 2.0 in clock.sleepers)
        store.failure = None
        clock.advance(2)
        await until(lambda: not spool.is_waiting)
    await spool.close()
    (name,) = os.listdir(tmp_path)
    (line,) = (tmp_path / name).read_text().splitlines()
    assert json.loads(line)["write"] == json.loads(body)
    assert "the letter has no 'event_id'" in json.loads(line)["reason"]


async def test_a_refusal_that_cannot_be_kept_keeps_the_record_in_the_spool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, store, writes = await opened(tmp_path), FlakyStore(), some_writes(2)
    store.refuses = lambda letter: ValueError("no") if letter.id == writes[0].letter.id else None
    await spool.append(writes)
    real = os.fsync

    def full(_: int) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with capture_logs() as logs:
        async with importing(spool, store) as clock:
            await until(lambda: 0.5 in clock.sleepers)
            assert store.imported == []
            monkeypatch.setattr(os, "fsync", real)
            clock.advance(0.5)
            await until(lambda: not spool.is_waiting)
    assert [it["event"] for it in logs] == ["spool.import_failed", "spool.refused"]
    assert store.imported == ids_of(writes[1:])
    (name,) = spool_files(tmp_path, ".refused")
    assert len((tmp_path / name).read_text().splitlines()) == 1
    await spool.close()


async def test_the_file_of_a_process_that_dies_later_is_adopted_from_time_to_time(tmp_path: Path) -> None:
    spool, store = await opened(tmp_path), FlakyStore()
    async with importing(spool, store) as clock:
        await clock.wait_for_sleepers()
        leave_behind(tmp_path, writes := some_writes(3), tail=b"00000000000")
        clock.advance(30)
        await until(lambda: len(store.imported) == 3)
        await until(lambda: len(spool_files(tmp_path)) == 1)
    assert store.imported == ids_of(writes)
    await spool.close()


async def test_two_processes_that_look_for_one_file_import_it_once(tmp_path: Path) -> None:
    leave_behind(tmp_path, writes := some_writes(3))
    one, other, store = Spool(tmp_path), Spool(tmp_path), FlakyStore()
    async with anyio.create_task_group() as group:
        group.start_soon(one.open)
        group.start_soon(other.open)
    assert [one.is_waiting, other.is_waiting].count(True) == 1
    async with importing(one, store), importing(other, store):
        await until(lambda: not one.is_waiting and not other.is_waiting)
    assert store.imported == ids_of(writes)
    await one.close()
    await other.close()
    assert os.listdir(tmp_path) == []


async def test_a_file_damaged_in_the_middle_is_imported_around_it_and_kept(tmp_path: Path) -> None:
    path = leave_behind(tmp_path, writes := some_writes(4))
    data = bytearray(path.read_bytes())
    data[data.index(writes[1].letter.event_id.encode())] ^= 1
    path.write_bytes(data)
    spool, store = await opened(tmp_path), FlakyStore()
    with capture_logs() as logs:
        await import_all(spool, store)
    assert store.imported == ids_of([writes[0], *writes[2:]])
    assert [it["event"] for it in logs] == ["spool.damaged"]
    await spool.close()
    assert os.listdir(tmp_path) == [path.with_suffix(".damaged").name]
    assert (tmp_path / os.listdir(tmp_path)[0]).read_bytes() == data


async def test_when_our_own_file_is_damaged_it_is_kept_and_another_one_used(tmp_path: Path) -> None:
    spool, store = await opened(tmp_path), FlakyStore()
    await spool.append(writes := some_writes(3))
    (name,) = spool_files(tmp_path)
    with (tmp_path / name).open("r+b") as raw:
        raw.seek(-100, os.SEEK_END)
        raw.write(b"\x00" * 100)
    async with importing(spool, store):
        await until(lambda: not spool.is_waiting)
        await until(lambda: spool_files(tmp_path, ".damaged") != [])
        await until(lambda: spool_files(tmp_path) not in ([], [name]))
        await spool.append(more := some_writes(2))
        await until(lambda: not spool.is_waiting)
    assert store.imported == ids_of([*writes[:2], *more])
    await spool.close()
    assert os.listdir(tmp_path) == [Path(name).with_suffix(".damaged").name]


async def test_a_file_that_cannot_be_cleared_is_not_imported_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> NoReturn:
        raise OSError(errno.EIO, "Input/output error")

    spool, store = await opened(tmp_path), FlakyStore()
    await spool.append(writes := some_writes(2))
    with capture_logs() as logs:
        async with importing(spool, store) as clock:
            with monkeypatch.context() as broken_disk:
                broken_disk.setattr(os, "ftruncate", broken)
                await until(lambda: not spool.is_waiting)
                await clock.wait_for_sleepers()
            await spool.append(more := some_writes(2))
            await until(lambda: not spool.is_waiting)
            await clock.wait_for_sleepers()
    assert {it["event"] for it in logs} == {"spool.not_cleared"}
    assert store.imported == ids_of([*writes, *more])
    await spool.close()
    assert os.listdir(tmp_path) == []


async def test_a_file_that_somebody_removed_is_replaced_when_it_is_needed(tmp_path: Path) -> None:
    spool, store = await opened(tmp_path), FlakyStore()
    for name in spool_files(tmp_path):
        (tmp_path / name).unlink()
    await spool.append(writes := some_writes(2))
    assert len(spool_files(tmp_path)) == 1
    await import_all(spool, store)
    assert store.imported == ids_of(writes)
    await spool.close()


async def test_an_adopted_file_that_the_disk_does_not_give_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = leave_behind(tmp_path, some_writes(2))
    spool, store = await opened(tmp_path), FlakyStore()
    real = SpoolFile.read

    def read(file: SpoolFile, position: int) -> Any:
        if file.path == path:
            raise OSError(errno.EIO, "Input/output error")
        return real(file, position)

    monkeypatch.setattr(SpoolFile, "read", read)
    await spool.append(writes := some_writes(2))
    with capture_logs() as logs:
        await import_all(spool, store)
    assert store.imported == ids_of(writes)
    assert [it["event"] for it in logs] == ["spool.unreadable"]
    assert path.exists()
    await spool.close()


async def test_an_import_leaves_running_and_closed_rows_as_they_are(tmp_path: Path) -> None:
    spool, store = await opened(tmp_path), FlakyStore()
    running, resolved = build_letter(), build_letter()
    await store.add([running, resolved])
    await store.claim([running.id], owner="worker-2", lease=30.0, now=NOW)
    await store.change(resolved.id, Verb.RESOLVE, now=NOW)
    before = [await store.get(running.id), await store.get(resolved.id)]
    again = [replace(build_letter(), event_id=it.event_id) for it in (running, resolved)]
    await spool.append([Spooled("add", letter) for letter in again])
    await spool.append([Spooled("accept", replace(it, error=None)) for it in again])
    await import_all(spool, store)
    assert [await store.get(running.id), await store.get(resolved.id)] == before
    assert await kept_in(store) == {running.id, resolved.id}
    with pytest.raises(InvalidTransition):
        await store.change(resolved.id, Verb.RESOLVE, now=NOW)
    await spool.close()


async def test_deliveries_are_accepted_and_failures_added(tmp_path: Path) -> None:
    spool, store = await opened(tmp_path), FlakyStore()
    delivery = build_letter_in(
        DeadLetterState.ACCEPTED, error=None, fingerprint="", redelivery=build_letter().redelivery
    )
    failure = build_letter()
    await spool.append([Spooled("accept", delivery), Spooled("add", failure)])
    await import_all(spool, store)
    assert await store.get(delivery.id) == delivery
    assert await store.get(failure.id) == failure
    await spool.close()


async def test_whoever_wants_to_know_is_told_of_every_import(tmp_path: Path) -> None:
    spool, store = await opened(tmp_path), FlakyStore()
    told: list[str] = []

    def imported(writes: Sequence[Spooled]) -> None:
        told.extend(ids_of(writes))
        raise RuntimeError("a bug in what is told")

    await spool.append(writes := some_writes(201))
    with capture_logs() as logs:
        async with anyio.create_task_group() as group:
            group.start_soon(partial(spool.run, store, FakeClock(), imported=imported))
            await until(lambda: not spool.is_waiting)
            await until(lambda: len(told) == 201)
            group.cancel_scope.cancel()
    assert told == ids_of(writes) == store.imported
    assert [it["event"] for it in logs] == ["spool.callback_failed"] * 2
    await spool.close()


async def test_a_cancelled_import_goes_on_where_it_was(tmp_path: Path) -> None:
    spool, store = await opened(tmp_path), FlakyStore()
    await spool.append(writes := some_writes(650))
    while spool.is_waiting:
        batches = len(store.batches)
        async with importing(spool, store):
            await until(lambda batches=batches: len(store.batches) > batches or not spool.is_waiting)
    assert store.imported == ids_of(writes)
    await spool.close()


async def test_large_records_are_imported_in_small_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_file, "BATCH_BYTES", 100_000)
    spool, store = await opened(tmp_path), FlakyStore()
    payload = b'"' + b"x" * 60_000 + b'"'
    await spool.append(writes := [Spooled("add", build_letter(payload_json=payload)) for _ in range(5)])
    await import_all(spool, store)
    assert [len(batch) for batch in store.batches] == [2, 2, 1]
    assert store.imported == ids_of(writes)
    await spool.close()


async def test_a_record_of_positions_that_the_store_has_passed_is_skipped(tmp_path: Path) -> None:
    """The disk may bring back what was cleared, when the machine loses its power."""
    path = leave_behind(tmp_path, writes := some_writes(3))
    store = FlakyStore()
    name = path.stem
    end = path.stat().st_size - len(header(name))
    await store.import_spool(name, writes, start=0, end=end, now=NOW)
    with path.open("ab") as raw:
        raw.write(framed(end, b'{"verb":"add"}'))
    spool = await opened(tmp_path)
    await import_all(spool, store)
    assert store.imported == ids_of(writes)
    assert len(spool_files(tmp_path, ".refused")) == 1
    await spool.close()


async def test_a_write_is_tried_twice_before_it_is_put_aside(tmp_path: Path) -> None:
    spool, store, writes = await opened(tmp_path), FlakyStore(), some_writes(1)
    failures = iter([RuntimeError("once"), None])
    store.refuses = lambda _: next(failures)
    await spool.append(writes)
    await import_all(spool, store)
    await spool.close()
    assert store.imported == ids_of(writes)
    assert os.listdir(tmp_path) == []


async def test_a_store_that_goes_away_at_the_second_try_is_waited_for(tmp_path: Path) -> None:
    spool, store, writes = await opened(tmp_path), FlakyStore(), some_writes(1)
    failures = iter([RuntimeError("once"), StoreUnavailable("away"), None])
    store.refuses = lambda _: next(failures)
    await spool.append(writes)
    async with importing(spool, store) as clock:
        await until(lambda: 0.5 in clock.sleepers)
        clock.advance(0.5)
        await until(lambda: not spool.is_waiting)
    await spool.close()
    assert store.imported == ids_of(writes)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("moved", [1, 2])
async def test_an_import_that_somebody_else_has_done_meanwhile_is_not_done_again(
    tmp_path: Path, moved: int
) -> None:
    """The answer of a commit may be lost in such a way that the store seems to refuse the write."""

    class Deaf(FlakyStore):
        async def import_spool(self, spool_id: str, writes: Sequence[Spooled], **given: Any) -> bool:
            done = await super().import_spool(spool_id, writes, **given)
            if done and writes and self.asked <= moved:
                raise RuntimeError("the answer could not be read")
            return done

    spool, store, writes = await opened(tmp_path), Deaf(), some_writes(moved)
    await spool.append(writes)
    with capture_logs() as logs:
        await import_all(spool, store)
    await spool.close()
    assert store.imported == ids_of(writes)
    assert logs == []
    assert os.listdir(tmp_path) == []


async def test_closing_while_it_imports_leaves_no_file_behind(tmp_path: Path) -> None:
    spool, store = await opened(tmp_path), FlakyStore()
    await spool.append(writes := some_writes(2))
    closed = anyio.Event()

    def imported(_: Sequence[Spooled]) -> None:
        group.start_soon(close)

    async def close() -> None:
        await spool.close()
        closed.set()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(partial(spool.run, store, FakeClock(), imported=imported))
            await closed.wait()
            group.cancel_scope.cancel()
    assert store.imported == ids_of(writes)
    assert os.listdir(tmp_path) == []


async def test_every_store_takes_a_spool_in(tmp_path: Path, any_store: DeadLetterStore) -> None:
    spool = await opened(tmp_path / "spool")
    ordered = {"error": None, "fingerprint": "", "ordering_key": "order-7"}
    deliveries = [build_letter_in(DeadLetterState.ACCEPTED, **ordered) for _ in range(3)]
    failures = [build_letter() for _ in range(210)]
    await spool.append([Spooled("accept", letter) for letter in deliveries])
    await spool.append([Spooled("add", letter) for letter in failures])
    await any_store.open()
    async with importing(spool, any_store):
        await until(lambda: not spool.is_waiting)
    await spool.close()
    assert await kept_in(any_store) == {letter.id for letter in [*deliveries, *failures]}
    assert [(await any_store.get(letter.id)).waits for letter in deliveries] == [False, True, True]
    assert await any_store.get(failures[-1].id) == failures[-1]
    assert os.listdir(tmp_path / "spool") == []
    await any_store.close()
