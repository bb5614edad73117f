"""One delivery, from its start to its settled outcome.

The steps, in this order: admit, run an attempt, judge its failure, wait and run again or settle,
capture, report. A handler that returns without ever waiting passes through without a task, a
scope or a coroutine of ours: :meth:`Deliverer.start` returns None, and it is settled.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from contextvars import Context, copy_context
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import structlog

from eventbus.annotations import bounded_annotations
from eventbus.classify import Classification, classify
from eventbus.errors import HandlerTimeout, InvalidEvent
from eventbus.failure import AttemptRecord, ErrorRecord, Failure, FailureReason
from eventbus.receipt import DeliveryResult, DeliveryState
from eventbus.retry import should_retry
from eventbus.runtime import Stopped
from eventbus.snapshots import fingerprint, snapshot, type_name

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    import anyio

    from eventbus.envelope import Envelope
    from eventbus.plan import Route
    from eventbus.ports import Clock, DeadLetters
    from eventbus.runtime import Runtime
    from eventbus.telemetry import Telemetry

_log = structlog.get_logger("eventbus")



class Delivery:
    """One envelope on its way to one handler; what middleware sees.

    Attributes:
        route: the way it takes.
        envelope: the event with its metadata.
        payload: the event object.
        attempt: the number of the attempt that runs, counting from 1 over all runs of the delivery.
        state: what became of it; None until it has settled.
        error: the exception of the last attempt that failed, or None.
        dead_letter_id: the letter, when it was stored.
    """

    # Defaults live on the class: a delivery that succeeds sets three attributes and a result.
    attempt: int = 1
    attempts_before: int = 0
    state: DeliveryState | None = None
    error: BaseException | None = None
    dead_letter_id: str | None = None
    duration_ns: int = 0
    parent: Delivery | None = None
    encoded: bytes | None = None
    redelivered: bool = False
    failures: tuple[AttemptRecord, ...] = ()
    failure: Failure | None = None
    capture_error: Exception | None = None
    noted: Mapping[str, Any] | None = None
    retry_after: float | None = None
    coroutine: Coroutine[Any, Any, None]
    stopped_by: str | None = None
    in_own_task: bool = False
    abandoned: bool = False
    thread_done: anyio.Event | None = None

    def __init__(self, route: Route, envelope: Envelope, payload: Any) -> None:
        self.route = route
        self.envelope = envelope
        self.payload = payload

    @property
    def handler_id(self) -> str:
        """The id of the handler that it goes to."""
        return self.route.handler_id

    @property
    def result(self) -> DeliveryResult:
        """What became of it, as receipts show it."""
        ran = self.state == "succeeded" or bool(self.failures)
        runs = self.attempt - self.attempts_before if ran else 0
        return DeliveryResult(
            self.state or "accepted", self.error, self.dead_letter_id, self.duration_ns / 1e9, runs
        )

    def annotate(self, values: Mapping[str, Any]) -> None:
        """Keep values of the handler's own with a failure; bounded, see ``Envelope.annotate``."""
        self.noted = bounded_annotations(self.noted, values)

    def is_nested_in(self, route: Route) -> bool:
        """Tell whether it was published, however deeply, by a running delivery to the same handler."""
        ancestor = self.parent
        while ancestor is not None:
            if ancestor.route.subscription is route.subscription and ancestor.state is None:
                return True
            ancestor = ancestor.parent
        return False


