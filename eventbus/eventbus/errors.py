"""Every error the bus raises on purpose.

    EventBusError
    ├── BusClosed               the bus is not running
    ├── BusFull                 the queue of enqueued events is full
    ├── InvalidEvent            the event cannot be accepted as it is
    │   ├── PayloadTooLarge     its encoded payload exceeds ``max_payload``
    │   └── UndecodableEvent    a stored payload no longer fits today's class
    ├── UnknownEvent            no event of that name is known here
    ├── DuplicateHandler        the handler id is taken
    ├── CaptureFailed           a failure, or a durable delivery, could not be stored
    ├── OrderDeadlock           a delivery in order would wait for its own publisher
    ├── HandlerTimeout          a handler ran longer than its ``timeout=``
    ├── NoDeadLetterQueue       a verb for dead letters on a bus without ``dlq=``
    └── Paused                  the scope is paused by an operator

``eventbus_dlq.errors`` adds those of the dead-letter store to the same tree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventbus.receipt import Receipt


class EventBusError(Exception):
    """Base of every error that eventbus raises on purpose."""


class BusClosed(EventBusError):
    """The bus was not started yet, or is stopped: nothing is accepted."""


class BusFull(EventBusError):
    """The queue of enqueued events is full and ``overflow="raise"`` was asked for."""


class InvalidEvent(EventBusError):
    """The event, its name, its payload or its metadata cannot be accepted; nothing was delivered."""


class PayloadTooLarge(InvalidEvent):
    """The encoded payload is larger than ``max_payload`` bytes; payloads are never truncated."""


class UndecodableEvent(InvalidEvent):
    """A stored payload cannot be turned into today's event class; the stored bytes stay as they are."""


class UnknownEvent(EventBusError):
    """No subscription, class or upcast of this bus knows the event's name."""


class DuplicateHandler(EventBusError):
    """The handler id, or one of its aliases, is already subscribed on this bus."""


class HandlerTimeout(EventBusError, TimeoutError):
    """A handler ran longer than the ``timeout=`` of its subscription and was cancelled."""


class OrderDeadlock(EventBusError):
    """A delivery with an ordering key would have to wait for the handler that published it.

    On a bus with a dead-letter queue it is stored instead, and runs when that handler is done.
    """


class NoDeadLetterQueue(EventBusError):
    """The verb needs a dead-letter queue, and the bus was made without ``dlq=``."""


class Paused(EventBusError):
    """The tenant, event or handler is paused; the message names who paused it and why."""


class CaptureFailed(EventBusError):
    """What had to be committed to the dead-letter store could not be: a failure, or a durable delivery.

    The message says which; when a durable delivery could not be stored, nothing was delivered.

    Attributes:
        errors: the handlers' own exceptions, in the order of ``receipt.deliveries``; empty when none ran.
        store_errors: why storing failed.
        receipt: what became of every delivery of the event, or None for ``bus.capture``.
    """

    def __init__(
        self,
        message: str,
        *,
        errors: Sequence[BaseException],
        store_errors: Sequence[BaseException],
        receipt: Receipt | None = None,
    ) -> None:
        super().__init__(message)
        self.errors = tuple(errors)
        self.store_errors = tuple(store_errors)
        self.receipt = receipt
