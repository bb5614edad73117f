"""What stands in a spool file, byte for byte.

The first line is ``eventbus-spool 1 <id>``. Each line after it is one record: position, length and CRC-32
in hexadecimal digits, and the JSON of a write, which holds no line break itself:

    0000000000000000 000004d2 8f1c2b3a {"verb":"add","letter":{...}}

A record's position counts bytes behind the header. It goes on rising when a file is cleared, so that it
tells the store which records it has. Whatever is no whole line of that form is damaged, and the next line
break is where reading goes on.
"""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

from eventbus_dlq.letter_json import letter_from_members, letter_to_json
from eventbus_dlq.store import Spooled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

VERSION = 1
"""The version of the format."""

_NAME = "eventbus-spool"
_OVERHEAD = 16 + 1 + 8 + 1 + 8 + 1 + 1  # the three numbers, a blank behind each, and the line break


class Record(NamedTuple):
    """A whole record of a file.

    Attributes:
        start: the offset in the file at which its line begins.
        end: the offset behind its line.
        position: what the store counts by.
        body: the JSON.
    """

    start: int
    end: int
    position: int
    body: bytes


class Damage(NamedTuple):
    """A part of a file that is no record.

    Attributes:
        start: the offset in the file at which it begins.
        end: the offset behind it.
    """

    start: int
    end: int


def header(spool_id: str) -> bytes:
    """Return the first line of a file."""
    return f"{_NAME} {VERSION} {spool_id}\n".encode()


def spool_id_of(line: bytes) -> str:
    """Return the id in the first line of a file.

    Raises:
        ValueError: it is not the first line of a spool file of this version.
    """
    words = line.decode("ascii", "replace").split()
    if len(words) != 3 or words[0] != _NAME or not line.endswith(b"\n"):
        raise ValueError(f"it begins with {line[:60]!r} and is no spool file")
    if words[1] != str(VERSION):
        raise ValueError(
            f"it is a spool file of version {words[1]}, and this is version {VERSION} of the format; "
            "open the folder with the release that wrote it"
        )
    return words[2]


def framed(position: int, body: bytes) -> bytes:
    """Return the line of one record."""
    checked = b"%016x %08x " % (position, len(body))  # the CRC covers these too
    return b"%s%08x %s\n" % (checked, zlib.crc32(body, zlib.crc32(checked)), body)


def unframed(line: bytes) -> tuple[int, bytes] | None:
    """Return position and body of a whole, undamaged line; None for any other."""
    body = line[_OVERHEAD - 1 : -1]
    try:
        position = int(line[:16], 16)
    except ValueError:
        return None
    if not 0 <= position < 1 << 64 or framed(position, body) != line:
        return None
    return position, body


def parts(lines: Iterable[tuple[int, bytes]], *, shift: int | None) -> Iterator[Record | Damage]:
    """Yield what stands in ``lines``, which come with their offsets in the file.

    Neighbouring lines that are damaged are one part. A record counts only where its position is its
    offset plus ``shift``; without a shift the first record tells it.
    """
    damaged: Damage | None = None
    for offset, line in lines:
        end = offset + len(line)
        record = unframed(line)
        if record is None or shift not in (None, record[0] - offset):
            damaged = Damage(offset if damaged is None else damaged.start, end)
            continue
        if damaged is not None:
            yield damaged
            damaged = None
        shift = record[0] - offset
        yield Record(offset, end, *record)
    if damaged is not None:
        yield damaged


def encoded(write: Spooled) -> bytes:
    """Return the JSON of a write, on one line.

    Raises:
        ValueError: the letter has no JSON form.
    """
    return b'{"verb":"%s","letter":%s}' % (write.verb.encode(), letter_to_json(write.letter))


def decoded(body: bytes) -> Spooled:
    """Return the write of some JSON.

    Raises:
        ValueError: it is none that this release can read; the message names what is wrong.
    """
    try:
        members: Any = json.loads(body)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    match members:
        case {"verb": "add" | "accept" as verb, "letter": letter}:
            return Spooled(verb, letter_from_members(letter))
        case _:
            raise ValueError("it is no object with a 'verb', 'add' or 'accept', and a 'letter'")
