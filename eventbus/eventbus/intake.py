"""Taking events in: which type an event has, who wants it, and the envelope it travels in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from eventbus.context import current_delivery
from eventbus.envelope import NO_HEADERS, Metadata, checked_metadata
from eventbus.errors import InvalidEvent
from eventbus.event_types import EventType, EventTypes
from eventbus.log import Log
from eventbus.ordering import as_key
from eventbus.plan import Plan

if TYPE_CHECKING:
    from eventbus.plan import CompilePlan, Deliver, Publish, RouteMaker
    from eventbus.registry import Registry

_log = Log()
_MAX_PLANS = 10_000


class PublishOptions(TypedDict, total=False):
    """What a publisher may say about an event; each is explained at Envelope."""

    correlation_id: str | None
    causation_id: str | None
    source: str | None
    tenant: str | None
    user_id: str | None
    ordering_key: str | int | None
    priority: int | None
    tags: Sequence[str]
    headers: Mapping[str, str] | None
    id: str | None


class SessionOptions(PublishOptions, total=False):
    """The keyword arguments of ``bus.publish``: those of :class:`PublishOptions`, and a session."""

    session: Any


def _refuse(_plan: Plan) -> tuple[Publish, Deliver]:
    raise AssertionError("events are planned while the bus runs")


class Plans:
    """The plan of every event type, made when the first such event comes."""

    def __init__(self, types: EventTypes, registry: Registry, routes: RouteMaker) -> None:
        self._types = types
        self._registry = registry
        self._routes = routes
        self._plans: dict[type[Any] | str, Plan] = {}
        self._ordered: dict[EventType, Plan] = {}
        self.has_ordered = False
        """Whether an event was published with an ordering key of its own."""
        self._told: set[str] = set()
        self._compile_plan: CompilePlan = _refuse
        self._keeps = False
        self.known = self._plans.get
        """Returns the plan of a class that was published before; nothing while the bus is closed."""

    def use(self, compile_plan: CompilePlan) -> None:
        """Make all plans anew, for a bus that has just started."""
        self._compile_plan = compile_plan
        self._keeps = True
        self.forget()

    def close(self) -> None:
        """Know nothing from now on, so that every publish is looked into: the bus is stopping."""
        self._keeps = False
        self.forget()

    def forget(self) -> None:
        """Make all plans anew: somebody subscribed or unsubscribed."""
        self._plans.clear()
        self._ordered.clear()

    def of_class(self, cls: type[Any]) -> Plan:
        """Return the plan of events of a class."""
        return self._make(cls, self._types.of_class(cls))

    def named(self, name: str) -> Plan:
        """Return the plan of events of a name."""
        return self._plans.get(name) or self._make(name, self._types.named(name))

    def ordered(self, plan: Plan) -> Plan:
        """Return the plan of the same events with a key from their publisher: every handler keeps order."""
        self.has_ordered = True
        if plan.is_ordered:
            return plan
        event_type = plan.event_type
        found = self._ordered.get(event_type)
        if found is None:
            found = self._planned(event_type, is_ordered=True)
            if len(self._ordered) >= _MAX_PLANS:
                self._ordered.clear()
            if self._keeps:
                self._ordered[event_type] = found
        return found

    def _planned(self, event_type: EventType, *, is_ordered: bool = False) -> Plan:
        routes = [self._routes.make(found, event_type) for found in self._registry.match(event_type)]
        return Plan(event_type, routes, self._compile_plan, is_ordered=is_ordered)

    def _make(self, key: type[Any] | str, event_type: EventType) -> Plan:
        plan = self._planned(event_type)
        if len(self._plans) >= _MAX_PLANS:  # names may be endless
            self._plans.clear()
        if self._keeps:
            self._plans[key] = plan
        if not plan.routes and event_type.name not in self._told and len(self._told) < _MAX_PLANS:
            self._told.add(event_type.name)
            _log.warning("event.unhandled", event_name=event_type.name)
        return plan


def typed_event(plans: Plans, event: Any, data: Any) -> tuple[Plan, Any]:
    """Return the plan and the payload of what a publisher gave: an event, or a name with its data.

    Raises:
        InvalidEvent: it is no event, or the data does not fit the class of that name.
    """
    if isinstance(event, str):
        plan = plans.named(event)
        return plan, plan.event_type.codec.validate(data)
    event_class = _class_of(event, data)
    return plans.known(event_class) or plans.of_class(event_class), event


def payload_of(types: EventTypes, event: Any, data: Any) -> tuple[EventType, Any]:
    """Return the type and the payload of what a publisher gave, in any thread.

    Raises:
        InvalidEvent: it is no event, or the data does not fit the class of that name.
    """
    if isinstance(event, str):
        event_type = types.named(event)
        return event_type, event_type.codec.validate(data)
    return types.of_class(_class_of(event, data)), event


def _class_of(event: Any, data: Any) -> type[Any]:
    if data is not None:
        raise InvalidEvent(
            f"publish({type(event).__qualname__}(...), data) has two payloads; data goes with a name"
        )
    if isinstance(event, type):
        raise InvalidEvent(f"publish({event.__qualname__}) got the class; publish an instance of it")
    event_class: type[Any] = event.__class__
    return event_class


def made_metadata(
    id: str | None = None,
    correlation_id: str | None = None,
    causation_id: str | None = None,
    source: str | None = None,
    tenant: str | None = None,
    user_id: str | None = None,
    ordering_key: str | int | None = None,
    priority: int | None = None,
    tags: Sequence[str] = (),
    headers: Mapping[str, str] | None = None,
    **unknown: object,
) -> Metadata:
    """Return checked metadata, with what an event published by a handler takes over from its parent.

    Raises:
        InvalidEvent: for a value that could not be stored.
        TypeError: for an option that does not exist.
    """
    if "session" in unknown:
        raise TypeError(
            "session= belongs to publish(), which writes the deliveries in its transaction; what is enqueued "
            "or captured is in none"
        )
    if unknown:
        known = ", ".join(sorted(PublishOptions.__annotations__))
        raise TypeError(f"unknown option {', '.join(sorted(unknown))} of a publish; there are: {known}")
    delivery = current_delivery.get()
    if delivery is not None:
        parent = delivery.envelope
        correlation_id = correlation_id or parent.correlation_id
        causation_id = causation_id or parent.id
        tenant = parent.tenant if tenant is None else tenant
        headers = {**_trace_headers(parent.headers), **(headers or {})}
    return checked_metadata(
        Metadata(
            id=id,
            correlation_id=correlation_id,
            causation_id=causation_id,
            source=source,
            tenant=tenant,
            user_id=user_id,
            ordering_key=None if ordering_key is None else as_key(ordering_key, "ordering_key"),
            priority=priority,
            tags=tuple(tags) if not isinstance(tags, str) else (tags,),
            headers=headers or NO_HEADERS,
        )
    )


_TRACE_HEADERS = ("traceparent", "tracestate", "baggage")


def _trace_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    return {name: headers[name] for name in _TRACE_HEADERS if name in headers} if headers else headers
