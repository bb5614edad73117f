"""Deliveries with an ordering key: waiting for their turn, and what becomes of those that may not run."""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING

import anyio

from eventbus.deadlock import waits_for_itself
from eventbus.errors import OrderDeadlock
from eventbus.lines import Lines
from eventbus.runtime import Stopped

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextvars import Context

    from eventbus.deliverer import Deliverer
    from eventbus.delivery import Delivery
    from eventbus.durable import Acceptor
    from eventbus.lines import Ticket
    from eventbus.runtime import Runtime

_PATIENCE = 5.0
"""Seconds for which a delivery that the stopping bus has cut short waits for those ahead of it, so that
they are stored in order; within the time that stopping takes at most."""


class Turns:
    """Lets the deliveries of one handler and key run one at a time and in order.

    Attributes:
        lines: who waits for whom.
    """

    def __init__(
        self,
        *,
        runtime: Runtime,
        deliverer: Deliverer,
        acceptor: Acceptor | None,
        queue_is_busy: Callable[[], bool],
    ) -> None:
        self._runtime = runtime
        self._deliverer = deliverer
        self._acceptor = acceptor
        self._queue_is_busy = queue_is_busy
        self._patience_ends: float | None = None
        self.lines = Lines(None if acceptor is None else acceptor.is_blocked)

    def join(self, delivery: Delivery, after: Sequence[Delivery] = ()) -> None:
        """Give a delivery its place in its line, if it has an ordering key.

        ``after`` is what must settle before it may begin at all.
        """
        if delivery.ordering_key is None:
            return
        ticket = self.lines.join(delivery)
        ticket.after = after
        if delivery.parent is not None and self.would_wait_for_itself(ticket):
            self.lines.never_run(ticket)

    def would_wait_for_itself(self, ticket: Ticket) -> bool:
        """Tell whether the delivery must not wait, because its own publisher would have to go on first."""
        return self.lines.turn(ticket) == "wait" and waits_for_itself(
            ticket, self.lines, self._runtime.running, queue_is_busy=self._queue_is_busy()
        )

    # -- running

    def run(self, delivery: Delivery, context: Context | None, begun: int) -> Awaitable[None] | None:
        """Begin a delivery when its turn comes; return None when it has settled already.

        It is what ``Deliverer.start`` is for deliveries without order, and takes its arguments.
        """
        ticket = delivery.ticket
        if ticket is None:
            return None if delivery.state is not None else self._deliverer.start(delivery, context, begun)
        ticket.begun = True
        if self.lines.turn(ticket) != "run":
            return self._run_later(ticket, context)
        self.lines.begin(ticket)
        pending = self._deliverer.start(delivery, context, begun)
        if pending is not None:
            return self._finish(ticket, pending)
        self.lines.leave([ticket])
        return None

    async def run_in_task(self, delivery: Delivery) -> None:
        """Run a delivery in the current task, which is its own."""
        pending = self.run(delivery, None, perf_counter_ns())
        if pending is not None:
            await pending

    async def _run_later(self, ticket: Ticket, context: Context | None) -> None:
        if await self._has_turn(ticket):
            self.lines.begin(ticket)
            pending = self._deliverer.start(ticket.delivery, context, perf_counter_ns())
            await self._finish(ticket, pending)

    async def _finish(self, ticket: Ticket, pending: Awaitable[None] | None) -> None:
        """See a delivery to its end; one that was cancelled keeps its place until it is stored."""
        try:
            if pending is not None:
                await pending
        finally:
            if ticket.delivery.state is not None:
                self.lines.leave([ticket])

    async def _has_turn(self, ticket: Ticket) -> bool:
        """Wait until the delivery may run; return False when it has settled without running."""
        delivery = ticket.delivery
        while True:
            turn = self.lines.turn(ticket)
            if turn == "run":
                return True
            if turn == "settled":
                return False
            if turn == "store":
                await self._store(ticket)
                continue
            try:
                await self._runtime.wait(delivery, ticket.called())
            except Stopped:
                await self._stop(ticket)
                return False

    # -- storing

    async def _store(self, ticket: Ticket) -> None:
        """Store a delivery that may not run, with those that wait behind it."""
        if self._acceptor is None:
            await self._refuse(ticket)
            return
        line = ticket.line
        taken = self.lines.take(line, lambda _: True)
        try:
            await self._acceptor.hold([other.delivery for other in taken], mine=ticket.delivery)
        finally:
            self.lines.give_back(line, taken)

    async def _refuse(self, ticket: Ticket) -> None:
        """Fail a delivery that would wait for itself, where no store could keep it for later."""
        delivery = ticket.delivery
        error = OrderDeadlock(
            f"the delivery of {delivery.envelope.name!r} to {delivery.handler_id!r} with ordering key "
            f"{delivery.ordering_key!r} would wait for the handler that published it; enqueue the event, or "
            "give the bus a dead-letter queue, which keeps it until its turn has come"
        )
        pending = self._deliverer.refuse(delivery, error)
        if pending is not None:
            await pending
        self.lines.leave([ticket])

    async def stop(self, deliveries: Sequence[Delivery]) -> None:
        """Store deliveries that the stopping bus does not begin any more, behind those ahead of them."""
        in_line = [delivery.ticket for delivery in deliveries if delivery.ticket is not None]
        others = [delivery for delivery in deliveries if delivery.ticket is None]
        if others:
            await self._deliverer.interrupt(others)
        for ticket in in_line:
            await self._stop(ticket)

    async def _stop(self, ticket: Ticket) -> None:
        """Store a delivery that the bus has cut short, behind those ahead of it, as interrupted."""
        ticket.stopped = True
        if self._patience_ends is None:
            self._patience_ends = anyio.current_time() + _PATIENCE
        with anyio.CancelScope(deadline=self._patience_ends):
            while self.lines.turn(ticket) == "wait":
                await ticket.called()
        if ticket.state == "storing" or ticket.delivery.state is not None:
            return  # stored by another one; or on its way to a store that does not answer
        if ticket.delivery.redelivered:
            await self._deliverer.interrupt([ticket.delivery])
            self.lines.leave([ticket])
            return
        line = ticket.line
        too_late = self.lines.turn(ticket) == "wait"  # those ahead have not been stored in time
        taken = self.lines.take(line, lambda other: other.stopped, past_others=too_late)
        try:
            await self._deliverer.interrupt([other.delivery for other in taken])
        finally:
            self.lines.give_back(line, taken)

    async def cut_off(self, deliveries: Sequence[Delivery]) -> None:
        """Store deliveries of an event whose publisher was cancelled, each behind those ahead of it.

        Everything is handed to the store's writer in order, however often the caller is cancelled.
        """
        tickets = [delivery.ticket for delivery in deliveries if delivery.ticket is not None]
        try:
            await self._store_ahead_of(tickets)
        finally:
            for ticket in tickets:
                if ticket.state == "storing":
                    ticket.delivery.state = "accepted"  # its row is the writer's
            unsettled = [delivery for delivery in deliveries if delivery.state is None]
            try:
                if unsettled:
                    await self._deliverer.interrupt(unsettled)
            finally:
                for ticket in tickets:
                    if ticket.state != "storing":
                        self.lines.leave([ticket])

    async def _store_ahead_of(self, tickets: Sequence[Ticket]) -> None:
        if not tickets:
            return
        first, *others = tickets
        try:
            await self._flush(first)
        finally:
            await self._store_ahead_of(others)

    async def _flush(self, ticket: Ticket) -> None:
        if ticket.state == "waiting" and self._acceptor is not None:
            line = ticket.line
            ahead = set(ticket.ahead())
            taken = self.lines.take(line, ahead.__contains__, at_most=len(ahead))
            try:
                await self._acceptor.hold([other.delivery for other in taken], mine=None)
            finally:
                self.lines.give_back(line, taken)

    def drop(self, deliveries: Sequence[Delivery]) -> None:
        """Take away the places of deliveries that were never delivered."""
        for delivery in deliveries:
            if delivery.ticket is not None:
                self.lines.leave([delivery.ticket])
