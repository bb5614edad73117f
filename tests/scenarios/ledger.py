"""What a process that may be killed at any moment has said, line by line, in a file.

A line is written with one call and stays when the process dies: the kernel has it. Lines of several
processes in one file do not mix.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was said.

    Attributes:
        at: seconds of the machine's monotonic clock.
        pid: who said it.
        what: ``trying``, ``accepted``, ``started``, ``ended``, ``failed``, ``granted`` and the like.
        who: the handler, the publisher, or the store.
        key: the order's key, or the id of a delivery.
        number: the order's number within its key, or the token of a delivery's lease.
    """

    at: float
    pid: int
    what: str
    who: str
    key: str
    number: int


class Ledger:
    """A file of lines, written by any number of processes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self._lines: list[Line] = []
        self._read = 0

    def say(self, what: str, who: str, key: str = "-", number: int = 0) -> None:
        os.write(self._file, f"{time.monotonic()} {os.getpid()} {what} {who} {key} {number}\n".encode())

    def lines(self) -> Sequence[Line]:
        """Return everything that was said up to now, in order."""
        size = os.fstat(self._file).st_size
        news = os.pread(self._file, size - self._read, self._read)
        news = news[: news.rfind(b"\n") + 1]  # one that is being written may be there in part
        self._read += len(news)
        for text in news.decode().splitlines():
            at, pid, what, who, key, number = text.split()
            self._lines.append(Line(float(at), int(pid), what, who, key, int(number)))
        return tuple(self._lines)

    def said(self, what: str, who: str | None = None) -> list[tuple[str, int]]:
        """Return keys and numbers of all lines about ``what``, in the order in which they were said."""
        return [
            (line.key, line.number)
            for line in self.lines()
            if line.what == what and (who is None or line.who == who)
        ]
