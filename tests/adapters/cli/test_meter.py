"""How far it is: a bar on a terminal, lines elsewhere."""

from __future__ import annotations

import io

from rich.console import Console

from eventbus_adapters.cli.meter import meter


def shown(*, terminal: bool, total: int | None, done: int) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=100, color_system=None)
    with meter(console, "publishing", total) as tell:
        for number in range(1, done + 1):
            tell(number)
    return file.getvalue()


def test_a_terminal_gets_a_bar_that_ends_full() -> None:
    text = shown(terminal=True, total=1_000, done=1_000)
    assert "publishing" in text
    assert "100%" in text
    assert "1000/1000" in text


def test_a_bar_that_ends_early_shows_how_far_it_came() -> None:
    assert "30/1000" in shown(terminal=True, total=1_000, done=30)


def test_a_bar_without_a_known_end_counts() -> None:
    assert "500/?" in shown(terminal=True, total=None, done=500)


def test_elsewhere_there_are_a_few_lines() -> None:
    lines = shown(terminal=False, total=1_000, done=1_000).splitlines()
    assert lines == [f"publishing: {number} of 1,000" for number in (200, 400, 600, 800)] + [
        "publishing: 1,000 of 1,000"
    ]


def test_elsewhere_nothing_is_said_without_a_known_end() -> None:
    assert shown(terminal=False, total=None, done=1_000) == ""
