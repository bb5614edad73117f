"""Fan-out of events with handlers that are durable or keep an order; :mod:`eventbus.dispatch` has the rest.

What comes before anything is delivered: ordering keys are read, every delivery that keeps an order takes
its place in line, and durable deliveries are committed. Then the others run, stage by stage.
"""

from __future__ import annotations

from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

from eventbus.delivery import Delivery
from eventbus.durable import payload_to_keep
from eventbus.errors import CaptureFailed
from eventbus.ordering import key_for

if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence

    from eventbus.dispatch import Dispatcher
    from eventbus.durable import Acceptor
    from eventbus.enqueued import Enqueued
    from eventbus.envelope import Metadata
    from eventbus.lines import Ticket
    from eventbus.plan import Deliver, Plan, Publish, Route
    from eventbus.queue import Queue
    from eventbus.receipt import Receipt
    from eventbus.turns import Turns


class KeptDispatcher:
    """Delivers events some of whose handlers are durable or keep an order."""

    def __init__(
        self, *, dispatcher: Dispatcher, turns: Turns, acceptor: Acceptor | None, queue: Queue, serial: bool
    ) -> None:
        self._dispatcher = dispatcher
        self._turns = turns
        self._acceptor = acceptor
        self._queue = queue
        self._serial = serial
        self._aside: dict[Enqueued, Sequence[Ticket]] = {}

    def compile(self, plan: Plan) -> tuple[Publish, Deliver]:
        """Return how events of ``plan`` are published, and delivered when enqueued; see :class:`Plan`."""
        for route in plan.routes:
            route.run, route.run_in_task = self._turns.run, self._turns.run_in_task
        return partial(self._publish, plan), self.deliver

    def _publish(
        self, plan: Plan, payload: Any, metadata: Metadata, parent: Delivery | None
    ) -> tuple[Receipt, Awaitable[None] | None]:
        encoded = plan.check(payload)
        deliveries = _deliveries(plan, payload, metadata, parent, encoded)
        receipt = self._dispatcher.receipt(plan, payload, metadata)
        receipt.begun = deliveries
        _set_envelope(deliveries, receipt)
        kept, others = _split(deliveries)
        self._take_places(others)
        if not kept:
            return receipt, self._begin(others)
        commit = self._commit_and_run if others else self._commit
        return receipt, commit(receipt, kept, others)

    def _take_places(self, deliveries: Sequence[Delivery]) -> None:
        for position, delivery in enumerate(deliveries):
            stage = delivery.route.subscription.stage
            before = deliveries[:position]
            if not self._serial:
                before = [other for other in before if other.route.subscription.stage < stage]
            self._turns.join(delivery, before)

    async def _commit_and_run(
        self, receipt: Receipt, kept: Sequence[Delivery], others: Sequence[Delivery]
    ) -> None:
        await self._commit(receipt, kept, others)
        pending = self._begin(others)
        if pending is not None:
            await pending

    async def _commit(self, receipt: Receipt, kept: Sequence[Delivery], others: Sequence[Delivery]) -> None:
        """Commit the durable deliveries; when that fails, none of the others is delivered either."""
        assert self._acceptor is not None  # else a durable handler is refused
        try:
            await self._acceptor.commit(kept)
        except CaptureFailed as error:
            self._turns.drop(others)
            receipt.begun = [delivery for delivery in kept if delivery.state is not None]
            error.receipt = receipt
            raise
        except BaseException:  # cancelled: the durable ones are the writer's, the others are stored
            await self._turns.cut_off(others)
            raise

    def _begin(self, deliveries: Sequence[Delivery]) -> Awaitable[None] | None:
        """Run what can be run without waiting; return what to await until all have settled, or None."""
        if not deliveries:
            return None
        stages = [list(stage) for _, stage in groupby(deliveries, key=lambda it: it.route.subscription.stage)]
        pending = self._dispatcher.begin(stages)
        return None if pending is None else self._finish(deliveries, pending)

    async def _finish(self, deliveries: Sequence[Delivery], pending: Awaitable[None]) -> None:
        try:
            await pending
        except BaseException:
            await self._turns.cut_off(_unsettled(deliveries))
            raise
        await self._turns.stop(_unsettled(deliveries))  # stages that a stopping bus has not begun

    # -- enqueued events

    async def enqueue(self, plan: Plan, payload: Any, metadata: Metadata) -> tuple[Enqueued, bool]:
        """Accept an event: commit its durable deliveries, and give the others their places.

        Returns its receipt, and whether anything is left to be queued, see :meth:`put`.

        Raises:
            CaptureFailed: the durable deliveries could not be stored; nothing was accepted.
        """
        encoded = plan.check(payload)
        deliveries = _deliveries(plan, payload, metadata, None, encoded)
        item = self._dispatcher.enqueued(plan, payload, metadata, encoded)
        _set_envelope(deliveries, item)
        item.begun = deliveries
        kept, others = _split(deliveries)
        for delivery in others:
            delivery.from_queue = True
        self._take_places(others)
        tickets = [delivery.ticket for delivery in others if delivery.ticket is not None]
        for ticket in tickets:
            ticket.queued = True
            ticket.beside = tickets
        if kept:
            await self._commit(item, kept, others)
        return item, bool(others)

    def put(self, item: Enqueued) -> None:
        """Queue an event as soon as its deliveries have their turn, so that it keeps no worker waiting."""
        tickets = [delivery.ticket for delivery in item.begun if delivery.ticket is not None]
        if self._dispatcher.halted or self._may_begin(tickets):
            self._queue.put(item)
            return
        self._aside[item] = tickets
        self._queue.reserve()

        def look() -> None:
            if item in self._aside and self._may_begin(tickets):
                self._fetch(item)

        for ticket in tickets:
            ticket.on_call = look

    def _may_begin(self, tickets: Sequence[Ticket]) -> bool:
        return all(self._turns.lines.turn(ticket) != "wait" for ticket in tickets)

    def _fetch(self, item: Enqueued) -> None:
        del self._aside[item]
        self._queue.put(item)
        self._queue.release()

    def fetch_all(self) -> None:
        """Queue every event that waits for its turn: the bus is stopping, and they are to be stored."""
        for item in list(self._aside):
            self._fetch(item)

    async def deliver(self, item: Enqueued) -> None:
        """Deliver an event whose turn in the queue has come."""
        deliveries = [delivery for delivery in item.begun if not delivery.route.subscription.durable]
        for delivery in deliveries:
            if delivery.ticket is not None:
                delivery.ticket.queued = False
                delivery.ticket.on_call = None
        pending = self._begin(deliveries)
        if pending is not None:
            await pending


