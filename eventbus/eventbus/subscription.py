"""A subscription: a handler, what it listens to, and how its deliveries are to be run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypedDict, cast

from eventbus.circuit import CircuitPolicy, check_circuit
from eventbus.classify.rules import checked_rules
from eventbus.envelope import check_text
from eventbus.errors import InvalidEvent
from eventbus.event_types import check_event_name, is_event_class
from eventbus.handlers import Binding, Handler, bind, default_id, describe, is_stable
from eventbus.ordering import OrderingKey, check_ordering
from eventbus.patterns import check_pattern, is_pattern
from eventbus.retry import check_policy

if TYPE_CHECKING:
    from eventbus.classify import ClassifyRule
    from eventbus.envelope import Envelope
    from eventbus.retry import RetryPolicy


class SubscriptionOptions(TypedDict, total=False):
    """The keyword arguments of ``bus.on`` and ``bus.subscribe``; each is explained at Subscription."""

    id: str
    aliases: Sequence[str]
    retry: RetryPolicy
    timeout: float | None
    max_concurrency: int | None
    when: Callable[[Envelope], bool] | None
    once: bool
    stage: int
    priority: int
    tags: Sequence[str]
    classify: Sequence[ClassifyRule]
    durable: bool
    ordering_key: OrderingKey | None
    redelivery: RetryPolicy | None
    circuit: CircuitPolicy | Literal[False] | None


@dataclass(eq=False, slots=True, kw_only=True)
class Subscription:
    """A handler on a bus. Made by ``bus.on`` and ``bus.subscribe``.

    Attributes:
        id: names the handler across restarts; unique on its bus.
        events: what it listens to: classes, names and patterns.
        binding: how the handler is called.
        aliases: ids it had before; dead letters stored under them come to it.
        retry: attempts within the process; None for the bus's policy.
        timeout: seconds one attempt may take; None for no limit.
        max_concurrency: how many of its deliveries run at a time in this process; None for no limit.
        when: takes the envelope; a delivery for which it returns False is skipped.
        once: only the first event in this process is delivered.
        stage: handlers of one event run stage by stage, 0 first.
        priority: urgency of its deliveries, 1 (high) to 10 (low).
        tags: free words to find its failures by.
        classify: rules that say what kind of failure an exception is, asked before the bus's.
        durable: its deliveries are committed to the dead-letter store before ``publish`` returns, and run
            by workers: at least once, even if the process dies. ``timeout``, ``retry`` and the rest apply
            there; ``stage`` does not, ``when`` and ``once`` are asked at the publish.
        ordering_key: deliveries with the same key run one at a time, in the order in which they were
            published: the name of a field of the event, or a function of the event that returns a text,
            an int or None for no order. When one is dead-lettered, later ones of its key are stored
            behind it without running. ``publish(ordering_key=...)`` goes before it.
        redelivery: the schedule by which its stored failures are tried again; None for that of its event, of
            all, or of the dead-letter queue. ``bus.configure(handler=...)`` goes before it.
        circuit: what happens when deliveries keep failing with transient errors. None runs those that are
            stored by ``CircuitPolicy()``: one at a time tries, until the other side answers. A policy of its
            own does the same, and applies to what is published, too: while the circuit is open it is stored
            without running (``parked`` in the receipt), and workers run it when that closes. False
            has no circuit at all: a worker runs whatever is due.
        spent: whether a ``once`` subscription has had its event.
        rules: what classification asks of a failure: ``classify``, and then the rules of the bus.
    """

    id: str
    events: tuple[type[Any] | str, ...]
    binding: Binding
    aliases: tuple[str, ...] = ()
    retry: RetryPolicy | None = None
    timeout: float | None = None
    max_concurrency: int | None = None
    when: Callable[[Envelope], bool] | None = None
    once: bool = False
    stage: int = 0
    priority: int = 5
    tags: tuple[str, ...] = ()
    classify: tuple[ClassifyRule, ...] = ()
    durable: bool = False
    ordering_key: OrderingKey | None = None
    redelivery: RetryPolicy | None = None
    circuit: CircuitPolicy | Literal[False] | None = None
    spent: bool = field(default=False, repr=False)
    rules: tuple[ClassifyRule, ...] = field(default=(), repr=False)

    @property
    def handler(self) -> Handler:
        """The callable that was subscribed."""
        return self.binding.handler

    @property
    def place(self) -> str:
        """The handler's name and line, for messages."""
        return describe(self.handler)


