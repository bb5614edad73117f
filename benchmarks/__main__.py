"""Takes the benchmarks and prints their table.

It is a report: what falls short does not make it fail. A benchmark that breaks does, after the others.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import report
from benchmarks.catalogue import BENCHMARKS
from benchmarks.harness import Benchmark, Effort, Result, run, tell

README = Path(__file__).with_name("README.md")


def main(arguments: Sequence[str] | None = None) -> None:
    """Take what was asked for, one after another, and print the table."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.write_readme and (options.only or options.quick):
        parser.error("--write-readme writes the table of a full run; leave out --only and --quick")
    results = [_taken(it, options) for it in BENCHMARKS if not options.only or it.name in options.only]
    print(report.text_table(results))
    if options.json is not None:
        options.json.write_text(json.dumps(report.document(results), indent=2) + "\n", encoding="utf-8")
    if any(result.broken for result in results):
        raise SystemExit(1)
    if options.write_readme:
        README.write_text(report.with_table(README.read_text(encoding="utf-8"), results), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Time the bus beside its rivals."
    )
    names = [it.name for it in BENCHMARKS]
    parser.add_argument(
        "--only", action="append", choices=names, metavar="NAME", help=f"take this one: {', '.join(names)}"
    )
    parser.add_argument("--rounds", type=_count, help="counted rounds, instead of each one's own number")
    parser.add_argument("--quick", action="store_true", help="memory after 1,000,000 events, not 10,000,000")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every round to a file")
    parser.add_argument("--write-readme", action="store_true", help="put the table into the README")
    return parser


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text} rounds are too few; 1 or more")
    return count


def _taken(benchmark: Benchmark, options: argparse.Namespace) -> Result:
    progress = tell(benchmark.name)
    result = run(benchmark, Effort(rounds=options.rounds, quick=options.quick, progress=progress))
    progress("")
    print(f"{benchmark.name}: {result.verdict}", file=sys.stderr)
    return result


if __name__ == "__main__":
    main()
