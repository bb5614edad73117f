"""Lines of bytes out of a stream of any length, in bounded memory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

import anyio
from anyio import to_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_LINE = 8 * 1024 * 1024
"""The longest line that is kept, in bytes; what is longer is told and passed over."""
_CHUNK = 256 * 1024
_BOM = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """A line that is not blank: its number, counting from 1, and its bytes; None when it was too long."""

    number: int
    content: bytes | None


class LineSplitter:
    """Cuts chunks of bytes into lines. Blank ones are counted and left out, and so is a byte order mark."""

    def __init__(self, *, max_line: int = MAX_LINE) -> None:
        self._max_line = max_line
        self._parts: list[bytes] = []
        self._length = 0
        self._number = 0

    def feed(self, chunk: bytes) -> Iterator[Line]:
        """Give the lines that ``chunk`` completes."""
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            self._keep(end)
            yield from self.finish()
        self._keep(rest)

    def finish(self) -> Iterator[Line]:
        """Give the line that is open now, if it is one: the last line may have no end."""
        self._number += 1
        if self._length > self._max_line:
            yield Line(self._number, None)
        else:
            content = b"".join(self._parts)
            if self._number == 1:
                content = content.removeprefix(_BOM)
            if content.strip():
                yield Line(self._number, content)
        self._parts.clear()
        self._length = 0

    def _keep(self, part: bytes) -> None:
        if not part:
            return
        self._length += len(part)
        if self._length > self._max_line:
            self._parts.clear()
        else:
            self._parts.append(part)


class Source:
    """Chunks of bytes of an open file, pipe or terminal, by its file descriptor.

    Waiting for a pipe or a terminal can be cancelled at any time. A thread that reads one could not be.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._can_wait = True

    async def chunk(self) -> bytes:
        """Return what is there, at least one byte; none at the end.

        Raises:
            OSError: it cannot be read.
        """
        if self._can_wait:
            try:
                await anyio.wait_readable(self._descriptor)
            except PermissionError:  # a regular file or /dev/null: always ready, and not to be waited for
                self._can_wait = False
            else:
                return os.read(self._descriptor, _CHUNK)
        return await to_thread.run_sync(os.read, self._descriptor, _CHUNK)
