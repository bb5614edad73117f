"""A spool file: whole records only, whatever the disk, the kernel or a person did to it."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from letters import build_letter
from structlog.testing import capture_logs
from tests.dlq.spooling import unmeasured

from eventbus_dlq import Spooled
from eventbus_dlq.spool import file as spool_file
from eventbus_dlq.spool.file import BATCH_RECORDS, SpoolFile
from eventbus_dlq.spool.records import Damage, decoded, encoded, framed, header, parts, spool_id_of, unframed

BODIES = [b'{"n":1}', b'{"n":22,"text":"a\\nb"}', b'{"n":333}']


@pytest.fixture
def own(tmp_path: Path) -> SpoolFile:
    return SpoolFile.create(tmp_path)


def abandoned(file: SpoolFile, data: bytes | None = None) -> Path:
    """Return the path of ``file`` as its process would leave it by dying, perhaps with other bytes."""
    path = file.path
    content = path.read_bytes() if data is None else data
    file.close()
    path.write_bytes(content)
    return path


def adopted(path: Path) -> SpoolFile:
    file = SpoolFile.adopt(path)
    assert file is not None
    return file


def bodies_of(file: SpoolFile) -> list[bytes]:
    bodies: list[bytes] = []
    position = 0
    while True:
        records, end = file.read(position)
        if end == position:
            return bodies
        bodies += [record.body for record in records]
        position = end


@given(st.integers(0, 2**64 - 1), st.binary(max_size=200).filter(lambda body: b"\n" not in body))
def test_a_record_comes_back_from_its_line(position: int, body: bytes) -> None:
    assert unframed(framed(position, body)) == (position, body)


@given(st.data())
def test_a_line_with_any_byte_changed_is_no_record(data: st.DataObject) -> None:
    line = bytearray(framed(4096, b'{"verb":"add"}'))
    at = data.draw(st.integers(0, len(line) - 1))
    line[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != line[at]))
    assert unframed(bytes(line)) is None


def test_a_write_comes_back_from_its_json() -> None:
    for verb in ("add", "accept"):
        write = Spooled(verb, build_letter())
        assert decoded(encoded(write)) == write


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b'{"verb":"delete","letter":{}}', b'{"verb":"add"}', b"[" * 100_000]
)
def test_json_that_is_no_write_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        decoded(body)


def test_a_header_says_what_it_heads() -> None:
    assert spool_id_of(header("some-id")) == "some-id"
    with pytest.raises(ValueError, match="no spool file"):
        spool_id_of(b"#!/bin/sh\n")
    with pytest.raises(ValueError, match=r"of version 2.*open the folder with the release that wrote it"):
        spool_id_of(b"eventbus-spool 2 some-id\n")


def test_records_at_another_place_than_their_position_says_are_damage() -> None:
    first, stale = framed(0, b"{}"), framed(7, b"{}")
    found = list(parts([(50, first), (50 + len(first), stale)], shift=-50))
    assert found[1] == Damage(50 + len(first), 50 + len(first) + len(stale))


def test_records_come_back_in_order_with_positions_that_follow_each_other(own: SpoolFile) -> None:
    own.append(BODIES[:1])
    own.append(BODIES[1:])
    records, end = own.read(0)
    assert [record.body for record in records] == BODIES
    assert records[0].position == 0
    for one, other in pairwise(records):
        assert other.position - one.position == one.end - one.start == other.start - one.start
    assert end == own.position
    assert own.read(end) == ([], end)
    assert own.read(records[2].position)[0] == records[2:]


def test_a_file_is_for_its_owner_only(own: SpoolFile) -> None:
    assert stat.S_IMODE(own.path.stat().st_mode) == 0o600


def test_positions_go_on_when_a_file_was_cleared(own: SpoolFile) -> None:
    own.append(BODIES)
    imported = own.position
    own.clear()
    assert own.is_empty
    assert own.position == imported
    assert own.read(imported) == ([], imported)
    own.append(BODIES[:1])
    records, end = own.read(imported)
    assert [(record.position, record.body) for record in records] == [(imported, BODIES[0])]
    path = abandoned(own)
    inherited = adopted(path)
    assert inherited.read(imported) == (records, end)


def test_batches_are_bounded_by_records_and_by_bytes(own: SpoolFile, monkeypatch: pytest.MonkeyPatch) -> None:
    own.append([b"{}"] * (BATCH_RECORDS + 1))
    records, end = own.read(0)
    assert len(records) == BATCH_RECORDS
    assert len(own.read(end)[0]) == 1
    monkeypatch.setattr(spool_file, "BATCH_BYTES", 1)
    assert len(own.read(0)[0]) == 1


def test_a_line_longer_than_what_is_read_at_once_is_whole(
    own: SpoolFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_file, "_CHUNK", 7)
    own.append(BODIES)
    assert bodies_of(own) == BODIES


def test_a_tail_torn_at_any_byte_is_ignored(tmp_path: Path, own: SpoolFile) -> None:
    own.append(BODIES[:2])
    whole = own.end
    own.append(BODIES[2:])
    data = own.path.read_bytes()
    path = abandoned(own)
    for size in range(whole, len(data)):
        path.write_bytes(data[:size])
        torn = adopted(path)
        with capture_logs() as logs:
            assert bodies_of(torn) == BODIES[:2]
        assert not torn.is_damaged
        assert [(it["event"], it["byte"], it["length"]) for it in logs] == (
            [("spool.torn_tail", whole, size - whole)] if size > whole else []
        )
        torn.close()
    path.write_bytes(data)
    assert bodies_of(adopted(path)) == BODIES


def test_a_last_record_with_a_wrong_crc_is_a_torn_tail(own: SpoolFile) -> None:
    own.append(BODIES)
    data = bytearray(own.path.read_bytes())
    data[-3] ^= 1
    torn = adopted(abandoned(own, bytes(data)))
    assert bodies_of(torn) == BODIES[:2]
    assert not torn.is_damaged


@pytest.mark.parametrize("damaged", [0, 1])
def test_any_damaged_byte_in_the_middle_is_reported_and_passed_over(own: SpoolFile, damaged: int) -> None:
    own.append(BODIES)
    record = own.read(0)[0][damaged]
    whole = own.path.read_bytes()
    path = abandoned(own)
    others = [body for number, body in enumerate(BODIES) if number != damaged]
    for at in range(record.start, record.end - 1):
        for new in (whole[at] ^ 1, ord("\n"), 0):
            if new == whole[at]:
                continue
            data = bytearray(whole)
            data[at] = new
            path.write_bytes(data)
            file = adopted(path)
            with capture_logs() as logs:
                assert bodies_of(file) == others
            assert file.is_damaged
            assert [(it["event"], it["log_level"], it["byte"], it["length"]) for it in logs] == [
                ("spool.damaged", "error", record.start, record.end - record.start)
            ]
            file.close()


def test_two_records_run_together_by_a_lost_line_break_do_not_take_a_third_with_them(own: SpoolFile) -> None:
    own.append(BODIES)
    record = own.read(0)[0][0]
    data = bytearray(own.path.read_bytes())
    data[record.end - 1] = ord(" ")
    file = adopted(abandoned(own, bytes(data)))
    assert bodies_of(file) == BODIES[2:]
    assert file.is_damaged


def test_in_a_file_of_our_own_a_damaged_last_record_is_no_torn_tail(own: SpoolFile) -> None:
    own.append(BODIES)
    with own.path.open("r+b") as raw:
        raw.seek(own.end - 3)
        raw.write(b"?")
    with capture_logs() as logs:
        records, end = own.read(0)
    assert [record.body for record in records] == BODIES[:2]
    assert end == own.position
    assert own.is_damaged
    assert logs[0]["event"] == "spool.damaged"


def test_a_damaged_file_is_kept_aside_and_a_whole_one_removed(tmp_path: Path, own: SpoolFile) -> None:
    own.append(BODIES)
    whole = SpoolFile.create(tmp_path)
    whole.append(BODIES)
    own.is_damaged = True
    own.retire()
    whole.retire()
    assert os.listdir(tmp_path) == [own.path.with_suffix(".damaged").name]


def test_a_file_that_cannot_be_removed_is_reported(own: SpoolFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "unlink", refuse)
    with capture_logs() as logs:
        own.retire()
    assert [it["event"] for it in logs] == ["spool.not_removed"]


def half_a_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the disk take half of what is written to it, and then no more."""
    real, calls = os.pwrite, iter(range(1_000_000))

    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        if next(calls) % 2:
            raise OSError(28, "No space left on device")
        return real(fd, data[: max(1, len(data) // 2)], offset)

    monkeypatch.setattr(os, "pwrite", pwrite)


def test_what_was_written_in_part_is_cut_off_again(own: SpoolFile, monkeypatch: pytest.MonkeyPatch) -> None:
    own.append(BODIES[:1])
    size = own.path.stat().st_size
    with monkeypatch.context() as full_disk:
        half_a_write(full_disk)
        with pytest.raises(OSError, match="No space left"):
            own.append(BODIES[1:])
    assert own.path.stat().st_size == size == own.end
    own.append(BODIES[2:])
    assert bodies_of(own) == [BODIES[0], BODIES[2]]


def test_a_cut_that_fails_is_made_before_the_next_write(
    own: SpoolFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(5, "Input/output error")

    own.append(BODIES[:1])
    with monkeypatch.context() as broken_disk:
        half_a_write(broken_disk)
        broken_disk.setattr(os, "ftruncate", broken)
        with capture_logs() as logs, pytest.raises(OSError, match="No space left"):
            own.append([b'{"long":"' + b"x" * 5000 + b'"}'])
        assert [it["event"] for it in logs] == ["spool.not_truncated"]
        with pytest.raises(OSError, match="Input/output error"):
            own.append(BODIES[1:2])
    assert own.path.stat().st_size > own.end
    own.append(BODIES[1:])
    assert own.path.stat().st_size == own.end
    assert bodies_of(own) == BODIES


def test_an_fsync_that_fails_keeps_nothing(own: SpoolFile, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken_disk:
        broken_disk.setattr(os, "fsync", broken)
        with pytest.raises(OSError, match="Input/output error"):
            own.append(BODIES)
    assert own.is_empty
    assert own.path.stat().st_size == own.end


def test_nothing_is_kept_in_a_file_that_was_removed(own: SpoolFile) -> None:
    own.path.unlink()
    with pytest.raises(OSError, match="removed from its folder"):
        own.append(BODIES)


def test_a_file_that_cannot_be_begun_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as full_disk:
        half_a_write(full_disk)
        with pytest.raises(OSError, match="No space left"):
            SpoolFile.create(tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_full_disk_of_a_real_process_keeps_what_was_whole(tmp_path: Path) -> None:
    """The kernel refuses what would make the file longer than a limit."""
    code = """
import resource, sys
from pathlib import Path
from eventbus_dlq.spool.file import SpoolFile
file = SpoolFile.create(Path(sys.argv[1]))
file.append([b'{"n":1}'])
resource.setrlimit(resource.RLIMIT_FSIZE, (file.end + 60, resource.RLIM_INFINITY))
try:
    file.append([b'{"n":2}', b'{"n":3}'])
except OSError as error:
    print(error.errno)
file.append([b'{"n":4}'])
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
        env=unmeasured(),
    )
    assert done.stdout == "27\n"
    (path,) = tmp_path.iterdir()
    assert bodies_of(adopted(path)) == [b'{"n":1}', b'{"n":4}']


def test_a_file_whose_process_lives_is_not_adopted(own: SpoolFile) -> None:
    own.append(BODIES)
    assert SpoolFile.adopt(own.path) is None
    own.close()
    first = adopted(own.path)
    assert SpoolFile.adopt(own.path) is None, "two adopt one file"
    assert bodies_of(first) == BODIES


def test_a_forked_child_does_not_keep_its_parents_file_locked(own: SpoolFile) -> None:
    own.append(BODIES)
    end_read, end_write = os.pipe()
    begun_read, begun_write = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover  # lives until the parent closes its end of the pipe
        os.close(end_write)
        os.write(begun_write, b"!")
        os.read(end_read, 1)
        os._exit(0)
    try:
        os.read(begun_read, 1)
        assert SpoolFile.adopt(own.path) is None, "the child has released the parent's lock"
        own.close()
        assert SpoolFile.adopt(own.path) is not None, "the child holds the lock of its dead parent"
    finally:
        for fd in (end_write, end_read, begun_read, begun_write):
            os.close(fd)
        os.waitpid(child, 0)


@pytest.mark.parametrize("data", [b"", b"eventbus-spool 1 0190"])
def test_what_a_process_left_that_died_at_once_is_removed(own: SpoolFile, data: bytes) -> None:
    path = abandoned(own, data)
    assert SpoolFile.adopt(path) is None
    assert not path.exists()


def test_a_file_without_records_is_removed(own: SpoolFile) -> None:
    path = abandoned(own)
    assert SpoolFile.adopt(path) is None
    assert not path.exists()


def test_a_file_that_is_gone_is_not_adopted(tmp_path: Path) -> None:
    assert SpoolFile.adopt(tmp_path / "gone.spool") is None


def test_a_file_that_was_removed_between_open_and_lock_is_not_adopted(
    own: SpoolFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.append(BODIES)
    path = abandoned(own)
    real = spool_file._lock

    def slow_lock(fd: int) -> bool:
        path.unlink()
        return real(fd)

    monkeypatch.setattr(spool_file, "_lock", slow_lock)
    assert SpoolFile.adopt(path) is None


def test_a_new_file_that_a_faster_one_locks_is_given_up_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([False, True])
    real = spool_file._lock
    monkeypatch.setattr(spool_file, "_lock", lambda fd: next(answers) and real(fd))
    SpoolFile.create(tmp_path).append(BODIES)
    monkeypatch.setattr(spool_file, "_lock", lambda _: False)
    with pytest.raises(OSError, match="locked by another process"):
        SpoolFile.create(tmp_path)


@pytest.mark.parametrize("data", [b"x" * 500, b"#!/bin/sh\nexit 0\n", b"eventbus-spool 9 some-id\n{}\n"])
def test_what_is_no_spool_file_of_ours_stays_as_it_is(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "other.spool"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="spool file"):
        SpoolFile.adopt(path)
    assert path.read_bytes() == data


def test_a_copy_of_a_file_has_its_records_too(tmp_path: Path, own: SpoolFile) -> None:
    own.append(BODIES)
    copy = tmp_path / "copy.spool"
    shutil.copy(own.path, copy)
    assert adopted(copy).id == own.id


def test_a_damaged_file_that_was_removed_cannot_be_kept_aside(tmp_path: Path, own: SpoolFile) -> None:
    own.append(BODIES)
    own.is_damaged = True
    own.path.unlink()
    own.retire()
    own.close()
    assert os.listdir(tmp_path) == []


def test_a_file_that_was_cut_behind_our_back_ends_where_it_ends(own: SpoolFile) -> None:
    own.append(BODIES)
    record = own.read(0)[0][1]
    os.truncate(own.path, record.end)
    assert bodies_of(own) == BODIES[:2]