_KNOWN = frozenset(SubscriptionOptions.__annotations__)


def make_subscription(
    events: Sequence[type[Any] | str], handler: Handler, options: SubscriptionOptions, *, need_stable_id: bool
) -> Subscription:
    """Check what was asked for and make the subscription of it.

    Raises:
        TypeError: the handler cannot be called with an event, or an option does not exist.
        ValueError: an option's value makes no sense, or the id would not survive a restart.
        InvalidEvent: what it is to listen to is no event.
    """
    unknown = set(options) - _KNOWN
    if unknown:
        raise TypeError(
            f"unknown option {', '.join(sorted(unknown))}; there are: {', '.join(sorted(_KNOWN))}"
        )
    if not events:
        raise InvalidEvent(f"handler {describe(handler)} listens to nothing; name an event class or a name")
    for event in events:
        _check_event(event)
    binding = bind(handler)
    checked: dict[str, Any] = dict(options)
    for name in ("aliases", "tags", "classify"):
        value: Any = checked.get(name, ())
        if not isinstance(value, (tuple, list)):
            raise ValueError(f"{name}={value!r} must be a tuple or a list")
        checked[name] = tuple(cast("Sequence[object]", value))
    checked["id"] = _checked_id(handler, options.get("id"), need_stable_id)
    subscription = Subscription(events=tuple(events), binding=binding, **checked)
    _check_values(subscription)
    return subscription


def _check_event(event: object) -> None:
    if isinstance(event, str):
        if is_pattern(event):
            check_pattern(event)
        else:
            check_event_name(event)
    elif not isinstance(event, type) or not is_event_class(event):
        raise InvalidEvent(
            f"cannot listen to {event!r}: name a pydantic model, a dataclass, an event name or a pattern"
        )


def _checked_id(handler: Handler, given: str | None, need_stable_id: bool) -> str:
    handler_id = default_id(handler) if given is None else given
    check_text("handler id", handler_id)
    assert handler_id is not None
    if given is None and need_stable_id and not is_stable(handler_id):
        raise ValueError(
            f"handler {describe(handler)} is a lambda or a local function, whose name does not survive a "
            "restart; pass id= so that its dead letters find it again"
        )
    return handler_id


def _check_values(subscription: Subscription) -> None:
    timeout, limit = subscription.timeout, subscription.max_concurrency
    if timeout is not None and not (math.isfinite(timeout) and timeout > 0):
        raise ValueError(f"timeout={timeout!r} must be a number of seconds above 0, or None")
    if limit is not None and (type(limit) is not int or limit < 1):
        raise ValueError(f"max_concurrency={limit!r} must be an int from 1 up, or None")
    if type(subscription.stage) is not int or subscription.stage < 0:
        raise ValueError(f"stage={subscription.stage!r} must be an int from 0 up")
    if type(subscription.priority) is not int or not 1 <= subscription.priority <= 10:
        raise ValueError(f"priority={subscription.priority!r} must be an int from 1 (high) to 10 (low)")
    for text in (*subscription.tags, *subscription.aliases):
        check_text("a tag or alias", text)
    checked_rules(subscription.classify)
    if type(subscription.durable) is not bool:
        raise ValueError(f"durable={subscription.durable!r} must be True or False")
    for name in ("retry", "redelivery"):
        if getattr(subscription, name) is not None:
            check_policy(name, getattr(subscription, name))
    check_circuit(subscription.circuit, f"handler {subscription.id!r}")
    if subscription.ordering_key is not None:
        check_ordering(subscription.ordering_key, subscription.events, f"handler {subscription.id!r}")
