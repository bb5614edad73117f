"""Rounds of subject and rival in turn, the figure that is made of them, and the verdict on it."""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import Enum
from statistics import median
from time import perf_counter
from typing import Any, Literal, NamedTuple, TypeAlias

import anyio

Handler: TypeAlias = "Callable[[object], Coroutine[Any, Any, None]]"
MakeHandler: TypeAlias = "Callable[[], Handler]"
Verdict: TypeAlias = Literal["pass", "short", "reported", "not taken"]
Backend: TypeAlias = Literal["asyncio", "trio"]

MIB = 1024 * 1024
NANOSECOND = 1e-9


class CannotMeasureError(Exception):
    """What a benchmark needs is not there; its row says so, and the others are taken."""


class Sample(NamedTuple):
    """One round: what an operation cost on either side, in seconds (of memory: bytes in use)."""

    ours: float
    rival: float


@dataclass(frozen=True, slots=True)
class Taken:
    """What a benchmark has measured.

    Attributes:
        samples: the rounds, in order.
        fault: why the figure does not count although it was taken, or None.
        question: what was measured, when it is not what the benchmark asks; else None.
    """

    samples: Sequence[Sample]
    fault: str | None = None
    question: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much work to put into a figure.

    Attributes:
        rounds: counted rounds; None for the benchmark's own number.
        quick: whether figures that take minutes may be taken on less.
        progress: told, in a few words, what is under way.
    """

    rounds: int | None = None
    quick: bool = False
    progress: Callable[[str], None] = lambda _: None


class Figure(Enum):
    """What is made of a round: a value for each, whose median is the benchmark's."""

    SLOWDOWN = "of its time"
    """Our time by the rival's: less is better, and the limit is the most it may be."""

    SPEEDUP = "times as fast"
    """The rival's time by ours: more is better, and the limit is the least it may be."""

    GROWTH = "MiB more"
    """The difference in MiB: less is better, and the limit is the most it may be."""

    DELAY = "ns more"
    """The difference in nanoseconds: less is better, and the limit is the most it may be."""

    def of(self, sample: Sample) -> float:
        """Return the value of one round."""
        if self is Figure.SLOWDOWN:
            return sample.ours / sample.rival
        if self is Figure.SPEEDUP:
            return sample.rival / sample.ours
        return (sample.ours - sample.rival) / (NANOSECOND if self is Figure.DELAY else MIB)

    def keeps(self, limit: float, value: float) -> bool:
        """Tell whether a value is on the right side of a limit; the limit itself is."""
        return value >= limit if self is Figure.SPEEDUP else value <= limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One question, and how it is answered.

    Attributes:
        name: what ``--only`` takes.
        question: what is measured, as the table says it.
        rival: what it is measured beside.
        take: measures it.
        figure: what is made of the rounds.
        limit: what the figure has to keep; None when it is only reported.
    """

    name: str
    question: str
    rival: str
    take: Callable[[Effort], Taken]
    figure: Figure = Figure.SLOWDOWN
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """The answer to one question.

    Attributes:
        benchmark: the question.
        taken: the rounds; None when they could not be taken.
        missing: why not, or None.
        broken: whether that is a defect, and not something that is absent here.
    """

    benchmark: Benchmark
    taken: Taken | None
    missing: str | None = None
    broken: bool = False

    @property
    def question(self) -> str:
        """What was measured."""
        asked = None if self.taken is None else self.taken.question
        return asked or self.benchmark.question

    @property
    def value(self) -> float | None:
        """The median of the rounds' figures (not the figure of the medians); None without rounds."""
        if self.taken is None:
            return None
        return median(self.benchmark.figure.of(sample) for sample in self.taken.samples)

    @property
    def ours(self) -> float | None:
        """The median cost of an operation of ours, in seconds or bytes."""
        return None if self.taken is None else median(sample.ours for sample in self.taken.samples)

    @property
    def rival(self) -> float | None:
        """The median cost of an operation of the rival's, in seconds or bytes."""
        return None if self.taken is None else median(sample.rival for sample in self.taken.samples)

    @property
    def verdict(self) -> Verdict:
        """Whether the figure keeps its limit."""
        value = self.value
        if self.taken is None or value is None:
            return "not taken"
        if self.taken.fault is not None:
            return "short"
        limit = self.benchmark.limit
        if limit is None:
            return "reported"
        return "pass" if self.benchmark.figure.keeps(limit, value) else "short"


def run(benchmark: Benchmark, effort: Effort) -> Result:
    """Take one benchmark; that it could not be taken becomes its result, so that the others still are."""
    try:
        return Result(benchmark, benchmark.take(effort))
    except ModuleNotFoundError as error:
        return Result(benchmark, None, f"{error.name} is not installed: pip install --group bench")
    except CannotMeasureError as error:
        return Result(benchmark, None, str(error))
    except Exception as error:
        traceback.print_exception(error)
        return Result(benchmark, None, f"broken by {type(error).__name__}: {error}", broken=True)


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two that are compared.

    Attributes:
        run: carries out that many operations, and returns when they have ended.
        prepare: makes ready, untimed, what that many operations need.
    """

    run: Callable[[int], Awaitable[None]]
    prepare: Callable[[int], None] = lambda _: None


class Sides(NamedTuple):
    """Subject and rival, ready to run in the same event loop."""

    ours: Side
    rival: Side


class Operations(NamedTuple):
    """How many operations a round has, on either side: as many as take long enough to be timed."""

    ours: int
    rival: int


def timed(
    sides: Callable[[], AbstractAsyncContextManager[Sides]],
    operations: Operations,
    *,
    rounds: int = 31,
    backend: Backend = "asyncio",
) -> Callable[[Effort], Taken]:
    """Return what takes a benchmark by running the two sides in turn, in one event loop."""

    def take(effort: Effort) -> Taken:
        async def interleaved() -> list[Sample]:
            async with sides() as opened:
                return await _rounds(opened, operations, effort.rounds or rounds, effort.progress)

        return Taken(anyio.run(interleaved, backend=backend))

    return take


async def _rounds(
    sides: Sides, operations: Operations, rounds: int, progress: Callable[[str], None]
) -> list[Sample]:
    samples: list[Sample] = []
    for number in range(rounds + 1):
        progress("warming up" if number == 0 else f"round {number} of {rounds}")
        sample = Sample(
            await seconds_each(sides.ours, operations.ours),
            await seconds_each(sides.rival, operations.rival),
        )
        if number:
            samples.append(sample)
    return samples


async def seconds_each(side: Side, operations: int) -> float:
    """Return the seconds that one operation takes; the collector starts from nothing and stays on."""
    side.prepare(operations)
    gc.collect()
    begun = perf_counter()
    await side.run(operations)
    return (perf_counter() - begun) / operations


def tell(name: str) -> Callable[[str], None]:
    """Return what shows the progress of a benchmark on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        return lambda _: None
    return lambda doing: print(f"\r\x1b[K{name}: {doing}", end="", file=sys.stderr, flush=True)
