"""How far a command is: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from rich.console import Console

_STEPS = 5  # lines that are written where there is no terminal
_LEAST = 64  # units between two looks at the bar


@contextmanager
def meter(console: Console, what: str, total: int | None) -> Generator[Callable[[int], None], None, None]:
    """Show how much of ``total`` is done; None when nobody knows how much there is.

    Gives a function to be told the number that is done. It may be told often: it is cheap.
    """
    if console.is_terminal:
        with _bar(console, what, total) as show:
            yield show
    else:
        yield _lines(console, what, total)


@contextmanager
def _bar(console: Console, what: str, total: int | None) -> Generator[Callable[[int], None], None, None]:
    columns = [TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), MofNCompleteColumn()]
    with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task(what, total=total)
        shown = done = 0

        def show(number: int) -> None:
            nonlocal shown, done
            done = number
            if number - shown >= _LEAST:
                shown = number
                progress.update(task, completed=number)

        try:
            yield show
        finally:
            progress.update(task, completed=done)


def _lines(console: Console, what: str, total: int | None) -> Callable[[int], None]:
    step = max((total or 0) // _STEPS, 1)
    due = step

    def show(number: int) -> None:
        nonlocal due
        if total is not None and number >= due:
            console.print(f"{what}: {number:,} of {total:,}", highlight=False)
            due = number + step

    return show
