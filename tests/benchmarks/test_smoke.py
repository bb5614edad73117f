"""Both sides of every benchmark do what they are timed for, on a few operations."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest
from benchmarks import (
    capture_many,
    capture_one,
    classified_publish,
    import_time,
    many_subscriptions,
    memory,
    one_handler_abxbus,
    one_handler_blinker,
    one_handler_bubus,
    one_handler_open_event,
    one_handler_pyee,
    pause_check,
    queue_drain,
    ten_handlers,
    ten_handlers_serial,
    ten_handlers_trio,
)
from benchmarks.failing import ChargeError, databases
from benchmarks.harness import Backend, Effort, Handler, Sides

IN_MEMORY: list[tuple[ModuleType, str | None, int, Backend]] = [
    (one_handler_blinker, "blinker", 1, "asyncio"),
    (one_handler_open_event, "blinker", 1, "asyncio"),
    (one_handler_pyee, "pyee", 1, "asyncio"),
    (one_handler_bubus, "bubus", 1, "asyncio"),
    (one_handler_abxbus, "abxbus", 1, "asyncio"),
    (ten_handlers, None, 10, "asyncio"),
    (ten_handlers_serial, "blinker", 10, "asyncio"),
    (ten_handlers_serial, "blinker", 10, "trio"),
    (ten_handlers_trio, None, 10, "trio"),
    (queue_drain, None, 1, "asyncio"),
    (many_subscriptions, None, 1, "asyncio"),
    (pause_check, None, 1, "asyncio"),
    (classified_publish, None, 1, "asyncio"),
]
"""Benchmarks with the rival they need installed, their handlers per event, and their event loop."""

AT_HAND = [case for case in IN_MEMORY if case[1] is None or find_spec(case[1])]

OPERATIONS = 3


class Counting:
    """Handlers that count their calls, and fail if told to."""

    def __init__(self, error: Exception | None = None) -> None:
        self.calls = 0
        self._error = error

    def __call__(self) -> Handler:
        async def handle(event: object) -> None:
            self.calls += 1
            if self._error is not None:
                raise self._error

        return handle


async def run(sides: Sides, counting: Counting) -> tuple[int, int]:
    """Return how often the handlers were called by the end of ours, and by the rival after it."""
    for side in sides:
        side.prepare(OPERATIONS)
    await sides.ours.run(OPERATIONS)
    ours = counting.calls
    await sides.rival.run(OPERATIONS)
    return ours, counting.calls - ours


@pytest.mark.parametrize(
    ("module", "rival", "handlers", "backend"),
    AT_HAND,
    ids=[f"{module.__name__.removeprefix('benchmarks.')}-{backend}" for module, _, _, backend in AT_HAND],
)
def test_both_sides_call_every_handler_once_for_each_event(
    module: Any, rival: str | None, handlers: int, backend: Backend
):
    async def both() -> tuple[int, int]:
        counting = Counting()
        options = {"others": 20} if module in (many_subscriptions, pause_check) else {}
        async with module.sides(counting, **options) as sides:
            return await run(sides, counting)

    assert anyio.run(both, backend=backend) == (OPERATIONS * handlers, OPERATIONS * handlers)


def letters_in(path: Path) -> tuple[int, int]:
    """Return how many letters a file has, and how many its counters say it has."""
    with closing(sqlite3.connect(path)) as connection:
        (rows,) = connection.execute("SELECT count(*) FROM eventbus_dead_letters").fetchone()
        (counted,) = connection.execute("SELECT sum(letters) FROM eventbus_dead_letter_counts").fetchone()
    return rows, counted


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # the raw writer answers into asyncio alone
async def test_many_callers_write_one_letter_for_each_failure_on_both_sides(anyio_backend: str):
    counting = Counting(ChargeError("ask again"))
    async with databases(counting) as opened:
        assert (letters_in(opened.ours), letters_in(opened.theirs)) == ((1, 1), (1, 1))
        with capture_many.sides_on(opened, callers=4) as sides:
            sides.rival.prepare(12)
            await sides.ours.run(12)
            await sides.rival.run(12)
        assert (letters_in(opened.ours), letters_in(opened.theirs)) == ((13, 13), (13, 13))
    assert counting.calls == 13


async def test_one_caller_writes_one_letter_for_each_failure_on_both_sides(anyio_backend_name: str):
    counting = Counting(ChargeError("ask again"))
    async with databases(counting) as opened:
        assert counting.calls == 1  # the letter that the file begins with
        assert await run(capture_one.sides_on(opened), counting) == (1 + OPERATIONS, 0)
        assert (letters_in(opened.ours), letters_in(opened.theirs)) == ((4, 4), (4, 4))


async def test_a_copied_row_differs_from_its_template_in_ids_and_times_alone():
    async with databases() as opened:
        with closing(sqlite3.connect(opened.theirs)) as connection:
            opened.raw.commit([opened.raw.fresh_row(), opened.raw.fresh_row()])
            connection.row_factory = sqlite3.Row
            first, *others = connection.execute("SELECT * FROM eventbus_dead_letters ORDER BY seq")
        for later, row in enumerate(others, start=1):
            changed = {name for name in row.keys() if row[name] != first[name]}  # noqa: SIM118 - no mapping
            times = {name for name in changed if name.endswith("_us")}
            assert changed == {"seq", "id", "event_id", "correlation_id", *times}
            assert "created_us" in times
            assert all(row[name] == first[name] + later for name in times)


def test_importing_the_bus_is_timed_in_a_fresh_interpreter_and_loads_nothing_unwanted():
    taken = import_time.take(Effort(rounds=1))
    assert len(taken.samples) == 1
    assert min(taken.samples[0]) > 0.001
    assert taken.fault is None


def test_an_import_that_loads_what_it_should_not_is_seen():
    _, loaded = import_time.import_once("import sqlalchemy")
    assert loaded == ["sqlalchemy"]


def test_memory_is_read_after_both_numbers_of_events():
    told: list[str] = []
    held = memory.resident_after(1_000, 2_000, Effort(progress=told.append))
    assert list(held) == [1_000, 2_000]
    assert min(held.values()) > 1_000_000
    assert told == ["1,000 of 2,000 events", "2,000 of 2,000 events"]
