"""eventbus: an event bus for async Python that keeps, explains and replays every failure.

    bus = EventBus(dlq=DeadLetterQueue(SqlStore("sqlite+aiosqlite:///shop.db")))

    @bus.on(OrderPlaced, id="billing.charge")
    async def charge(order: OrderPlaced) -> None: ...

    async with bus:
        receipt = await bus.publish(OrderPlaced(order_id=1, total="9.90"))

The dead-letter queue is in ``eventbus_dlq``, stores and the command line in ``eventbus_adapters``, the
admin router in ``eventbus_routes``.
"""

from eventbus.breaker import CircuitStatus
from eventbus.bus import EventBus
from eventbus.circuit import CircuitPolicy, CircuitState
from eventbus.classify import Category, Classification, ClassifyRule, Kind, Route, classify
from eventbus.clock import SystemClock
from eventbus.context import add_delivery_context, annotate, current_envelope
from eventbus.controls import Control, ControlState, Scope
from eventbus.delivery import Delivery
from eventbus.envelope import Envelope, ReplayInfo
from eventbus.errors import (
    BusClosed,
    BusFull,
    CaptureFailed,
    DrainInterrupted,
    DuplicateHandler,
    EventBusError,
    HandlerTimeout,
    InvalidEvent,
    NoDeadLetterQueue,
    OrderDeadlock,
    Paused,
    PayloadTooLarge,
    UndecodableEvent,
    UnknownEvent,
    UnknownHandler,
)
from eventbus.metrics import HandlerMetrics, Latency, Metrics
from eventbus.ports import CallNext, Clock, Middleware
from eventbus.receipt import DeliveryResult, Receipt
from eventbus.retry import RetryPolicy
from eventbus.subscription import Subscription
from eventbus.telemetry import Observer, TelemetryEvent

__all__ = [
    "BusClosed",
    "BusFull",
    "CallNext",
    "CaptureFailed",
    "Category",
    "CircuitPolicy",
    "CircuitState",
    "CircuitStatus",
    "Classification",
    "ClassifyRule",
    "Clock",
    "Control",
    "ControlState",
    "Delivery",
    "DeliveryResult",
    "DrainInterrupted",
    "DuplicateHandler",
    "Envelope",
    "EventBus",
    "EventBusError",
    "HandlerMetrics",
    "HandlerTimeout",
    "InvalidEvent",
    "Kind",
    "Latency",
    "Metrics",
    "Middleware",
    "NoDeadLetterQueue",
    "Observer",
    "OrderDeadlock",
    "Paused",
    "PayloadTooLarge",
    "Receipt",
    "ReplayInfo",
    "RetryPolicy",
    "Route",
    "Scope",
    "Subscription",
    "SystemClock",
    "TelemetryEvent",
    "UndecodableEvent",
    "UnknownEvent",
    "UnknownHandler",
    "add_delivery_context",
    "annotate",
    "classify",
    "current_envelope",
]
