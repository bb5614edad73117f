"""What a process that may be killed at any moment has said, line by line, in a file.

A line is written with one call and stays when the process dies: the kernel has it. Lines of several
processes in one file do not mix.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Line:
    """One thing that was said.

    Attributes:
        at: seconds of the machine's monotonic clock.
        pid: who said it.
        what: ``trying``, ``accepted``, ``started``, ``ended``, ``failed`` and the like.
        who: the handler, or the publisher.
        key: the order's key.
        number: the order's number within its key.
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
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def say(self, what: str, who: str, key: str = "-", number: int = 0) -> None:
        os.write(self._file, f"{time.monotonic()} {os.getpid()} {what} {who} {key} {number}\n".encode())

    def lines(self) -> Iterator[Line]:
        for text in self.path.read_text().splitlines():
            at, pid, what, who, key, number = text.split()
            yield Line(float(at), int(pid), what, who, key, int(number))

    def said(self, what: str, who: str | None = None) -> list[tuple[str, int]]:
        """Return keys and numbers of all lines about ``what``, in the order in which they were said."""
        return [
            (line.key, line.number)
            for line in self.lines()
            if line.what == what and (who is None or line.who == who)
        ]