def _deliveries(
    plan: Plan, payload: Any, metadata: Metadata, parent: Delivery | None, encoded: bytes | None
) -> list[Delivery]:
    """Make the deliveries of an event, with their ordering keys.

    Raises:
        InvalidEvent: a key cannot be read, or a durable delivery could not be run from the store.
    """
    deliveries: list[Delivery] = []
    for route in plan.routes:
        delivery = Delivery()
        delivery.route = route
        delivery.payload = payload
        delivery.metadata = metadata
        delivery.ordering_key = ordering_key(route, payload, metadata)
        if encoded is not None:
            delivery.encoded = encoded
        if parent is not None:
            delivery.parent = parent
        if route.subscription.durable:
            encoded = payload_to_keep(delivery)
        deliveries.append(delivery)
    return deliveries


def ordering_key(route: Route, payload: Any, metadata: Metadata) -> str | None:
    """Return the key of a delivery: its publisher's, else what the subscription reads.

    Raises:
        InvalidEvent: it cannot be read.
    """
    if metadata.ordering_key is not None or route.subscription.ordering_key is None:
        return metadata.ordering_key
    return key_for(route.subscription, route.event_type.name, payload)


def _set_envelope(deliveries: Sequence[Delivery], receipt: Receipt) -> None:
    envelope = receipt.envelope
    for delivery in deliveries:
        delivery.envelope = envelope


def _unsettled(deliveries: Sequence[Delivery]) -> list[Delivery]:
    return [delivery for delivery in deliveries if delivery.state is None]


def _split(deliveries: Sequence[Delivery]) -> tuple[list[Delivery], list[Delivery]]:
    """Return the durable deliveries, and the others."""
    kept: list[Delivery] = []
    others: list[Delivery] = []
    for delivery in deliveries:
        (kept if delivery.route.subscription.durable else others).append(delivery)
    return kept, others
