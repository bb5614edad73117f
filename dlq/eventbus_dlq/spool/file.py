"""One spool file, locked by the process that has it open: appended, read, cleared."""

from __future__ import annotations

import errno
import fcntl
import os
import weakref
from typing import TYPE_CHECKING

from eventbus.ids import new_id
from eventbus.log import Log
from eventbus_dlq.spool.records import Damage, framed, header, parts, spool_id_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from eventbus_dlq.spool.records import Record

SUFFIX = ".spool"
DAMAGED = ".damaged"
"""What a file ends in that was damaged, when all that is readable of it was imported."""

BATCH_RECORDS = 200
BATCH_BYTES = 4 * 1024 * 1024
"""How much is imported at a time: so many records, or so many bytes and what the last one has over."""

_CHUNK = 1024 * 1024
_LONGEST_HEADER = 128
_TRIES = 5

_log = Log()


class SpoolFile:
    """A file that this process holds locked until it is closed. Not to be used by two threads at a time.

    The exception is :meth:`read`, which another thread may call while one appends.

    Attributes:
        path: where it is.
        id: what the store knows it by.
        end: the offset behind the last whole record.
        is_own: whether it was made here, and not adopted.
        is_damaged: whether something in it was unreadable.
    """

    def __init__(self, path: Path, fd: int, spool_id: str, start: int, end: int, shift: int | None) -> None:
        self.path = path
        self.id = spool_id
        self.end = end
        self.is_own = shift is not None
        self.is_damaged = False
        self._fd = fd
        self._start = start
        self._shift = shift
        self._has_overhang = False
        self._reported: set[int] = set()
        _open_files.add(self)

    @classmethod
    def create(cls, folder: Path) -> SpoolFile:
        """Return a new, empty file in ``folder``.

        Raises:
            OSError: it cannot be made or locked.
        """
        for _ in range(_TRIES):  # somebody who looks for files of the dead may be faster to lock it
            spool_id = new_id()
            path = folder / f"{spool_id}{SUFFIX}"
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            try:
                if not (_lock(fd) and _is_at(fd, path)):
                    os.close(fd)
                    continue
                first = header(spool_id)
                write_whole(fd, first, 0)
                os.fsync(fd)
                sync_folder(folder)
            except OSError:
                os.close(fd)
                path.unlink(missing_ok=True)
                raise
            return cls(path, fd, spool_id, len(first), len(first), -len(first))
        raise OSError(errno.EBUSY, "every new file was locked by another process", str(folder))

    @classmethod
    def adopt(cls, path: Path) -> SpoolFile | None:
        """Return the file of a process that has died; None when it lives, or has left nothing.

        Raises:
            ValueError: it is no spool file that this release can read.
            OSError: it cannot be read.
        """
        try:
            fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        try:
            file = cls._adopted(path, fd)
        except (OSError, ValueError):
            os.close(fd)
            raise
        if file is None:
            os.close(fd)
        return file

    @classmethod
    def _adopted(cls, path: Path, fd: int) -> SpoolFile | None:
        if not (_lock(fd) and _is_at(fd, path)):
            return None
        size = os.fstat(fd).st_size
        first, line_break, _ = os.pread(fd, _LONGEST_HEADER, 0).partition(b"\n")
        if size < _LONGEST_HEADER and not line_break:  # it died while it made the file
            path.unlink(missing_ok=True)
            return None
        start = len(first) + 1
        spool_id = spool_id_of(first + line_break)
        if size == start:
            path.unlink(missing_ok=True)
            return None
        return cls(path, fd, spool_id, start, size, None)

    @property
    def position(self) -> int:
        """The position behind the last record of an own file."""
        assert self._shift is not None, "an adopted file is read, and nothing is appended to it"
        return self.end + self._shift

    @property
    def is_empty(self) -> bool:
        """Whether no record is in it."""
        return self.end == self._start

    @property
    def is_removed(self) -> bool:
        """Whether somebody has removed it from its folder: what is appended would be gone with us."""
        return os.fstat(self._fd).st_nlink == 0

    def append(self, bodies: Sequence[bytes]) -> None:
        """Keep records, on the disk when it returns: all of them or none.

        Raises:
            OSError: they could not be written; what was there stays readable.
        """
        if self.is_removed:
            raise OSError(errno.ENOENT, "the file was removed from its folder", str(self.path))
        lines: list[bytes] = []
        position = self.position
        for body in bodies:
            lines.append(framed(position, body))
            position += len(lines[-1])
        data = b"".join(lines)
        try:
            if self._has_overhang:
                self._cut_overhang()
            write_whole(self._fd, data, self.end)
            os.fsync(self._fd)
        except OSError:
            self._has_overhang = True
            self._try_to_cut_overhang()
            raise
        self.end += len(data)

    def _try_to_cut_overhang(self) -> None:
        try:
            self._cut_overhang()
        except OSError as error:  # the next append tries again before it writes
            _log.error("spool.not_truncated", file=str(self.path), byte=self.end, error=str(error))

    def _cut_overhang(self) -> None:
        os.ftruncate(self._fd, self.end)
        self._has_overhang = False

    def read(self, position: int) -> tuple[Sequence[Record], int]:
        """Return the batch of records from ``position`` on, and the position behind them.

        What is damaged before, between or, in our own file, behind records is reported and passed over.
        A torn tail of an adopted file is ignored: nobody was told that it was kept.

        Raises:
            OSError: it cannot be read.
        """
        batch: list[Record] = []
        behind = position
        taken = 0
        damaged: Damage | None = None
        for part in parts(_lines(self._fd, self._offset_of(position), self.end), shift=self._shift):
            if isinstance(part, Damage):
                damaged = part
                continue
            self._report(damaged)
            damaged = None
            self._shift = part.position - part.start
            if part.position < position:
                continue
            batch.append(part)
            behind = part.end + self._shift
            taken += part.end - part.start
            if len(batch) >= BATCH_RECORDS or taken >= BATCH_BYTES:
                return batch, behind
        if damaged is None:
            return batch, behind
        if self.is_own:
            self._report(damaged)
            return batch, damaged.end + (self._shift or 0)
        self._log_once(_log.warning, "spool.torn_tail", damaged)
        return batch, behind

    def _report(self, damaged: Damage | None) -> None:
        if damaged is not None:
            self.is_damaged = True
            self._log_once(_log.error, "spool.damaged", damaged)

    def _log_once(self, log: Callable[..., object], event: str, damage: Damage) -> None:
        if damage.start not in self._reported:
            self._reported.add(damage.start)
            log(event, file=str(self.path), byte=damage.start, length=damage.end - damage.start)

    def _offset_of(self, position: int) -> int:
        return self._start if self._shift is None else max(self._start, position - self._shift)

    def clear(self) -> None:
        """Remove every record; the positions of later ones go on from here.

        Raises:
            OSError: it cannot be truncated; everything stays as it is.
        """
        os.ftruncate(self._fd, self._start)
        self._shift = self.position - self._start
        self.end = self._start
        self._has_overhang = False

    def retire(self) -> None:
        """Remove the file, whose records are all imported, and close it; a damaged one is kept aside."""
        try:
            if not self.is_damaged:
                self.path.unlink(missing_ok=True)
            elif not self.is_removed:
                self.path.rename(self.path.with_suffix(DAMAGED))
        except OSError as error:  # it is looked at again later, and nothing of it imported twice
            _log.error("spool.not_removed", file=str(self.path), error=str(error))
        self.close()

    def close(self) -> None:
        """Release the lock; what is in the file stays there. Closing twice is harmless."""
        fd, self._fd = self._fd, -1
        if fd != -1:
            os.close(fd)


_open_files: weakref.WeakSet[SpoolFile] = weakref.WeakSet()


def _close_after_fork() -> None:
    """Let go of what a forked child got with it: it would hold the locks when its parent has died."""
    for file in list(_open_files):
        file.close()


os.register_at_fork(after_in_child=_close_after_fork)


def write_whole(fd: int, data: bytes, offset: int) -> None:
    """Write all of ``data`` at ``offset``.

    Raises:
        OSError: a part of it, or nothing, was written.
    """
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        offset += written
        view = view[written:]


def sync_folder(folder: Path) -> None:
    """Have the disk know the names in a folder."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(fd: int, path: Path) -> bool:
    """Tell whether the file that was locked still has its name: its owner may have removed it before."""
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(there, os.fstat(fd))


def _lines(fd: int, offset: int, end: int) -> Iterator[tuple[int, bytes]]:
    rest = b""
    read = offset
    while read < end:
        chunk = os.pread(fd, min(_CHUNK, end - read), read)
        if not chunk:
            break
        read += len(chunk)
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield offset, line + b"\n"
            offset += len(line) + 1
    if rest:
        yield offset, rest
