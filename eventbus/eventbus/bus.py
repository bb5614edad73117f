"""The bus: the face of the product. Every verb is carried out in a room of its own."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast

from eventbus.circuits import Circuits, check_guarded
from eventbus.classify.rules import checked_rules
from eventbus.clock import SystemClock
from eventbus.context import current_delivery, in_handler
from eventbus.control_verbs import ControlVerbs
from eventbus.envelope import NO_METADATA, Envelope
from eventbus.errors import NoDeadLetterQueue
from eventbus.event_types import EventTypes, Upcast
from eventbus.gate import Gate
from eventbus.ids import sequence
from eventbus.intake import (
    Plans,
    PublishOptions,
    SessionOptions,
    made_metadata,
    payload_of,
    typed_event,
)
from eventbus.lifecycle import Lifecycle
from eventbus.metrics import Metrics
from eventbus.payloads import MAX_PAYLOAD
from eventbus.plan import Plan, RouteMaker
from eventbus.receipt import Receipt
from eventbus.registry import Registry
from eventbus.retry import RetryPolicy, check_policy
from eventbus.settings import Concurrency, Overflow, QueueSettings, check_settings
from eventbus.subscription import Subscription, SubscriptionOptions, make_subscription
from eventbus.telemetry import Observer, Telemetry
from eventbus.verbs import DeadLetterVerbs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from eventbus.breaker import CircuitStatus
    from eventbus.classify import ClassifyRule
    from eventbus.core import Core
    from eventbus.handlers import Handler
    from eventbus.ports import Clock, Middleware
    from eventbus.transactional import SessionPublisher
    from eventbus_dlq import DeadLetterQueue

H = TypeVar("H", bound="Callable[..., Any]")


class EventBus(Lifecycle, DeadLetterVerbs, ControlVerbs):
    """Publishes events to handlers in this process, and loses no failure.

    Args:
        dlq: where failed deliveries are kept; without it a failure is only logged.
        name: names the bus in log lines.
        middleware: wraps every attempt of every delivery; the first item is the outermost.
        observers: receive every telemetry event, see :mod:`eventbus.telemetry`.
        retry: the in-process attempts of handlers that have no ``retry=`` of their own.
        classify: rules that say what kind of failure an exception is, asked after those of the handler that
            failed, and before all that the bus knows by itself.
        concurrency: how the handlers of one event run: ``concurrent``, or ``serial``, one after another.
        queue_size: how many enqueued events may wait.
        overflow: what ``enqueue`` does when they do: ``wait``, or ``raise`` BusFull.
        enqueue_concurrency: how many enqueued events are delivered at a time.
        shutdown_grace: seconds that running handlers have to end when the bus stops.
        history: how many of the last events to keep with their results; 0 for none.
        clock: where the time comes from; the dead-letter queue's, or the machine's.

    Raises:
        ValueError: for a setting that makes no sense.
    """

    def __init__(
        self,
        *,
        dlq: DeadLetterQueue | None = None,
        name: str = "eventbus",
        middleware: Sequence[Middleware] = (),
        observers: Sequence[Observer] = (),
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        classify: Sequence[ClassifyRule] = (),
        concurrency: Concurrency = "concurrent",
        queue_size: int = 10_000,
        overflow: Overflow = "wait",
        enqueue_concurrency: int = 100,
        shutdown_grace: float = 30.0,
        history: int = 0,
        clock: Clock | None = None,
    ) -> None:
        self._queue_settings = QueueSettings(queue_size, overflow, enqueue_concurrency)
        check_settings(concurrency, self._queue_settings, shutdown_grace=shutdown_grace, history=history)
        check_policy("retry", retry)
        self._rules = checked_rules(classify)
        self.name = name
        self.metrics = Metrics()
        self.telemetry = Telemetry(observers)
        self._dlq = dlq
        self._clock: Clock = clock or (SystemClock() if dlq is None else dlq.clock)
        self._concurrency: Concurrency = concurrency
        self._grace = shutdown_grace
        self._types = EventTypes(max_payload=MAX_PAYLOAD if dlq is None else dlq.max_payload)
        self._registry = Registry()
        self.breakers = Circuits(self._registry, clock=self._clock, telemetry=self.telemetry)
        self.gate = Gate(self._clock)
        self._routes = RouteMaker(
            middleware=middleware, metrics=self.metrics, retry=retry, circuits=self.breakers, gate=self.gate
        )
        self._plans = Plans(self._types, self._registry, self._routes)
        self._plan_of = self._plans.known
        self._history: deque[Receipt] | None = deque(maxlen=history) if history else None

    # -- subscribing

    def on(self, *events: type[Any] | str, **options: Unpack[SubscriptionOptions]) -> Callable[[H], H]:
        """Subscribe the decorated handler to event classes, names and patterns.

        The options are those of :class:`Subscription`. A handler takes ``(event)`` or
        ``(event, envelope)``; a plain function runs in a worker thread.

        Raises:
            DuplicateHandler: its id is taken.
            InvalidEvent: what it is to listen to is no event.
            NoDeadLetterQueue: it is durable or has a circuit, and the bus was made without one.
            TypeError: it cannot be called with an event, or an option does not exist.
            ValueError: an option's value makes no sense, or its id would not survive a restart.
        """

        def subscribe(handler: H) -> H:
            self._subscribe(events, handler, options)
            return handler

        return subscribe

    def subscribe(
        self, event: type[Any] | str, handler: Handler, **options: Unpack[SubscriptionOptions]
    ) -> Subscription:
        """Subscribe a handler to an event class, a name or a pattern; see :meth:`on`."""
        return self._subscribe((event,), handler, options)

    def _subscribe(
        self, events: Sequence[type[Any] | str], handler: Handler, options: SubscriptionOptions
    ) -> Subscription:
        subscription = make_subscription(events, handler, options, need_stable_id=self._dlq is not None)
        for event in events:
            if isinstance(event, type):
                self._types.of_class(event)
        if subscription.durable:
            from eventbus.durable import check_durable  # loaded by those who need it

            check_durable(subscription, self._types, has_dlq=self._dlq is not None)
        if subscription.circuit:
            check_guarded(subscription, self._types, has_dlq=self._dlq is not None)
        subscription.rules = (*subscription.classify, *self._rules)
        self._registry.add(subscription)
        self._plans.forget()
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Take a subscription off the bus, and its metrics; its deliveries under way go on.

        Raises:
            ValueError: it is not on this bus.
        """
        self._registry.remove(subscription)
        self._routes.forget(subscription)
        self.breakers.forget(subscription)
        self.metrics.forget(subscription.id)
        self._plans.forget()

    @property
    def subscriptions(self) -> tuple[Subscription, ...]:
        """The subscriptions, in the order of subscribing."""
        return tuple(self._registry)

    def upcast(self, name: str, from_version: int, fn: Upcast) -> None:
        """Bring old payloads of an event up to the next version when they are redelivered.

        Args:
            name: the event's name.
            from_version: the version that ``fn`` understands.
            fn: takes the JSON payload of that version and returns that of the next one.

        Raises:
            UnknownEvent: no class of that name is subscribed.
            InvalidEvent: the class is not newer than ``from_version``, or the step exists.
        """
        self._types.add_upcast(name, from_version, fn)

    # -- publishing

    async def publish(
        self,
        event: Any,
        data: Any = None,
        /,
        **options: Unpack[SessionOptions],
    ) -> Receipt:
        """Deliver an event, and return when every handler has settled.

        Settled means that it succeeded, that its failure is committed in the store, or, of a handler that
        is ``durable=True``, that its delivery is: those are committed before any handler runs, and workers
        run them. A handler's error never reaches the publisher: ask the receipt.

        Args:
            event: a pydantic model, a dataclass, or the name of an event.
            data: the payload when ``event`` is a name.
            correlation_id: the flow; taken over from the running handler's event, else the event's id.
            causation_id: the direct parent; the running handler's event.
            source: who publishes.
            tenant: whose event it is; taken over from the running handler's event.
            user_id: on whose behalf.
            ordering_key: every handler runs its deliveries with the same key one at a time and in order,
                whatever its own ``ordering_key=`` says: a text, or an int, which becomes one.
            priority: urgency, 1 (high) to 10 (low); each handler's own unless given.
            tags: free words to find its failures by.
            headers: free text metadata; trace headers are taken over from the running handler's event.
            id: the event's id; publishing twice under one id keeps one dead letter per handler.
            session: an ``AsyncSession`` of SQLAlchemy: the deliveries of all handlers, durable or not, are
                written in its transaction, none runs here, and workers run them once it has committed.

        Raises:
            BusClosed: the bus is not running.
            InvalidEvent: the event or its metadata cannot be accepted; nothing was delivered.
            PayloadTooLarge: the payload is larger than the limit; nothing was delivered.
            CaptureFailed: a handler failed and its failure could not be stored; or the deliveries of durable
                handlers could not be, and nothing was delivered.
            InvalidSession: the session cannot take the deliveries in; nothing was written.
            NoDeadLetterQueue: a session was given, and the bus was made without one.
        """
        plan = self._plan_of(event.__class__)
        if plan is None or data is not None:
            plan, event = self._look_up(event, data)
        parent = current_delivery.get()
        if parent is None and not options:
            metadata = NO_METADATA
        else:
            session = options.pop("session", None)
            if session is not None:
                return await self._session_publisher().publish(session, plan.event_type, event, options)
            metadata = made_metadata(**options)
            if metadata.ordering_key is not None:
                plan = self._plans.ordered(plan)
        receipt, pending = plan.publish(event, metadata, parent)
        self.metrics.published += 1
        if pending is not None:
            await cast("Core", self._core).settle(pending)
            receipt.raise_for_lost()
        return receipt

    def publish_in(
        self, session: Any, event: Any, data: Any = None, /, **options: Unpack[PublishOptions]
    ) -> Receipt:
        """Write the deliveries of an event in the transaction of a synchronous ``Session`` of SQLAlchemy.

        It is what ``publish(session=...)`` is for an ``AsyncSession``, takes the arguments of
        :meth:`publish`, and may be called in any thread, with or without an event loop of its own. Workers
        run the deliveries, in this process or another, once the session has committed. Observers are told
        in the calling thread.

        Raises:
            BusClosed: the bus is not running.
            InvalidEvent: the event or its metadata cannot be accepted; nothing was written.
            PayloadTooLarge: the payload is larger than the limit; nothing was written.
            InvalidSession: the session cannot take the deliveries in; nothing was written.
            NoDeadLetterQueue: the bus was made without one.
        """
        publisher = self._session_publisher()
        self._require_core()
        return publisher.publish_in(session, *payload_of(self._types, event, data), options)

    def _session_publisher(self) -> SessionPublisher:
        from eventbus.transactional import SessionPublisher  # loaded by the few who need it

        return SessionPublisher(
            dlq=self.dlq,
            registry=self._registry,
            routes=self._routes,
            clock=self._clock,
            telemetry=self.telemetry,
            metrics=self.metrics,
            history=self._history,
        )

    async def enqueue(self, event: Any, data: Any = None, /, **options: Unpack[PublishOptions]) -> Receipt:
        """Accept an event into a bounded queue and return; workers deliver it soon.

        Takes the arguments of :meth:`publish`, without ``session``. The receipt follows the deliveries:
        they are ``accepted`` until they have settled. An accepted event is never dropped: stopping the bus
        delivers it, or stores it. The deliveries of durable handlers are committed before it returns, and
        do not go through the queue.

        Raises:
            BusClosed: the bus is not running.
            BusFull: the queue is full and the bus was made with ``overflow="raise"``.
            InvalidEvent: the event or its metadata cannot be accepted.
            PayloadTooLarge: the payload is larger than the limit.
            CaptureFailed: the deliveries of durable handlers could not be stored; nothing was accepted.
            TypeError: a session was given.
        """
        plan = self._plan_of(event.__class__)
        if plan is None or data is not None:
            plan, event = self._look_up(event, data)
        metadata = NO_METADATA
        if options or current_delivery.get() is not None:
            metadata = made_metadata(**options)
            if metadata.ordering_key is not None:
                plan = self._plans.ordered(plan)
        core = self._core
        assert core is not None  # there was a plan
        if not plan.is_plain:
            item = await core.enqueue_kept(plan, event, metadata, self._require_core)
            self.metrics.published += 1
            return item
        queue = core.queue
        try:
            if not queue.has_room():
                await queue.room()
                self._require_core()
            item = core.dispatcher.accept(plan, event, metadata)
        except BaseException:
            queue.pass_on()  # the room that was ours is the next one's
            raise
        self.metrics.published += 1
        core.activity.count += 1
        queue.put(item)
        return item

    async def wait_idle(self) -> None:
        """Return when all work that this process accepted has settled; schedules do not count.

        It does not wait for failures that are tried again later, nor for what is held back: behind a failure
        with the same ordering key, by an operator, or by the circuit of a handler that keeps failing.

        Raises:
            RuntimeError: it was called in a handler, whose own delivery would never settle.
        """
        if in_handler():
            raise RuntimeError("wait_idle() in a handler waits for the handler itself; call it outside")
        core = self._core
        if core is None:
            return
        await core.wait_idle()
        while self._dlq is not None:
            await self._dlq.wait_idle()
            if core.is_idle:
                return
            await core.wait_idle()

    def circuits(self) -> Mapping[str, CircuitStatus]:
        """Return how the circuits of the handlers stand in this process, by handler id.

        A handler is in it as soon as its circuit has been asked: by a worker, or by a publish where its
        subscription has a policy of its own.
        """
        return self.breakers.snapshot()

    @property
    def history(self) -> tuple[Receipt, ...]:
        """The receipts of the last events, oldest first; empty unless made with ``history=N``."""
        return tuple(self._history or ())

    def _look_up(self, event: Any, data: Any) -> tuple[Plan, Any]:
        """Return the plan and the payload of an event whose class was not seen before."""
        self._require_core()
        return typed_event(self._plans, event, data)

    # -- dead letters

    @property
    def dlq(self) -> DeadLetterQueue:
        """The dead-letter queue, with every verb for dead letters.

        Raises:
            NoDeadLetterQueue: the bus was made without one.
        """
        if self._dlq is None:
            raise NoDeadLetterQueue(
                f"bus {self.name!r} has no dead-letter queue; make it with "
                "EventBus(dlq=DeadLetterQueue(SqlStore('sqlite+aiosqlite:///failures.db')))"
            )
        return self._dlq

    async def capture(
        self,
        event: Any,
        error: BaseException,
        *,
        handler: str,
        data: Any = None,
        annotations: Mapping[str, Any] | None = None,
        **options: Unpack[PublishOptions],
    ) -> str:
        """Dead-letter a failure by hand, for work outside of handlers; return the letter's id.

        Args:
            event: the event that could not be handled: an object, or a name with ``data``.
            error: why.
            handler: the id under which it is kept; a replay goes to the handler of that id.
            data: the payload when ``event`` is a name.
            annotations: what else is worth knowing; bounded like ``Envelope.annotate``.
            options: the event's metadata, as for :meth:`publish`.

        Raises:
            NoDeadLetterQueue: the bus was made without one.
            BusClosed: the bus is not running.
            InvalidEvent: the event or its metadata cannot be kept.
            CaptureFailed: the store could not commit it; carries both errors.
        """
        from eventbus.manual import capture_by_hand  # loaded by the few who need it

        dlq = self.dlq
        self._require_core()
        plan, payload = typed_event(self._plans, event, data)
        encoded = plan.check(payload)
        envelope = Envelope(
            plan.event_type, payload, self._clock.time_ns(), sequence.next(), made_metadata(**options)
        )
        subscription = self._registry.find(handler)
        return await capture_by_hand(
            dlq,
            envelope,
            encoded,
            error,
            handler,
            subscription,
            self._rules,
            annotations,
            self._clock.time_ns(),
        )
