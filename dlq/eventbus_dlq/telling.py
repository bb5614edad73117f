"""Telling observers about dead letters."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eventbus.telemetry import Telemetry
    from eventbus_dlq.letter import DeadLetter


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
