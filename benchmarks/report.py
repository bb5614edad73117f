"""The table, as text, as Markdown and as JSON."""

from __future__ import annotations

import os
import platform
import sqlite3
from collections.abc import Sequence
from typing import Any

from benchmarks.harness import MIB, Figure, Result

HEADINGS = ("question", "beside", "ours", "rival", "ratio", "limit", "verdict")

BEGIN = "<!-- table: written by python -m benchmarks --write-readme -->"
END = "<!-- end of table -->"


def cells(result: Result) -> tuple[str, ...]:
    """Return the row of one result."""
    benchmark = result.benchmark
    return (
        result.question,
        benchmark.rival,
        _amount(benchmark.figure, result.ours),
        _amount(benchmark.figure, result.rival),
        "" if result.value is None else _value(benchmark.figure, result.value),
        _limit(benchmark.figure, benchmark.limit),
        result.verdict,
    )


def text_table(results: Sequence[Result]) -> str:
    """Return the table in columns, with what there is to say of single rows below it."""
    rows = [HEADINGS, *[cells(result) for result in results]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in [*lines, "", *notes(results), summary(results)])


def markdown_table(results: Sequence[Result]) -> str:
    """Return the table as Markdown, what falls short in bold."""
    headings = ("name", *HEADINGS)
    rows: list[tuple[str, ...]] = [headings, tuple("---" for _ in headings)]
    for result in results:
        *row, verdict = cells(result)
        shown = verdict if verdict in ("pass", "reported") else f"**{verdict}**"
        rows.append((f"`{result.benchmark.name}`", *row, shown))
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    told = [f"- {note}" for note in notes(results)]
    return "\n".join([machine(), "", *lines, "", *told, *([""] if told else []), summary(results)])


def notes(results: Sequence[Result]) -> list[str]:
    """Return what there is to say of single rows."""
    told: list[str] = []
    for result in results:
        taken = result.taken
        reason = result.missing if taken is None else taken.fault
        if reason is not None:
            told.append(f"{result.benchmark.name}: {reason}")
    return told


def summary(results: Sequence[Result]) -> str:
    """Name what falls short of its limit."""
    limited = [result for result in results if result.benchmark.limit is not None]
    short = [result.benchmark.name for result in limited if result.verdict == "short"]
    not_taken = [result.benchmark.name for result in results if result.verdict == "not taken"]
    text = f"{len(short)} of {len(limited)} fall short" + (f": {', '.join(short)}" if short else "")
    return text + (f"; not taken: {', '.join(not_taken)}" if not_taken else "")


def machine() -> str:
    """Say what the figures were taken on."""
    return (
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {platform.system()} "
        f"{platform.machine()}, {os.cpu_count()} cores"
    )


def document(results: Sequence[Result]) -> dict[str, Any]:
    """Return everything that was measured, ready for JSON; times in seconds, memory in bytes."""
    return {
        "machine": machine(),
        "results": [
            {
                "name": result.benchmark.name,
                "question": result.question,
                "beside": result.benchmark.rival,
                "ours": result.ours,
                "rival": result.rival,
                "figure": result.benchmark.figure.name.lower(),
                "value": result.value,
                "limit": result.benchmark.limit,
                "verdict": result.verdict,
                "rounds": [] if result.taken is None else [list(sample) for sample in result.taken.samples],
                "notes": notes([result]),
            }
            for result in results
        ],
    }


def with_table(readme: str, results: Sequence[Result]) -> str:
    """Return a README with the table between its markers replaced.

    Raises:
        ValueError: a marker is missing.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the README has no table between {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n\n{markdown_table(results)}\n\n{END}{after}"


def _amount(figure: Figure, amount: float | None) -> str:
    if amount is None:
        return ""
    if figure is Figure.GROWTH:
        return f"{amount / MIB:.1f} MiB"
    for unit, factor in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if amount >= factor:
            return f"{amount / factor:.3g} {unit}"
    return f"{amount / 1e-9:.3g} ns"


def _value(figure: Figure, value: float) -> str:
    if figure in (Figure.GROWTH, Figure.DELAY):
        return f"{value:+.{2 if figure is Figure.GROWTH else 0}f} {figure.value}"
    return f"{value:.0f} {figure.value}" if value >= 100 else f"{value:.2f} {figure.value}"


def _limit(figure: Figure, limit: float | None) -> str:
    if limit is None:
        return ""
    return f"{'at least' if figure is Figure.SPEEDUP else 'at most'} {limit:g}"
