"""Whether a delivery would wait for itself, if it waited for its turn in an order.

The handler of a nested delivery's publisher waits for it. When what is ahead of the delivery waits for
that handler in turn, nobody would ever move: directly, when the handler publishes to itself under the
key that it runs with, or through any number of handlers that do so for each other. It is asked once, by
whoever is about to close the circle, and only of deliveries that a handler publishes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from eventbus.delivery import Delivery
    from eventbus.lines import Lines, Ticket


def waits_for_itself(
    ticket: Ticket, lines: Lines, running: Sequence[Delivery], *, queue_is_busy: bool
) -> bool:
    """Tell whether anything ahead of a delivery waits, over however many corners, for its publisher.

    Args:
        ticket: the delivery's place.
        lines: all lines.
        running: the deliveries that wait for something right now.
        queue_is_busy: whether an enqueued event is only delivered when another one has been.
    """
    publishers = set(_publishers(ticket.delivery))
    if not publishers:
        return False
    seen: set[Delivery] = set()
    at_work = (*running, *publishers)  # a handler that has not waited yet is not among the former
    found = [other.delivery for other in ticket.ahead()]
    while found:
        delivery = found.pop()
        if delivery in publishers:
            return True
        if delivery in seen or delivery.state is not None:
            continue
        seen.add(delivery)
        found.extend(_waited_for(delivery, lines, at_work, queue_is_busy))
    return False


def _publishers(delivery: Delivery) -> Iterator[Delivery]:
    """Return the deliveries whose handlers have published it, and have not settled."""
    publisher = delivery.parent
    while publisher is not None:
        if publisher.state is None:
            yield publisher
        publisher = publisher.parent


def _waited_for(
    delivery: Delivery, lines: Lines, at_work: Sequence[Delivery], queue_is_busy: bool
) -> Iterator[Delivery]:
    """Return what a delivery waits for."""
    ticket = delivery.ticket
    if ticket is not None and ticket.state == "waiting":
        yield from _in_line(ticket, at_work, queue_is_busy)
    if delivery.waits_for_place:
        subscription = delivery.route.subscription
        yield from (other for other in at_work if other.route.subscription is subscription)
    for nested in lines.nested:
        if delivery in _publishers(nested.delivery):
            yield nested.delivery


def _in_line(ticket: Ticket, at_work: Sequence[Delivery], queue_is_busy: bool) -> Iterable[Delivery]:
    for place in (ticket, *ticket.beside):
        yield from (other.delivery for other in place.ahead())
    if not ticket.begun:
        yield from ticket.after
    if ticket.queued and queue_is_busy:
        yield from (delivery for delivery in at_work if _root(delivery).from_queue)


def _root(delivery: Delivery) -> Delivery:
    while delivery.parent is not None:
        delivery = delivery.parent
    return delivery
