"""The way of one delivery, from its start to its settled outcome.

The steps, in this order: admit, run an attempt, judge its failure, wait and run again or settle,
capture, report. A handler that returns without ever waiting passes through without a task, a scope
or a coroutine of ours: :meth:`Deliverer.start` returns None, and the delivery has settled.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from contextvars import Context, copy_context
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from eventbus.capturing import Capturing, fields
from eventbus.classify import classify
from eventbus.deadlock import place_never_comes
from eventbus.errors import HandlerTimeout
from eventbus.failure import AttemptRecord, ErrorRecord
from eventbus.groups import is_a
from eventbus.guarding import is_held_back, start_guarded
from eventbus.retry import should_retry
from eventbus.runtime import Stopped
from eventbus.snapshots import drop_own_frames, snapshot

if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection, Sequence

    import anyio

    from eventbus.controls import Control
    from eventbus.delivery import Delivery
    from eventbus.durable import Acceptor
    from eventbus.gate import Gate
    from eventbus.plan import Route
    from eventbus.ports import Clock, DeadLetters
    from eventbus.runtime import Runtime
    from eventbus.telemetry import Telemetry


class _ClosedMeanwhileError(Exception):
    """A delivery may not begin any more: its scope was closed, or its circuit opened, while it waited."""


class Deliverer:
    """Runs the deliveries of one bus.

    Attributes:
        gate: the scopes that are closed.
        acceptor: stores what may not run now; None without a dead-letter queue, and then nothing is closed.
    """

    def __init__(
        self, *, runtime: Runtime, telemetry: Telemetry, clock: Clock, dlq: DeadLetters | None, gate: Gate
    ) -> None:
        self.gate = gate
        self.acceptor: Acceptor | None = None
        self._closed = gate.closed
        self._runtime = runtime
        self._attempt_once = runtime.attempt
        self._resume = runtime.resume
        self._telemetry = telemetry
        self._observed = bool(telemetry)
        self._clock = clock
        self._capturing = Capturing(dlq, telemetry)

    def start(self, delivery: Delivery, context: Context | None, begun: int) -> Awaitable[None] | None:
        """Begin a delivery; return None when it has settled already, else what to await.

        ``context`` is where the handler runs; None when the current one is the delivery's own. ``begun``
        is a reading of ``perf_counter_ns``. What
        is awaited never raises a handler's error: only a cancellation of the caller, and
        KeyboardInterrupt and SystemExit, go on their way.
        """
        route = delivery.route
        if self._closed and self.is_closed(delivery):
            return self.hold(delivery)
        if route.breaker is not None and delivery.permit is None and not delivery.redelivered:
            return start_guarded(self, route.breaker, delivery, context, begun)
        counters = route.counters
        if route.conditional and not delivery.redelivered:
            try:
                if not route.admits(delivery.envelope):
                    self.skip(delivery)
                    return None
            except Exception as error:  # a condition is the handler's code, and fails like it
                counters.started += 1
                return self.recover(delivery, error, begun)
        counters.started += 1
        if self._observed:
            self._telemetry.emit("delivery.started", **fields(delivery))
        try:
            run = self._in_turn if route.is_limited else self._attempt_once
            pending = run(delivery, context)
        except BaseException as error:  # a handler's failure, whatever it is, is judged in one place
            return self.recover(delivery, error, begun)
        if pending is not None:
            return self._finish(delivery, pending, begun)
        delivery.duration_ns = elapsed = perf_counter_ns() - begun
        delivery.state = "succeeded"
        counters.latency_sum_ns += elapsed
        counters.latency[elapsed.bit_length()] += 1
        if self._observed:
            self._report_success(delivery)
        return None

    async def run_in_task(self, delivery: Delivery) -> None:
        """Run a delivery in the current task, which is its own."""
        pending = self.start(delivery, None, perf_counter_ns())
        if pending is not None:
            await pending

    def is_direct(self, route: Route) -> bool:
        """Tell whether nothing has to be asked or told on this route, so that it can be cut short."""
        asked = route.conditional or route.is_limited or route.breaker is not None
        return self._resume is not None and not (self._observed or asked)

    def resume(
        self, delivery: Delivery, context: Context | None, yielded: Any, begun: int
    ) -> Awaitable[None]:
        """Take a delivery that was begun directly, and waits, to its settled outcome."""
        assert self._resume is not None
        return self._finish(delivery, self._resume(delivery, context, yielded), begun)

    async def _finish(self, delivery: Delivery, pending: Awaitable[None], begun: int) -> None:
        try:
            await pending
        except GeneratorExit:
            raise
        except BaseException as error:
            await self.recover(delivery, error, begun)
        else:
            self._succeed(delivery, begun)

    def _succeed(self, delivery: Delivery, begun: int) -> None:
        delivery.duration_ns += perf_counter_ns() - begun
        delivery.state = "succeeded"
        counters = delivery.route.counters
        counters.observe(delivery.duration_ns)
        if self._observed:
            self._report_success(delivery)

    def _report_success(self, delivery: Delivery) -> None:
        result = delivery.result
        self._telemetry.emit(
            "delivery.succeeded", **fields(delivery), duration=result.duration, attempts=result.attempts
        )

    def skip(self, delivery: Delivery) -> None:
        """Settle a delivery that its handler's ``when`` or ``once`` does not want."""
        delivery.state = "skipped"
        delivery.route.counters.skipped += 1
        self._telemetry.emit("delivery.skipped", **fields(delivery))

    def is_closed(self, delivery: Delivery) -> bool:
        """Tell whether an operator has closed the scope of a delivery."""
        if delivery.redelivered:
            return self.closed_by(delivery) is not None
        tenant, way = delivery.metadata.tenant, delivery.route.way
        if way is not None and not (tenant in self.gate.tenants or tenant in way.tenants or way.everybody):
            return False
        return self.closed_by(delivery) is not None

    def closed_by(self, delivery: Delivery) -> Control | None:
        """Return the control that closes the scope of a delivery, if any does.

        One from the store goes by the id that it is stored under, which may be an alias by now.
        """
        handler_id = delivery.stored_as or delivery.handler_id
        return self.gate.closed_by(delivery.tenant, delivery.envelope.name, handler_id)

    def _may_not_begin(self, delivery: Delivery) -> bool:
        """Tell whether its scope, or its handler's circuit, has been closed to a delivery meanwhile."""
        return bool(self._closed and self.is_closed(delivery)) or is_held_back(delivery)

    def hold(self, delivery: Delivery) -> Awaitable[None] | None:
        """Keep a delivery, whose scope is closed, until that is opened; return what to await, if anything.

        One that comes from the store is there already: whoever has claimed it gives it back.
        """
        if delivery.redelivered or self.acceptor is None:
            delivery.state = "parked"
            return None
        return self.acceptor.hold((delivery,), mine=delivery)

    def refuse(self, delivery: Delivery, error: Exception) -> Awaitable[None] | None:
        """Settle a delivery that cannot be run at all as failed, without another attempt.

        Returns what to await until it has settled, None when it has.
        """
        delivery.route.counters.started += 1
        return self._fail(delivery, error, self._record(delivery, error, perf_counter_ns()))

    async def _in_turn(self, delivery: Delivery, context: Context | None) -> None:
        """Run an attempt when its handler, and the threads, have a place for it.

        A delivery that was published by one that has the place already does not wait for it, nor one
        whose publisher everyone waits for who has a place.
        """
        route = delivery.route
        place = None if delivery.has_ancestor(of=route.subscription) else route.slots
        thread = None if delivery.has_ancestor(in_thread=True) else route.threads
        async with AsyncExitStack() as taken:
            if place is not None and not self._never_comes(place, delivery):
                delivery.waits_for_place = True
                await self._runtime.wait(delivery, place.acquire())
                delivery.waits_for_place, delivery.has_place = False, True
                taken.callback(self._give_back, delivery, place)
            if thread is not None:
                delivery.waits_for_thread = True
                await self._runtime.wait(delivery, thread.acquire())
                delivery.waits_for_thread, delivery.has_thread = False, True
                taken.callback(_leave_thread, delivery, thread)
            if not delivery.failures and self._may_not_begin(delivery):
                raise _ClosedMeanwhileError
            await self._attempt(delivery, context)

    def _never_comes(self, place: anyio.Semaphore, delivery: Delivery) -> bool:
        return not place.value and place_never_comes(delivery, self._runtime.running)

    def _give_back(self, delivery: Delivery, place: anyio.Semaphore) -> None:
        delivery.has_place = False
        thread_done = delivery.thread_done
        if thread_done is None:
            place.release()
        else:
            self._runtime.spawn(lambda: _release_after(thread_done, place))

    async def _attempt(self, delivery: Delivery, context: Context | None) -> None:
        pending = self._attempt_once(delivery, context)
        if pending is not None:
            await pending

    async def _give_way(self, delivery: Delivery) -> None:
        delivery.route.counters.started -= 1  # it has not, after all
        pending = self.hold(delivery)
        if pending is not None:
            await pending

    async def recover(self, delivery: Delivery, error: BaseException, begun: int) -> None:
        """Judge failures until the delivery has settled, retrying as its policy says."""
        while True:
            if is_a(error, _ClosedMeanwhileError):
                await self._give_way(delivery)
                return
            if self._runtime.is_cancellation(error):
                delivery.route.counters.interrupted += 1
                raise error  # unsettled: the dispatcher stores what its publisher's cancellation cut off
            if is_a(error, Stopped, KeyboardInterrupt, SystemExit):
                delivery.route.counters.interrupted += 1
                await self.interrupt([delivery])
                if is_a(error, Stopped):
                    return
                raise error
            record = self._record(delivery, error, begun)
            wait = self._wait_before_retry(delivery, record)
            if wait is None:
                pending = self._fail(delivery, error, record)
                if pending is not None:
                    await pending
                return
            try:
                await self._runtime.wait(delivery, self._clock.sleep(wait))
                delivery.attempt += 1
                begun = perf_counter_ns()
                run = self._in_turn if delivery.route.is_limited else self._attempt
                await run(delivery, copy_context())
            except BaseException as again:
                error = again
            else:
                self._succeed(delivery, begun)
                return

    def _record(self, delivery: Delivery, error: BaseException, begun: int) -> ErrorRecord:
        """Keep one failed attempt."""
        elapsed = perf_counter_ns() - begun
        if is_a(error, HandlerTimeout):
            delivery.route.counters.timed_out += 1
            self._report("delivery.timed_out", delivery, timeout=delivery.route.timeout)
        drop_own_frames(error)
        classification = classify(error, delivery.route.subscription.rules)
        record = snapshot(error, classification)
        ended = self._clock.time_ns()
        delivery.error = error
        delivery.retry_after = classification.retry_after
        delivery.duration_ns += elapsed
        delivery.failures += (AttemptRecord(delivery.attempt, ended - elapsed, ended, record),)
        return record

    def _wait_before_retry(self, delivery: Delivery, record: ErrorRecord) -> float | None:
        """Return the seconds to wait before the next attempt, or None when there is none."""
        policy = delivery.route.policy
        still_runs = delivery.thread_done is not None  # a second thread must not run beside the first
        tried = delivery.attempt - delivery.attempts_before
        breaker = delivery.route.breaker
        if (
            delivery.runs_once
            or still_runs
            or (breaker is not None and not breaker.is_closed)
            or not should_retry(policy, attempts_made=tried, category=record.category)
        ):
            return None
        wait = policy.wait_before(tried, seed=f"{delivery.envelope.id}:{delivery.handler_id}")
        delivery.route.counters.retried += 1
        self._report(
            "delivery.retried",
            delivery,
            attempt=delivery.attempt,
            wait=wait,
            error_type=record.type,
            kind=record.kind,
        )
        return wait

    def _fail(self, delivery: Delivery, error: BaseException, record: ErrorRecord) -> Awaitable[None] | None:
        """Settle a delivery that has failed for good in this process; see :meth:`Capturing.failed`."""
        counters = delivery.route.counters
        counters.failed += 1
        counters.observe(delivery.duration_ns)
        if self._observed:
            self._telemetry.emit(
                "delivery.failed",
                **fields(delivery),
                duration=delivery.duration_ns / 1e9,
                attempts=len(delivery.failures),
                error_type=record.type,
                kind=record.kind,
            )
        return self._capturing.failed(delivery, error, record)

    @property
    def storing(self) -> Collection[Delivery]:
        """The deliveries that have failed, and whose failures are on their way into the store."""
        return self._capturing.storing

    async def interrupt(self, deliveries: Sequence[Delivery]) -> None:
        """Store deliveries that were cut short, begun or not; see :meth:`Capturing.interrupted`."""
        await self._capturing.interrupted(deliveries)

    def _report(self, name: str, delivery: Delivery, /, **more: Any) -> None:
        if self._observed:
            self._telemetry.emit(name, **fields(delivery), **more)


def _leave_thread(delivery: Delivery, threads: anyio.Semaphore) -> None:
    delivery.has_thread = False
    threads.release()  # one that was left to itself does not count


async def _release_after(thread_done: anyio.Event, slots: anyio.Semaphore) -> None:
    await thread_done.wait()
    slots.release()
