"""A stored delivery on its way back to the bus, and how running it again can end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from eventbus.failure import Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDelivery:
    """One stored delivery, as the dead-letter queue hands it back to the bus.

    Attributes:
        attempt: the number of the run that is about to begin, counting from 1 over all runs.
        first_failed_at: when it failed first (aware UTC); None for one that has never failed. Such a
            delivery runs like a fresh one: the handler's in-process attempts apply, and its envelope
            says nothing of a replay.
        once: True for a single attempt although it has never failed.
    """

    dead_letter_id: str
    event_id: str
    event_name: str
    event_version: int
    payload: bytes
    occurred_at: datetime
    handler_id: str
    attempt: int
    first_failed_at: datetime | None
    headers: Mapping[str, str]
    correlation_id: str | None = None
    causation_id: str | None = None
    source: str | None = None
    tenant: str | None = None
    user_id: str | None = None
    ordering_key: str | None = None
    priority: int = 5
    tags: tuple[str, ...] = ()
    once: bool = False


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The handler returned, in its last of ``runs`` in-process attempts."""

    duration: float
    runs: int = 1


@dataclass(frozen=True, slots=True)
class FailedAgain:
    """The handler failed once more, and why; ``exception`` is for the caller who asked for the replay."""

    failure: Failure
    exception: BaseException
    duration: float


@dataclass(frozen=True, slots=True)
class Unhandled:
    """No handler of that id is subscribed here; nothing ran."""

    message: str


@dataclass(frozen=True, slots=True)
class Undecodable:
    """The stored payload does not fit today's event class; nothing ran."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Redacted:
    """The payload was stored without its secrets, and would run with a mask in their place; nothing ran."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The bus stopped before the handler had finished; the delivery is to be released uncharged."""


@dataclass(frozen=True, slots=True)
class Held:
    """Its scope was closed before the handler began; the delivery is to be released uncharged."""


RedeliveryOutcome: TypeAlias = (
    Succeeded | FailedAgain | Unhandled | Undecodable | Redacted | Interrupted | Held
)
"""How a redelivery ended: a closed union, matched exhaustively."""
