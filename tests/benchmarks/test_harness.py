"""The harness of the benchmarks: rounds, figures, verdicts and the table, without timing anything."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from benchmarks import __main__ as command
from benchmarks import report
from benchmarks.catalogue import BENCHMARKS
from benchmarks.harness import (
    MIB,
    Backend,
    Benchmark,
    CannotMeasureError,
    Effort,
    Figure,
    Operations,
    Result,
    Sample,
    Side,
    Sides,
    Taken,
    run,
    timed,
)

SKEWED = (Sample(2.0, 1.0), Sample(3.0, 6.0), Sample(40.0, 10.0))  # ratios 2, 0.5, 4; ratio of medians 0.5


def result(
    *samples: tuple[float, float],
    figure: Figure = Figure.SLOWDOWN,
    limit: float | None = None,
    fault: str | None = None,
    name: str = "row",
) -> Result:
    asked = Benchmark(
        name=name,
        question=f"question of {name}",
        rival="rival",
        take=lambda effort: Taken([Sample(*it) for it in samples], fault=fault),
        figure=figure,
        limit=limit,
    )
    return run(asked, Effort())


class Clock:
    """Stands still until somebody works."""

    def __init__(self) -> None:
        self.now = 0.0
        self.worked: list[str] = []

    def __call__(self) -> float:
        return self.now

    def side(self, name: str, seconds: float) -> Side:
        async def work(operations: int) -> None:
            self.now += seconds * operations
            self.worked.append(name)

        def prepare(operations: int) -> None:
            self.now += 1_000  # what is prepared must not count
            self.worked.append(f"prepare {operations} {name}")

        return Side(work, prepare)


def test_the_value_is_the_median_of_the_ratios_and_not_the_ratio_of_the_medians():
    assert result(*SKEWED).value == 2.0
    assert result(*SKEWED, figure=Figure.SPEEDUP).value == 0.5


def test_the_absolute_columns_are_medians_of_their_own():
    found = result(*SKEWED)
    assert (found.ours, found.rival) == (3.0, 6.0)


def test_growth_is_a_difference_in_mib():
    assert result((5 * MIB, 2 * MIB), figure=Figure.GROWTH).value == 3.0


@pytest.mark.parametrize(
    ("figure", "ours", "rival", "limit", "verdict"),
    [
        (Figure.SLOWDOWN, 1.2, 1.0, 1.2, "pass"),
        (Figure.SLOWDOWN, 1.21, 1.0, 1.2, "short"),
        (Figure.SPEEDUP, 1.0, 200.0, 200.0, "pass"),
        (Figure.SPEEDUP, 1.0, 199.0, 200.0, "short"),
        (Figure.SPEEDUP, 1.0, 0.6, 0.6, "pass"),
        (Figure.GROWTH, 3.0 * MIB, 1.0 * MIB, 2.0, "pass"),
        (Figure.GROWTH, 3.1 * MIB, 1.0 * MIB, 2.0, "short"),
        (Figure.GROWTH, 1.0 * MIB, 3.0 * MIB, 2.0, "pass"),
        (Figure.DELAY, 2.15e-6, 2.0e-6, 200.0, "pass"),
        (Figure.DELAY, 2.25e-6, 2.0e-6, 200.0, "short"),
        (Figure.SLOWDOWN, 9.0, 1.0, None, "reported"),
    ],
)
def test_the_verdict_keeps_to_the_right_side_of_the_limit(
    figure: Figure, ours: float, rival: float, limit: float | None, verdict: str
):
    assert result((ours, rival), figure=figure, limit=limit).verdict == verdict


def test_a_fault_makes_it_short_whatever_the_figure():
    found = result((1.0, 1.0), limit=2.0, fault="`import eventbus` loads starlette")
    assert found.verdict == "short"
    assert "row: `import eventbus` loads starlette" in report.text_table([found])


def test_a_rival_that_is_not_installed_is_named_and_the_others_are_taken():
    def take(effort: Effort) -> Taken:
        import a_rival_that_nobody_has  # type: ignore[import-not-found]  # that is the point

        raise AssertionError(a_rival_that_nobody_has)

    found = run(Benchmark(name="row", question="q", rival="r", take=take, limit=1.0), Effort())
    assert (found.verdict, found.value, found.ours, found.rival) == ("not taken", None, None, None)
    assert found.missing == "a_rival_that_nobody_has is not installed: pip install --group bench"
    assert report.summary([found]) == "0 of 1 fall short; not taken: row"


def test_what_cannot_be_measured_here_says_why():
    def take(effort: Effort) -> Taken:
        raise CannotMeasureError("there is no /proc")

    found = run(Benchmark(name="row", question="q", rival="r", take=take), Effort())
    assert report.notes([found]) == ["row: there is no /proc"]


def test_one_that_breaks_is_reported_with_its_error(capsys: pytest.CaptureFixture[str]):
    def take(effort: Effort) -> Taken:
        raise RuntimeError("the handler is gone")

    found = run(Benchmark(name="row", question="q", rival="r", take=take, limit=1.0), Effort())
    assert (found.verdict, found.broken) == ("not taken", True)
    assert report.notes([found]) == ["row: broken by RuntimeError: the handler is gone"]
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_rounds_alternate_and_the_first_pair_does_not_count(
    monkeypatch: pytest.MonkeyPatch, backend: Backend
):
    clock = Clock()
    monkeypatch.setattr("benchmarks.harness.perf_counter", clock)
    told: list[str] = []

    @asynccontextmanager
    async def sides() -> AsyncIterator[Sides]:
        clock.worked.append("open")
        yield Sides(clock.side("ours", 3.0), clock.side("rival", 2.0))
        clock.worked.append("close")

    take = timed(sides, Operations(10, 5), rounds=9, backend=backend)
    taken = take(Effort(rounds=2, progress=told.append))

    assert clock.worked == [
        "open",
        *["prepare 10 ours", "ours", "prepare 5 rival", "rival"] * 3,
        "close",
    ]
    assert [tuple(sample) for sample in taken.samples] == [(3.0, 2.0)] * 2
    assert told == ["warming up", "round 1 of 2", "round 2 of 2"]


def test_a_benchmark_has_its_own_number_of_rounds_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch):
    clock = Clock()
    monkeypatch.setattr("benchmarks.harness.perf_counter", clock)

    @asynccontextmanager
    async def sides() -> AsyncIterator[Sides]:
        yield Sides(clock.side("ours", 1.0), clock.side("rival", 1.0))

    assert len(timed(sides, Operations(1, 1), rounds=4)(Effort()).samples) == 4


def test_the_table_says_question_amounts_ratio_limit_and_verdict():
    rows = [
        result((1.5e-6, 1e-6), limit=1.2, name="a"),
        result((1e-6, 1.5e-3), figure=Figure.SPEEDUP, limit=200, name="b"),
        result((42.5 * MIB, 42 * MIB), figure=Figure.GROWTH, limit=2, name="c"),
        result((0.1, 4e-9), name="d"),
    ]
    assert [report.cells(row)[2:] for row in rows] == [
        ("1.5 µs", "1 µs", "1.50 of its time", "at most 1.2", "short"),
        ("1 µs", "1.5 ms", "1500 times as fast", "at least 200", "pass"),
        ("42.5 MiB", "42.0 MiB", "+0.50 MiB more", "at most 2", "pass"),
        ("100 ms", "4 ns", "25000000 of its time", "", "reported"),
    ]
    text = report.text_table(rows)
    assert text.splitlines()[0].split() == list(report.HEADINGS)
    assert text.splitlines()[-1] == "1 of 3 fall short: a"
    assert "question of c" in text


def test_the_markdown_table_sets_what_falls_short_in_bold():
    table = report.markdown_table([result((2.0, 1.0), limit=1.0), result((1.0, 1.0), limit=1.0)])
    assert "| 2.00 of its time | at most 1 | **short** |" in table
    assert "| 1.00 of its time | at most 1 | pass |" in table
    assert table.endswith("1 of 2 fall short: row")


def test_only_the_part_between_the_markers_is_rewritten():
    readme = f"before\n{report.BEGIN}\n\nold\n\n{report.END}\nafter\n"
    rows = [result((1.0, 1.0), limit=1.0)]
    once = report.with_table(readme, rows)
    assert once.startswith(f"before\n{report.BEGIN}\n\nPython ")
    assert once.endswith(f"fall short\n\n{report.END}\nafter\n")
    assert "old" not in once
    assert report.with_table(once, rows) == once


def test_a_readme_without_markers_is_refused():
    with pytest.raises(ValueError, match="no table between"):
        report.with_table("# Benchmarks", [])


def test_the_readme_has_the_markers():
    assert report.with_table(command.README.read_text(encoding="utf-8"), [])


def test_names_are_unique_and_every_limit_makes_sense():
    names = [it.name for it in BENCHMARKS]
    assert len(set(names)) == len(names)
    assert all(it.limit is None or it.limit > 0 for it in BENCHMARKS)


class TestCommand:
    """``python -m benchmarks``."""

    @pytest.fixture(autouse=True)
    def catalogue(self, monkeypatch: pytest.MonkeyPatch) -> list[Effort]:
        asked: list[Effort] = []

        def benchmark(name: str, ours: float) -> Benchmark:
            def take(effort: Effort) -> Taken:
                asked.append(effort)
                return Taken([Sample(ours, 1.0)], question="less" if effort.quick else None)

            return Benchmark(name=name, question=f"question of {name}", rival="r", take=take, limit=1.0)

        monkeypatch.setattr(command, "BENCHMARKS", (benchmark("slow", 2.0), benchmark("fast", 0.5)))
        return asked

    def test_it_prints_the_table_and_ends_well_although_something_is_short(
        self, capsys: pytest.CaptureFixture[str]
    ):
        command.main([])
        printed = capsys.readouterr()
        assert "question of slow" in printed.out
        assert "question of fast" in printed.out
        assert printed.out.endswith("1 of 2 fall short: slow\n")
        assert printed.err == "slow: short\nfast: pass\n"

    def test_one_that_breaks_fails_it_after_the_others(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ):
        def take(effort: Effort) -> Taken:
            raise RuntimeError("the handler is gone")

        broken = Benchmark(name="broken", question="q", rival="r", take=take, limit=1.0)
        monkeypatch.setattr(command, "BENCHMARKS", (broken, *command.BENCHMARKS))
        monkeypatch.setattr(command, "README", tmp_path / "README.md")
        with pytest.raises(SystemExit, match="1"):
            command.main(["--json", str(tmp_path / "figures.json"), "--write-readme"])
        assert "question of fast" in capsys.readouterr().out
        assert (tmp_path / "figures.json").exists()
        assert not (tmp_path / "README.md").exists()

    def test_only_takes_what_is_named(self, capsys: pytest.CaptureFixture[str]):
        command.main(["--only", "fast"])
        assert "question of slow" not in capsys.readouterr().out

    def test_rounds_and_quick_reach_the_benchmark(
        self, catalogue: list[Effort], capsys: pytest.CaptureFixture[str]
    ):
        command.main(["--only", "fast", "--rounds", "3", "--quick"])
        assert [(effort.rounds, effort.quick) for effort in catalogue] == [(3, True)]
        assert "less" in capsys.readouterr().out

    def test_json_has_every_round(self, tmp_path: Path):
        command.main(["--json", str(tmp_path / "figures.json")])
        slow, _ = json.loads((tmp_path / "figures.json").read_text())["results"]
        assert (slow["name"], slow["rounds"], slow["verdict"]) == ("slow", [[2.0, 1.0]], "short")
        assert (slow["ours"], slow["rival"], slow["value"], slow["figure"]) == (2.0, 1.0, 2.0, "slowdown")

    def test_the_readme_is_written_on_demand(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        readme = tmp_path / "README.md"
        readme.write_text(f"{report.BEGIN}{report.END}")
        monkeypatch.setattr(command, "README", readme)
        command.main([])
        assert "question of slow" not in readme.read_text()
        command.main(["--write-readme"])
        assert "| `slow` | question of slow |" in readme.read_text()

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["--only", "unknown"], "invalid choice: 'unknown'"),
            (["--rounds", "0"], "0 rounds are too few"),
            (["--rounds", "many"], "invalid _count value"),
            (["--write-readme", "--quick"], "leave out --only and --quick"),
            (["--write-readme", "--only", "fast"], "leave out --only and --quick"),
        ],
    )
    def test_what_makes_no_sense_is_refused(
        self, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
    ):
        with pytest.raises(SystemExit):
            command.main(arguments)
        assert says in capsys.readouterr().err
