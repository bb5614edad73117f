"""Every error the bus raises on purpose.

    EventBusError
    ├── BusClosed               the bus is not running
    ├── BusFull                 the queue of enqueued events is full
    ├── InvalidEvent            the event cannot be accepted as it is
    │   ├── PayloadTooLarge     its encoded payload exceeds ``max_payload``
    │   └── UndecodableEvent    a stored payload no longer fits today's class
    ├── UnknownEvent            no event of that name is known
    ├── UnknownHandler          no handler of that id is known
    ├── DuplicateHandler        the handler id is taken
    ├── CaptureFailed           a failure, or a durable delivery, could not be stored
    ├── OrderDeadlock           a delivery in order would wait for its own publisher
    ├── HandlerTimeout          a handler ran longer than its ``timeout=``
    ├── NoDeadLetterQueue       a verb for dead letters on a bus without ``dlq=``
    ├── Paused                  the scope is paused by an operator
    └── DrainInterrupted        the scope was opened before it was drained

``eventbus_dlq.errors`` adds those of the dead-letter store to the same tree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventbus.controls import Control
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


class UnknownEvent(EventBusError, LookupError):
    """No subscription, class or upcast of this bus, and no stored delivery, knows the event's name."""


class UnknownHandler(EventBusError, LookupError):
    """No handler of this bus, of a live process on its store, or of a stored delivery has that id."""


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
    """An operator has closed the tenant, event or handler; the message says who, why, and the way out.

    Attributes:
        control: what closes it; None when it was opened meanwhile, and what it had parked is coming back.
    """

    def __init__(self, message: str, control: Control | None = None) -> None:
        super().__init__(message if control is None else f"{message}: {control}; {_way_out(control)}")
        self.control = control


def _way_out(control: Control) -> str:
    named = [f"{name}={value!r}" for name, value in control.scope._asdict().items() if value is not None]
    return f"bus.resume({', '.join(named)}) opens it again"


class DrainInterrupted(EventBusError):
    """Somebody resumed or paused the scope, or it came to its ``until``, before it was drained."""


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
