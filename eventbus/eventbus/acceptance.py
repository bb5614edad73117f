"""Deliveries on their way into the store before they have run: durable, transactional, or held back."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from eventbus.envelope import Envelope


class Acceptance(NamedTuple):
    """A delivery that is to be kept until a worker runs it.

    Attributes:
        envelope: the event.
        payload: its encoded payload (JSON).
        handler_id: whose delivery it is.
        priority: 1 (high) to 10 (low).
        tags: the subscription's tags and the event's.
        ordering_key: deliveries of one handler with one key run in order; None for no order.
    """

    envelope: Envelope
    payload: bytes
    handler_id: str
    priority: int
    tags: tuple[str, ...]
    ordering_key: str | None


class Accepted(NamedTuple):
    """Where an accepted delivery is kept.

    Attributes:
        dead_letter_id: the id under which it can be found.
        parked: True when an earlier delivery of its handler and key has failed and holds it back.
    """

    dead_letter_id: str
    parked: bool