class Deliverer:
    """Runs the deliveries of one bus."""

    def __init__(
        self, *, runtime: Runtime, telemetry: Telemetry, clock: Clock, dlq: DeadLetters | None
    ) -> None:
        self._runtime = runtime
        self._telemetry = telemetry
        self._clock = clock
        self._dlq = dlq

    def start(self, delivery: Delivery, context: Context | None) -> Awaitable[None] | None:
        """Begin a delivery; return None when it has settled already, else what to await.

        ``context`` is where the handler runs; None when the current one is the delivery's own. What
        is awaited never raises a handler's error: only a cancellation of the caller, and
        KeyboardInterrupt and SystemExit, go on their way.
        """
        route = delivery.route
        counters = route.counters
        if route.conditional:
            try:
                if not route.admits(delivery.envelope):
                    self._skip(delivery)
                    return None
            except Exception as error:  # a condition is the handler's code, and fails like it
                counters.started += 1
                return self._recover(delivery, error, perf_counter_ns())
        counters.started += 1
        if self._telemetry:
            self._report("delivery.started", delivery)
        begun = perf_counter_ns()
        try:
            if route.slots is None:
                pending = self._runtime.attempt(delivery, context)
            else:
                pending = self._with_slot(delivery, context, route.slots)
        except BaseException as error:  # a handler's failure, whatever it is, is judged in one place
            return self._recover(delivery, error, begun)
        if pending is not None:
            return self._finish(delivery, pending, begun)
        self._succeed(delivery, begun)
        return None

    async def _finish(self, delivery: Delivery, pending: Awaitable[None], begun: int) -> None:
        try:
            await pending
        except GeneratorExit:
            raise
        except BaseException as error:
            await self._recover(delivery, error, begun)
        else:
            self._succeed(delivery, begun)

    def _succeed(self, delivery: Delivery, begun: int) -> None:
        counters = delivery.route.counters
        delivery.duration_ns = elapsed = perf_counter_ns() - begun
        delivery.state = "succeeded"
        counters.delivered += 1
        counters.observe(elapsed)
        if self._telemetry:
            self._report(
                "delivery.succeeded", delivery, duration=elapsed / 1e9, attempts=delivery.result.attempts
            )

    def _skip(self, delivery: Delivery) -> None:
        delivery.state = "skipped"
        delivery.route.counters.skipped += 1
        self._report("delivery.skipped", delivery)

    async def _with_slot(self, delivery: Delivery, context: Context | None, slots: anyio.Semaphore) -> None:
        if delivery.is_nested_in(delivery.route):  # it would wait for its own ancestor
            await self._attempt(delivery, context)
            return
        await self._runtime.wait(delivery, slots.acquire())
        try:
            await self._attempt(delivery, context)
        finally:
            thread_done = delivery.thread_done
            if thread_done is None:
                slots.release()
            else:
                self._runtime.spawn(lambda: _release_after(thread_done, slots))

    async def _attempt(self, delivery: Delivery, context: Context | None) -> None:
        pending = self._runtime.attempt(delivery, context)
        if pending is not None:
            await pending

    async def _recover(self, delivery: Delivery, error: BaseException, begun: int) -> None:
        """Judge failures until the delivery has settled, retrying as its policy says."""
        while True:
            if self._runtime.is_cancellation(error):
                delivery.route.counters.interrupted += 1
                raise error  # unsettled: the dispatcher stores what its publisher's cancellation cut off
            if isinstance(error, Stopped):
                await self.interrupt([delivery])
                return
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                await self.interrupt([delivery])
                raise error
            record = self._record(delivery, error, begun)
            wait = self._wait_before_retry(delivery, record)
            if wait is None:
                await self._fail(delivery, error, record)
                return
            try:
                await self._runtime.wait(delivery, self._clock.sleep(wait))
                delivery.attempt += 1
                begun = perf_counter_ns()
                route, context = delivery.route, copy_context()
                if route.slots is None:
                    await self._attempt(delivery, context)
                else:
                    await self._with_slot(delivery, context, route.slots)
            except BaseException as again:
                error = again
            else:
                self._succeed(delivery, begun)
                return

    def _record(self, delivery: Delivery, error: BaseException, begun: int) -> ErrorRecord:
        """Keep one failed attempt."""
        if isinstance(error, HandlerTimeout):
            delivery.route.counters.timed_out += 1
            self._report("delivery.timed_out", delivery, timeout=delivery.route.timeout)
        elapsed = perf_counter_ns() - begun
        classification = self._classify(delivery, error)
        record = snapshot(error, classification)
        ended = self._clock.time_ns()
        delivery.error = error
        delivery.retry_after = classification.retry_after
        delivery.duration_ns += elapsed
        delivery.failures += (AttemptRecord(delivery.attempt, ended - elapsed, ended, record),)
        return record

    def _classify(self, delivery: Delivery, error: BaseException) -> Classification:
        return classify(error, delivery.route.subscription.classify)

    def _wait_before_retry(self, delivery: Delivery, record: ErrorRecord) -> float | None:
        policy = delivery.route.policy
        if delivery.redelivered or not should_retry(
            policy, attempts_made=delivery.attempt, category=record.category
        ):
            return None
        wait = policy.wait_before(delivery.attempt, seed=delivery.envelope.id + delivery.handler_id)
        delivery.route.counters.retried += 1
        if self._telemetry:
            self._report(
                "delivery.retried",
                delivery,
                attempt=delivery.attempt,
                wait=wait,
                error_type=record.type,
                kind=record.kind,
            )
        return wait

    async def _fail(self, delivery: Delivery, error: BaseException, record: ErrorRecord) -> None:
        """Settle a delivery that has failed for good in this process."""
        counters = delivery.route.counters
        counters.failed += 1
        counters.observe(delivery.duration_ns)
        if self._telemetry:
            self._report(
                "delivery.failed",
                delivery,
                duration=delivery.duration_ns / 1e9,
                attempts=delivery.result.attempts,
                error_type=record.type,
                kind=record.kind,
            )
        if self._dlq is None:
            delivery.state = "failed"
            _log.error("delivery.failed", exc_info=error, **_names(delivery))
            return
        await self._store([delivery], [self._failure(delivery, "failed", error, record)])

    async def interrupt(self, deliveries: Sequence[Delivery]) -> None:
        """Store deliveries that were cut short, begun or not, as pending and not charged.

        Nothing is awaited before their rows have reached the store's writer.
        """
        for delivery in deliveries:
            if delivery.error is None:
                delivery.error = InterruptedError("the delivery was cut short before its handler had finished")
            self._report("delivery.interrupted", delivery)
        if self._dlq is None:
            for delivery in deliveries:
                delivery.state = "failed"
                _log.error("delivery.interrupted", **_names(delivery))
            return
        failures = [self._interrupted(delivery) for delivery in deliveries]
        await self._store(deliveries, failures)

    def _interrupted(self, delivery: Delivery) -> Failure:
        error = delivery.error
        assert error is not None
        record = (
            delivery.failures[-1].error
            if delivery.failures
            else snapshot(error, self._classify(delivery, error))
        )
        return self._failure(delivery, "interrupted", error, record)

    async def _store(self, deliveries: Sequence[Delivery], failures: Sequence[Failure]) -> None:
        for delivery, failure in zip(deliveries, failures, strict=True):
            delivery.failure = failure
            # from here on the row is the writer's: a cancellation ends only the wait for it
            delivery.state = "failed" if delivery.redelivered else "dead_lettered"
        if self._dlq is None or deliveries[0].redelivered:
            return
        try:
            ids = await self._dlq.capture(failures)
        except Exception as store_error:
            for delivery in deliveries:
                delivery.state = "failed"
                delivery.capture_error = store_error
                _log.error("capture.failed", exc_info=store_error, **_names(delivery))
            self._report_unavailable(store_error)
            return
        for delivery, dead_letter_id in zip(deliveries, ids, strict=True):
            delivery.dead_letter_id = dead_letter_id

    def _failure(
        self, delivery: Delivery, reason: FailureReason, error: BaseException, record: ErrorRecord
    ) -> Failure:
        envelope, subscription = delivery.envelope, delivery.route.subscription
        return Failure(
            envelope=envelope,
            payload=delivery.encoded or _encoded(delivery),
            handler_id=delivery.handler_id,
            reason=reason,
            error=record,
            attempts=delivery.failures,
            priority=envelope.priority or subscription.priority,
            tags=tuple(dict.fromkeys((*subscription.tags, *envelope.tags))),
            fingerprint=fingerprint(delivery.handler_id, error),
            annotations=delivery.noted or {},
            retry_after=delivery.retry_after,
            thread_done=delivery.thread_done,
        )

    def _report(self, name: str, delivery: Delivery, /, **fields: Any) -> None:
        if self._telemetry:
            self._telemetry.emit(name, **_fields(delivery), **fields)

    def _report_unavailable(self, error: Exception) -> None:
        self._telemetry.emit("store.unavailable", error=str(error))


def _fields(delivery: Delivery) -> dict[str, Any]:
    envelope = delivery.envelope
    return {
        "event": envelope.name,
        "event_id": envelope.id,
        "correlation_id": envelope.correlation_id,
        "tenant": envelope.tenant,
        "handler": delivery.handler_id,
    }


def _names(delivery: Delivery) -> dict[str, Any]:
    """Name a delivery for a log line, ``event`` being structlog's own word for the line."""
    envelope = delivery.envelope
    error = delivery.error
    return {
        "event_id": envelope.id,
        "event_name": envelope.name,
        "handler_id": delivery.handler_id,
        "correlation_id": envelope.correlation_id,
        "tenant": envelope.tenant,
        "error_type": None if error is None else type_name(error),
    }


def _encoded(delivery: Delivery) -> bytes | None:
    try:
        return delivery.envelope.event_type.codec.encode(delivery.payload)
    except InvalidEvent:  # the handler changed the event into what cannot be stored
        _log.exception("capture.payload_changed", **_names(delivery))
        return None


async def _release_after(thread_done: anyio.Event, slots: anyio.Semaphore) -> None:
    await thread_done.wait()
    slots.release()
