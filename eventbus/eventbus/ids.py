"""UUIDv7 identifiers (RFC 9562): sortable by time, made from a clock reading and a counter.

Formatting costs more than everything else about an id, so the hot path keeps the two integers
and :func:`format_id` makes the text when somebody looks.
"""

from __future__ import annotations

import itertools
import os
import time
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_SEED_BITS = 73  # of 74 free bits: counting upwards from the seed never wraps
_NANOSECONDS_PER_MILLISECOND = 1_000_000


class Sequence:
    """A counter that starts at a random number in every process, forked ones included.

    Attributes:
        next: returns the next number.
    """

    def __init__(self) -> None:
        self.next: Callable[[], int]
        self.reseed()

    def reseed(self) -> None:
        """Start at a new random number, so that a forked child never repeats its parent's ids."""
        seed = int.from_bytes(os.urandom(10), "big") & ((1 << _SEED_BITS) - 1)
        self.next = itertools.count(seed).__next__


sequence = Sequence()
"""This process's counter; ``sequence.next()`` is the part of an id that makes it unique."""

os.register_at_fork(after_in_child=sequence.reseed)


def format_id(time_ns: int, number: int) -> str:
    """Return the UUIDv7 text of a moment (nanoseconds since the epoch) and a number of the sequence."""
    milliseconds = time_ns // _NANOSECONDS_PER_MILLISECOND
    return f"{_start(milliseconds)}{_middle(number >> 48)}{number & 0xFFFF_FFFF_FFFF:012x}"


@lru_cache(maxsize=16)
def _start(milliseconds: int) -> str:
    """Return the first and second group, which the ids of one millisecond share."""
    milliseconds &= 0xFFFF_FFFF_FFFF
    return f"{milliseconds >> 16:08x}-{milliseconds & 0xFFFF:04x}-"


@lru_cache(maxsize=16)
def _middle(upper: int) -> str:
    """Return the third and fourth group for the upper bits of a number, which hardly ever change."""
    return f"{0x7000 | (upper >> 14) & 0xFFF:04x}-{0x8000 | upper & 0x3FFF:04x}-"


def new_id() -> str:
    """Return a new UUIDv7 as text, later in order than every id this process made before."""
    return format_id(time.time_ns(), sequence.next())
