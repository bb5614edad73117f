"""Whether a delivery would wait for itself, if it waited for its turn in an order, or for a place.

The handler of a nested delivery's publisher waits for it. When what is ahead of the delivery waits for
that handler in turn, nobody would ever move: directly, when the handler publishes to itself under the
key that it runs with, or through any number of handlers that do so for each other. It is asked once, by
whoever is about to close the circle, and only of deliveries that a handler publishes.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from eventbus.delivery import Delivery
    from eventbus.lines import Lines, Ticket
    from eventbus.subscription import Subscription


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


def place_never_comes(delivery: Delivery, running: Sequence[Delivery]) -> bool:
    """Tell whether a delivery must not wait for a place of its handler, because none would come free.

    That is so when everyone who has one waits, over however many corners, for the delivery's publisher.

    Args:
        delivery: it is about to wait for a place.
        running: the deliveries that wait for something right now.
    """
    publishers = list(_publishers(delivery))
    if not publishers:
        return False
    still = {*running, *publishers, delivery}
    waits = _Waits(still, delivery)
    while moving := {it for it in still if waits.will_end(it, still)}:
        still -= moving
        if delivery not in still:
            return False
    return True


class _Waits:
    """What deliveries wait for.

    Args:
        at_work: all of them.
        delivery: the one among them that is about to wait for a place.
    """

    def __init__(self, at_work: Iterable[Delivery], delivery: Delivery) -> None:
        self._delivery = delivery
        self._nested: dict[Delivery | None, list[Delivery]] = defaultdict(list)
        self._with_place: dict[Subscription, list[Delivery]] = defaultdict(list)
        self._with_thread: list[Delivery] = []
        for other in at_work:
            self._nested[other.parent].append(other)
            if other.has_place:
                self._with_place[other.route.subscription].append(other)
            if other.has_thread:
                self._with_thread.append(other)

    def will_end(self, delivery: Delivery, still: set[Delivery]) -> bool:
        """Tell whether what a delivery waits for comes, unless by one of ``still``."""
        if delivery.waits_for_place or delivery is self._delivery:
            subscription = delivery.route.subscription
            taken = self._with_place[subscription]
            return len(taken) != subscription.max_concurrency or not still.issuperset(taken)
        if delivery.waits_for_thread:
            return not still.issuperset(self._with_thread)
        ticket = delivery.ticket
        if ticket is not None and ticket.state == "waiting":
            return still.isdisjoint(other.delivery for other in ticket.ahead())
        return still.isdisjoint(self._nested[delivery])


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
    if delivery.waits_for_thread:
        yield from _all_in_threads(lines, at_work)
    for nested in _nested(lines, at_work):
        if delivery in _publishers(nested):
            yield nested


def _nested(lines: Lines, at_work: Sequence[Delivery]) -> Iterator[Delivery]:
    """Return the deliveries for which handlers that have published them may have to wait."""
    yield from (ticket.delivery for ticket in lines.nested)
    yield from (other for other in at_work if other.waits_for_place)


def _all_in_threads(lines: Lines, at_work: Sequence[Delivery]) -> Sequence[Delivery]:
    """Return the deliveries that have a thread; none when one of them waits for nobody, and will end."""
    in_threads = [other for other in at_work if other.has_thread]
    waiting = {publisher for nested in _nested(lines, at_work) for publisher in _publishers(nested)}
    return in_threads if waiting.issuperset(in_threads) else ()


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
