"""Telling observers about dead letters."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from eventbus_dlq.letter import DeadLetterState

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from eventbus.failure import ErrorRecord
    from eventbus.telemetry import Telemetry
    from eventbus_dlq.letter import DeadLetter
    from eventbus_dlq.store import Settlement

Moved: TypeAlias = "Callable[[DeadLetterState, datetime | None], None]"
"""Is told where this process has put a letter: its state, and when it is due if it is pending."""


def tell(
    telemetry: Telemetry, name: str, letter: DeadLetter, /, *, kept_as: str | None = None, **fields: object
) -> None:
    """Emit an event of the catalogue about a letter; ``kept_as`` is its id where the store has another."""
    telemetry.emit(
        name,
        dead_letter=kept_as or letter.id,
        event=letter.event_name,
        handler=letter.handler_id,
        tenant=letter.tenant,
        **fields,
    )


def tell_captured(
    telemetry: Telemetry,
    letter: DeadLetter,
    *,
    state: DeadLetterState,
    error: ErrorRecord,
    kept_as: str | None = None,
) -> None:
    """Tell of a delivery that has become a dead letter."""
    kind = error.kind
    fields: dict[str, object] = {"event_id": letter.event_id, "state": state, "kind": kind}
    tell(telemetry, "dead_letter.captured", letter, kept_as=kept_as, **fields)


def tell_settled(
    telemetry: Telemetry, letter: DeadLetter, settlement: Settlement, *, duration: float, now: datetime
) -> None:
    """Tell how the run of a claimed letter was settled; one that has never failed is no dead letter yet.

    That one is exhausted is told of by ``announcing``.
    """
    if not telemetry:
        return
    state = settlement.state
    if letter.error is None:
        if settlement.error is not None:
            tell_captured(telemetry, letter, state=state, error=settlement.error)
        return
    tell(telemetry, "dead_letter.replayed", letter, state=state, duration=duration)
    if state is DeadLetterState.RESOLVED:
        tell(telemetry, "dead_letter.resolved", letter, age=(now - letter.created_at).total_seconds())
