"""Ids: UUIDv7, in order, and never the same twice, forked processes included."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import RFC_4122, UUID

from eventbus import EventBus
from eventbus.ids import format_id, new_id


def test_an_id_is_a_uuid_of_version_7_and_says_when_it_was_made() -> None:
    before = time.time_ns() // 1_000_000
    text = new_id()
    after = time.time_ns() // 1_000_000
    parsed = UUID(text)
    assert str(parsed) == text
    assert (parsed.version, parsed.variant) == (7, RFC_4122)
    assert before <= parsed.int >> 80 <= after


def test_ids_of_one_moment_are_in_the_order_of_being_made() -> None:
    ids = [new_id() for _ in range(10_000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)


def test_every_bit_of_the_number_is_in_the_text() -> None:
    for bit in (0, 1, 61, 62, 63, 72, 73):
        assert format_id(0, 1 << bit) != format_id(0, 0)
    assert UUID(format_id(2**63, (1 << 74) - 1)).version == 7


def test_threads_never_make_the_same_id() -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = [it for made in pool.map(lambda _: [new_id() for _ in range(1000)], range(8)) for it in made]
    assert len(set(ids)) == 8000


def test_a_forked_process_makes_ids_of_its_own() -> None:
    script = (
        "import os, sys\n"
        "from eventbus.ids import format_id, new_id\n"
        "new_id()\n"
        "sys.stdout.flush()\n"
        "child = os.fork()\n"
        "os.write(1, new_id()[14:].encode() + b' ')\n"
        "if child: os.waitpid(child, 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    first, second = done.stdout.split()
    assert first[10:] != second[10:]
    assert abs(int(first.replace("-", ""), 16) - int(second.replace("-", ""), 16)) > 1_000_000


async def test_an_events_id_sorts_by_the_time_of_publishing() -> None:
    bus = EventBus()
    async with bus:
        ids = [(await bus.publish("job", number)).event_id for number in range(100)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 100
