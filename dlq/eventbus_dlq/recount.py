"""Statistics counted from the letters themselves: what a store's own counters must agree with."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from eventbus_dlq.letter import OPEN_STATES, DeadLetterState
from eventbus_dlq.stats import Recovery, Stats

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from eventbus_dlq.letter import DeadLetter

T = TypeVar("T")


def recount(letters: Sequence[DeadLetter], now: datetime) -> Stats:
    """Return the totals of ``letters`` as they are at ``now``, by looking at every one of them."""
    total = len(letters)
    errors = [it.error for it in letters if it.error is not None]
    by_state = _tally(letters, lambda it: str(it.state))
    born = sorted(it.created_at for it in letters if it.state in OPEN_STATES)
    ages = [(now - moment).total_seconds() for moment in born]
    return Stats(
        total=total,
        by_state=by_state,
        by_event=_tally(letters, lambda it: it.event_name),
        by_handler=_tally(letters, lambda it: it.handler_id),
        by_tenant=Counter(it.tenant for it in letters),
        by_kind=_tally(errors, lambda it: str(it.kind)),
        by_category=_tally(errors, lambda it: str(it.category)),
        by_route=_tally(errors, lambda it: str(it.route)),
        last_24h=sum(now - it.created_at <= timedelta(hours=24) for it in letters),
        average_attempts=sum(it.attempts for it in letters) / total if total else 0.0,
        average_age=sum(ages) / len(ages) if ages else 0.0,
        due=sum(_is_due(it, now) for it in letters),
        oldest_open=born[0] if born else None,
        newest_open=born[-1] if born else None,
        recovery=Recovery(
            total=total,
            pending=len(born),
            recovered=by_state.get(DeadLetterState.RESOLVED, 0),
            abandoned=by_state.get(DeadLetterState.DISCARDED, 0) + by_state.get(DeadLetterState.ARCHIVED, 0),
        ),
    )


def _is_due(letter: DeadLetter, now: datetime) -> bool:
    if letter.state is not DeadLetterState.PENDING or letter.retry_at is None:
        return False
    return letter.retry_at <= now


def _tally(items: Sequence[T], name: Callable[[T], str]) -> Mapping[str, int]:
    return dict(Counter(name(it) for it in items))
