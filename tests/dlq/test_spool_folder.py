"""The folder of the spool: made for its owner, or a clear error; others' files are left alone."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import Any, NoReturn

import pytest
from structlog.testing import capture_logs
from tests.dlq.spooling import FlakyStore, importing, leave_behind, some_writes, spool_files, until

from eventbus import EventBus
from eventbus_dlq import DeadLetterQueue, MemoryStore, SpoolUnavailable
from eventbus_dlq.spool import Spool


def refusing(number: int) -> Any:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return refuse


async def test_a_missing_folder_is_made_for_its_owner_only(tmp_path: Path) -> None:
    spool = Spool(str(tmp_path / "spool"))
    await spool.open()
    assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) == 0o700
    (name,) = spool_files(tmp_path / "spool")
    assert stat.S_IMODE((tmp_path / "spool" / name).stat().st_mode) == 0o600
    await spool.close()


async def test_a_folder_whose_parent_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpoolUnavailable, match=r"/a does not exist; make that first"):
        await Spool(tmp_path / "a" / "spool").open()
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("below", ["", "below"])
async def test_a_file_is_no_folder(tmp_path: Path, below: str) -> None:
    (tmp_path / "spool").write_text("not yours")
    with pytest.raises(SpoolUnavailable, match="something that is no folder; give spool= another one"):
        await Spool(tmp_path / "spool" / below).open()
    assert (tmp_path / "spool").read_text() == "not yours"


async def test_a_folder_that_may_not_be_made_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "mkdir", refusing(errno.EACCES))
    with pytest.raises(SpoolUnavailable, match="cannot be made: Permission denied; give spool= a folder"):
        await Spool(tmp_path / "spool").open()


async def test_a_folder_that_is_not_writable_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "open", refusing(errno.EACCES))
    with pytest.raises(SpoolUnavailable, match="Permission denied; give spool= a folder on a disk of this"):
        await Spool(tmp_path).open()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no folder here that refuses even root")
async def test_a_folder_that_cannot_be_made_where_it_is_to_be_is_refused_and_its_parent_not_denied() -> None:
    with pytest.raises(
        SpoolUnavailable, match="nothing can be made in /proc; give spool= a folder on a disk"
    ):
        await Spool("/proc/spool").open()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no folder here that refuses even root")
async def test_a_folder_that_takes_no_files_is_refused() -> None:
    with pytest.raises(SpoolUnavailable, match="no file can be made and locked in the spool's folder /proc"):
        await Spool("/proc").open()


async def test_a_disk_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", refusing(errno.ENOLCK))
    with pytest.raises(SpoolUnavailable, match="No locks available; give spool= a folder on a disk of this"):
        await Spool(tmp_path).open()
    assert os.listdir(tmp_path) == []


async def test_a_refused_spool_can_be_opened_when_the_folder_is_right(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "a" / "spool")
    with pytest.raises(SpoolUnavailable):
        await spool.open()
    (tmp_path / "a").mkdir()
    await spool.open()
    await spool.append(some_writes(1))
    await spool.close()


async def test_a_bus_whose_spool_cannot_be_used_starts_when_it_is_put_right(tmp_path: Path) -> None:
    bus = EventBus(dlq=DeadLetterQueue(MemoryStore(), spool=tmp_path / "a" / "spool"))
    with pytest.raises(SpoolUnavailable, match="make that first, or give spool= another folder"):
        await bus.start()
    assert not bus.running
    (tmp_path / "a").mkdir()
    async with bus:
        assert (await bus.stats()).total == 0


async def test_two_live_spools_share_a_folder_and_leave_each_other_alone(tmp_path: Path) -> None:
    one, other, store = Spool(tmp_path), Spool(tmp_path), FlakyStore()
    await one.open()
    await one.append(some_writes(2))
    await other.open()
    assert not other.is_waiting, "the file of a living process was adopted"
    async with importing(other, store) as clock:
        await clock.wait_for_sleepers()
        clock.advance(31)
        await clock.wait_for_sleepers()
    assert store.imported == []
    assert one.is_waiting
    await other.close()
    await one.close()


async def test_a_file_that_cannot_be_read_is_reported_once_and_stops_nobody(tmp_path: Path) -> None:
    newer = tmp_path / "0-newer.spool"
    newer.write_bytes(b"eventbus-spool 9 some-id\n{}\n")
    leave_behind(tmp_path, writes := some_writes(2))
    spool, store = Spool(tmp_path), FlakyStore()
    with capture_logs() as logs:
        await spool.open()
        async with importing(spool, store) as clock:
            await until(lambda: not spool.is_waiting)
            await clock.wait_for_sleepers()
            clock.advance(31)
            await clock.wait_for_sleepers()
        await spool.close()
    assert store.imported == [write.letter.id for write in writes]
    assert newer.exists()
    (line,) = [it for it in logs if it["event"] == "spool.unreadable"]
    assert "of version 9" in line["error"]
    assert line["file"] == str(newer)


async def test_what_was_left_for_a_person_is_told_at_every_start(tmp_path: Path) -> None:
    (tmp_path / "a.refused").write_text("{}\n")
    (tmp_path / "b.damaged").write_text("?")
    spool = Spool(tmp_path)
    with capture_logs() as logs:
        await spool.open()
    (line,) = [it for it in logs if it["event"] == "spool.not_imported"]
    assert line["files"] == ["a.refused", "b.damaged"]
    assert line["log_level"] == "error"
    await spool.close()
