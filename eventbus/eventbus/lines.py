"""Who waits for whom: one line for each handler and ordering key, kept in this process.

A delivery takes its place when it is published, and leaves it when it has settled. Everything here is
synchronous: it says whose turn it is, and :mod:`eventbus.turns` waits, runs and stores accordingly.

Two rules make the order. A delivery runs when nobody is ahead of it. One that has to be stored instead,
because an earlier one is in the store, is stored when no delivery that is not stored yet is ahead of it;
those behind it go with it. Redeliveries are in the line too, so that nothing runs beside them, but they
are in the store already, and nobody waits for them to be stored.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

import anyio

if TYPE_CHECKING:
    from eventbus.delivery import Delivery

Turn: TypeAlias = Literal["wait", "run", "store", "settled"]
"""What a delivery is to do now: wait to be called, run, be stored together with those behind it, or
nothing, because somebody has stored it."""

IsBlocked: TypeAlias = "Callable[[str, str], bool]"
"""Takes a handler's id and a key; tells whether the store holds open deliveries of them."""

_MOST_STORED_AT_ONCE = 256


class Ticket:
    """A delivery's place in its line.

    Attributes:
        delivery: whose place it is.
        line: where.
        state: ``waiting``; ``running``, until it has settled; ``storing``, while somebody has it stored.
        begun: whether its event has come to it: its stage, and the queue before that.
        after: what must settle before that.
        queued: whether it is an enqueued event's, and no worker has taken that yet.
        beside: the places of the same enqueued event; a worker takes it when all of them have their turn.
        must_store: set when one ahead of it was stored.
        never_runs: set when it would wait for itself: it is stored whoever runs.
        stopped: set when the bus has cut it short.
        on_call: called whenever it may be its turn.
    """

    __slots__ = (
        "after",
        "begun",
        "beside",
        "delivery",
        "line",
        "must_store",
        "never_runs",
        "on_call",
        "queued",
        "state",
        "stopped",
    )

    def __init__(self, delivery: Delivery, line: Line) -> None:
        self.delivery = delivery
        self.line = line
        self.state: Literal["waiting", "running", "storing"] = "waiting"
        self.begun = False
        self.after: Sequence[Delivery] = ()
        self.queued = False
        self.beside: Sequence[Ticket] = ()
        self.must_store = False
        self.never_runs = False
        self.stopped = False
        self.on_call: Callable[[], None] | None = None

    @property
    def can_be_stored(self) -> bool:
        """Whether it waits, and is not in the store already."""
        return self.state == "waiting" and not self.delivery.redelivered

    def call(self) -> None:
        """Have whoever waits with it look whose turn it is."""
        if self.on_call is not None:
            self.on_call()

    async def called(self) -> None:
        """Return when it may be its turn."""
        event = anyio.Event()
        self.on_call = event.set
        await event.wait()

    def ahead(self) -> Iterable[Ticket]:
        """Return the places before it, from the first."""
        for other in self.line.tickets:
            if other is self:
                return
            yield other


class Line:
    """The deliveries of one handler and key that have not settled, in order."""

    __slots__ = ("key", "never_run", "storing", "tickets")

    def __init__(self, key: tuple[str, str]) -> None:
        self.key = key
        self.tickets: OrderedDict[Ticket, None] = OrderedDict()
        self.never_run: list[Ticket] = []
        self.storing = 0

    def call(self) -> None:
        """Call those whose turn it may be."""
        for ticket in self.tickets:
            if ticket.state == "waiting":
                ticket.call()
            if not ticket.delivery.redelivered:
                break
        for ticket in self.never_run:
            ticket.call()


class Lines:
    """The lines of one bus.

    Attributes:
        nested: the places that wait for a delivery which a running handler has published.
    """

    def __init__(self, is_blocked: IsBlocked | None) -> None:
        self._is_blocked = is_blocked
        self._lines: dict[tuple[str, str], Line] = {}
        self.nested: dict[Ticket, None] = {}

    def __len__(self) -> int:
        return len(self._lines)

    def join(self, delivery: Delivery) -> Ticket:
        """Give a delivery that has an ordering key its place, behind all others."""
        assert delivery.ordering_key is not None
        key = (delivery.handler_id, delivery.ordering_key)
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = Line(key)
        ticket = delivery.ticket = Ticket(delivery, line)
        line.tickets[ticket] = None
        if delivery.parent is not None:
            self.nested[ticket] = None
        return ticket

    def turn(self, ticket: Ticket) -> Turn:
        """Tell what a delivery is to do now."""
        if ticket.state == "storing":
            return "wait"
        if ticket.delivery.state is not None:
            return "settled"
        if ticket.line.storing:
            return "wait"
        if ticket.never_runs:
            return "store"
        if not all(other.delivery.redelivered for other in ticket.ahead()):
            return "wait"
        if not ticket.delivery.redelivered and self._has_to_be_stored(ticket):
            return "store"
        return "run" if next(iter(ticket.line.tickets)) is ticket else "wait"

    def _has_to_be_stored(self, ticket: Ticket) -> bool:
        if self._is_blocked is None:
            return False
        return ticket.must_store or self._is_blocked(*ticket.line.key)

    def begin(self, ticket: Ticket) -> None:
        """Let a delivery whose turn it is run."""
        ticket.state = "running"
        self.nested.pop(ticket, None)

    def never_run(self, ticket: Ticket) -> None:
        """Have a delivery stored that would wait for itself."""
        ticket.never_runs = True
        ticket.line.never_run.append(ticket)

    def leave(self, tickets: Iterable[Ticket]) -> None:
        """Take the places of settled deliveries of one line away.

        When one of them is in the store, those behind have to go there too.
        """
        line: Line | None = None
        is_stored = False
        for ticket in tickets:
            if ticket.delivery.ticket is not ticket:
                continue
            line = ticket.line
            is_stored = is_stored or ticket.delivery.state in ("dead_lettered", "accepted", "parked")
            self._remove(ticket)
        if line is None:
            return
        if is_stored:
            for ticket in line.tickets:
                ticket.must_store = True
        if line.tickets:
            line.call()
        else:
            del self._lines[line.key]

    def _remove(self, ticket: Ticket) -> None:
        del ticket.line.tickets[ticket]
        ticket.delivery.ticket = None
        self.nested.pop(ticket, None)
        if ticket.never_runs:
            ticket.line.never_run.remove(ticket)

    # -- storing

    def take(
        self,
        line: Line,
        wanted: Callable[[Ticket], bool],
        *,
        past_others: bool = False,
        at_most: int = _MOST_STORED_AT_ONCE,
    ) -> Sequence[Ticket]:
        """Return those in line that can be stored and are wanted, in order; nobody else moves meanwhile.

        It ends before the first that can be stored and is not wanted, unless ``past_others``.
        """
        taken: list[Ticket] = []
        for ticket in line.tickets:
            if not ticket.can_be_stored:
                continue
            if wanted(ticket):
                taken.append(ticket)
            elif not past_others:
                break
            if len(taken) == at_most:
                break
        for ticket in taken:
            ticket.state = "storing"
        line.storing += 1
        return taken

    def give_back(self, line: Line, taken: Sequence[Ticket]) -> None:
        """Let those that were stored leave; those of whom that is not known are stored again."""
        line.storing -= 1
        for ticket in taken:
            ticket.state = "waiting"
            ticket.must_store = True
        self.leave([ticket for ticket in taken if ticket.delivery.state is not None])
        for ticket in taken:
            ticket.call()
        line.call()
