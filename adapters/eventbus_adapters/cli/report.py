"""What the demo shows, as tables and texts."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from rich.panel import Panel
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from eventbus_adapters.demo.account import HandlerAccount
    from eventbus_dlq import DeadLetter, DeadLetterSummary, Stats

_NAMED = 20  # lost deliveries that are listed one by one


def failures(letters: Sequence[DeadLetterSummary]) -> Table:
    """Return the letters by handler, kind and error, the most frequent first, with their usual text."""
    groups: defaultdict[tuple[str, ...], list[DeadLetterSummary]] = defaultdict(list)
    for letter in letters:
        state = f"{letter.state}/{letter.reason}" if letter.reason else str(letter.state)
        groups[letter.handler_id, letter.kind, _short(letter.error_type), state].append(letter)
    table = Table(title="What failed, and why", title_justify="left")
    for heading in ("handler", "kind", "error", "state"):
        table.add_column(heading, overflow="fold")
    table.add_column("letters", justify="right")
    table.add_column("for example", overflow="fold")
    for group, members in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        ((example, _),) = Counter(member.error_message for member in members).most_common(1)
        table.add_row(*group, f"{len(members):,}", Text(" ".join(example.split())))
    return table


def telling(letters: Sequence[DeadLetterSummary]) -> DeadLetterSummary:
    """Return the letter that is shown in full: one of a real clash if there is any."""
    return next((letter for letter in letters if letter.kind == "conflict"), letters[0])


def letter(shown: DeadLetter) -> Panel:
    """Return one letter with what is needed to understand it: error, innermost frame, payload."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    error = shown.error
    assert error is not None  # it is shown because it failed
    frames = error.traceback.rstrip().splitlines()
    rows = {
        "event": f"{shown.event_name} {shown.event_id}, tenant {shown.tenant}",
        "handler": f"{shown.handler_id}, attempts {shown.attempts}",
        "error": f"{error.type}: {error.message}",
        "caused by": "; ".join(f"{cause.type}: {cause.message}" for cause in error.causes),
        "raised in": "\n".join(line.strip() for line in frames[-2:]),
        "payload": json.dumps(shown.payload, ensure_ascii=False),
        "annotations": json.dumps(dict(shown.annotations), ensure_ascii=False) if shown.annotations else "",
    }
    for name, value in rows.items():
        if value:
            grid.add_row(name, Text(value))
    return Panel(grid, title=f"dead letter {shown.id}", title_align="left")


def summary(account: Sequence[HandlerAccount]) -> Table:
    """Return where the deliveries are, by handler and in all."""
    table = Table(title="Where every delivery is", title_justify="left", show_footer=True)
    table.add_column("handler", "all")
    for heading, values in (
        ("deliveries", [handler.handled + handler.open + len(handler.lost) for handler in account]),
        ("handled", [handler.handled for handler in account]),
        ("open dead letters", [handler.open for handler in account]),
        ("lost", [len(handler.lost) for handler in account]),
    ):
        table.add_column(heading, f"{sum(values):,}", justify="right")
    for handler in account:
        deliveries = handler.handled + handler.open + len(handler.lost)
        numbers = (deliveries, handler.handled, handler.open, len(handler.lost))
        table.add_row(handler.handler, *(f"{number:,}" for number in numbers))
    return table


def conclusion(
    account: Sequence[HandlerAccount],
    stats: Stats,
    biggest: Sequence[tuple[Any, ...]],
    folder: Path,
    seconds: float,
) -> str:
    """Return the last word: whether anything was lost, and what."""
    lost = [f"{handler.handler} of {icao}" for handler in account for icao in handler.lost]
    states = ", ".join(f"{number:,} {state}" for state, number in sorted(stats.by_state.items()))
    lines = [
        f"Dead letters: {states or 'none'}.",
        f"Most airports: {', '.join(f'{country} {number:,}' for country, number in biggest)}.",
        f"Counted in airports.db and dead-letters.db in {folder}, after {seconds:.1f} s.",
    ]
    if lost:
        more = f" and {len(lost) - _NAMED:,} more" if len(lost) > _NAMED else ""
        lines.append(f"LOST {len(lost):,} deliveries: {', '.join(lost[:_NAMED])}{more}.")
    else:
        lines.append(
            "Nothing was lost: every record was handled or is an open dead letter, for each handler."
        )
    return "\n".join(lines)


def invitation(admin: str, token: str, waiting: str | None) -> str:
    """Return how to look at the admin and replay with curl."""
    curl = f"curl -sS -H 'Authorization: Bearer {token}'"
    lines = [
        f"\nThe admin is at {admin} until Ctrl-C. The token is {token}",
        "\nWhat is open, and what it adds up to:",
        f"  {curl} '{admin}/api/dead-letters?state=pending&limit=3'",
        f"  {curl} '{admin}/api/stats'",
    ]
    if waiting is not None:
        body = (
            """-H 'Content-Type: application/json' -d '{"verb": "replay", "query": {"state": ["pending"]}}'"""
        )
        lines += [
            "\nOne letter, whole; run it again; then all that still wait:",
            f"  {curl} '{admin}/api/dead-letters/{waiting}'",
            f"  {curl} -X POST '{admin}/api/dead-letters/{waiting}/replay'",
            f"  {curl} -X POST {body} '{admin}/api/operations'",
        ]
    return "\n".join(lines)


def _short(qualified: str) -> str:
    return qualified.rpartition(".")[2]
