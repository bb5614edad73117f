"""Deliveries on their way into the store before they have run: durable, transactional, or held back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

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
        held: why it is not to run now, because an operator has closed its scope; None when it is open.
    """

    envelope: Envelope
    payload: bytes
    handler_id: str
    priority: int
    tags: tuple[str, ...]
    ordering_key: str | None
    held: Literal["paused", "draining"] | None = None


class Accepted(NamedTuple):
    """Where an accepted delivery is kept.

    Attributes:
        dead_letter_id: the id under which it can be found.
        parked: True when it is held back: by an operator, or by an earlier delivery of its handler and key
            that has failed.
    """

    dead_letter_id: str
    parked: bool
