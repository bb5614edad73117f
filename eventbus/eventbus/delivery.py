"""One delivery: an envelope on its way to one handler, as middleware sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eventbus.annotations import bounded_annotations
from eventbus.receipt import DeliveryResult, DeliveryState

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    import anyio

    from eventbus.circuit import Permit
    from eventbus.envelope import Envelope, Metadata
    from eventbus.failure import AttemptRecord, Failure
    from eventbus.lines import Ticket
    from eventbus.plan import Route
    from eventbus.subscription import Subscription


class Delivery:
    """One envelope on its way to one handler; what middleware sees.

    Attributes:
        route: the way it takes.
        envelope: the event with its metadata.
        payload: the event object.
        metadata: what the publisher said about the event.
        attempt: the number of the attempt that runs, counting from 1 over all runs of the delivery.
        state: what became of it; None until it has settled.
        error: the exception of the last attempt that failed, or None.
        dead_letter_id: the letter, when it was stored.
        ordering_key: deliveries of the handler with this key run in order; None for no order.
    """

    # More, for the rooms of the bus: redelivered says that it comes from the store, stored_as under which
    # handler id; runs_once that it failed before, or probes; permit that its circuit has let it pass,
    # held_back that it has not; admitted that ``when`` and ``once`` have let it pass; from_queue that its
    # event was enqueued.

    # There is no __init__, and defaults live on the class: a delivery is made for every handler of every
    # event, and a call into Python to fill it in costs as much as all else about it.
    route: Route
    envelope: Envelope
    payload: Any
    metadata: Metadata
    attempt: int = 1
    attempts_before: int = 0
    state: DeliveryState | None = None
    error: BaseException | None = None
    dead_letter_id: str | None = None
    ordering_key: str | None = None
    duration_ns: int = 0
    parent: Delivery | None = None
    encoded: bytes | None = None
    redelivered: bool = False
    stored_as: str | None = None
    runs_once: bool = False
    permit: Permit | None = None
    held_back: bool = False
    admitted: bool = False
    from_queue: bool = False
    waits_for_place: bool = False
    has_place: bool = False
    waits_for_thread: bool = False
    has_thread: bool = False
    ticket: Ticket | None = None
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

    @property
    def handler_id(self) -> str:
        """The id of the handler that it goes to."""
        return self.route.handler_id

    @property
    def tenant(self) -> str | None:
        """Whose event it is."""
        return self.metadata.tenant

    @property
    def has_begun(self) -> bool:
        """Whether its handler has been called, or is being called: it does not wait for its turn any more."""
        if self.failures:
            return True
        in_line = self.ticket is not None and self.ticket.state != "running"
        return not (in_line or self.waits_for_place or self.waits_for_thread)

    @property
    def runs(self) -> int:
        """How often the handler has run since the delivery was begun, or begun again from the store."""
        ran = self.state == "succeeded" or bool(self.failures)
        return self.attempt - self.attempts_before if ran else 0

    @property
    def result(self) -> DeliveryResult:
        """What became of it, as receipts show it."""
        return DeliveryResult(
            self.state or "accepted", self.error, self.dead_letter_id, self.duration_ns / 1e9, self.runs
        )

    def annotate(self, values: Mapping[str, Any]) -> None:
        """Keep values of the handler's own with a failure; bounded, see ``Envelope.annotate``."""
        self.noted = bounded_annotations(self.noted, values)

    def has_ancestor(self, *, of: Subscription | None = None, in_thread: bool = False) -> bool:
        """Tell whether a running delivery published it, however deeply.

        ``of`` asks for one to that handler, ``in_thread`` for one to a plain function.
        """
        ancestor = self.parent
        while ancestor is not None:
            subscription = ancestor.route.subscription
            wanted = subscription is of or (in_thread and not subscription.binding.is_async)
            if wanted and ancestor.state is None:
                return True
            ancestor = ancestor.parent
        return False
