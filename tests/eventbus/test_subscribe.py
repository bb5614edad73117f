"""Subscribing: every kind of handler, and everything that is refused."""

from __future__ import annotations

import functools
import threading
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

from eventbus import DuplicateHandler, Envelope, EventBus, InvalidEvent, Subscription
from eventbus_dlq import DeadLetterQueue

SEEN: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_seen_yet() -> None:
    SEEN.clear()


class OrderPlaced(BaseModel):
    order_id: int


async def async_function(event: Any) -> None:
    SEEN.append((event, None))


async def async_with_envelope(event: Any, envelope: Envelope) -> None:
    SEEN.append((event, envelope))


async def async_by_annotation(event: Any, meta: Envelope = None) -> None:  # type: ignore[assignment]  # a way to write it
    SEEN.append((event, meta))


async def async_by_text_annotation(event: Any, meta: "Envelope" = None) -> None:  # type: ignore[assignment]  # noqa: UP037 - a way to write it
    SEEN.append((event, meta))


async def async_by_name(event: Any, envelope=None) -> None:  # type: ignore[no-untyped-def]  # a way to write it
    SEEN.append((event, envelope))


async def async_two_required(event: Any, whatever: Any) -> None:
    SEEN.append((event, whatever))


async def async_with_option(event: Any, limit: int = 3) -> None:
    assert limit == 3
    SEEN.append((event, None))


async def async_starred(*events: Any) -> None:
    (event,) = events
    SEEN.append((event, None))


def plain_function(event: Any) -> None:
    SEEN.append((event, None))


def plain_with_envelope(event: Any, envelope: Envelope) -> None:
    SEEN.append((event, envelope))


def plain_returning_coroutine(event: Any) -> Any:
    return async_function(event)


class Service:
    async def bound(self, event: Any) -> None:
        SEEN.append((event, None))

    def bound_plain(self, event: Any, envelope: Envelope) -> None:
        SEEN.append((event, envelope))

    @classmethod
    async def of_class(cls, event: Any) -> None:
        SEEN.append((event, None))

    @staticmethod
    def static(event: Any) -> None:
        SEEN.append((event, None))


class AsyncCallable:
    async def __call__(self, event: Any, envelope: Envelope) -> None:
        SEEN.append((event, envelope))


class PlainCallable:
    def __call__(self, event: Any) -> None:
        SEEN.append((event, None))


async def with_prefix(prefix: str, event: Any, envelope: Envelope) -> None:
    assert prefix == "p"
    SEEN.append((event, envelope))


def plain_with_prefix(prefix: str, event: Any) -> None:
    SEEN.append((event, None))


@functools.wraps(async_function)
async def wrapped(*args: Any, **kwargs: Any) -> None:
    await async_function(*args, **kwargs)


HANDLERS: list[tuple[Any, bool]] = [
    (async_function, False),
    (async_with_envelope, True),
    (async_by_annotation, True),
    (async_by_text_annotation, True),
    (async_by_name, True),
    (async_two_required, True),
    (async_with_option, False),
    (async_starred, False),
    (plain_function, False),
    (plain_with_envelope, True),
    (plain_returning_coroutine, False),
    (Service().bound, False),
    (Service().bound_plain, True),
    (Service.of_class, False),
    (Service.static, False),
    (AsyncCallable(), True),
    (PlainCallable(), False),
    (functools.partial(with_prefix, "p"), True),
    (functools.partial(plain_with_prefix, "p"), False),
    (functools.partial(functools.partial(with_prefix), "p"), True),
    (functools.partial(AsyncCallable()), True),
    (wrapped, False),
    (lambda event: SEEN.append((event, None)), False),
]


@pytest.mark.parametrize(("handler", "wants_envelope"), HANDLERS)
async def test_every_kind_of_handler_is_called_the_way_it_wants(handler: Any, wants_envelope: bool) -> None:
    bus = EventBus()
    bus.subscribe("job", handler, id="handler")
    async with bus:
        receipt = await bus.publish("job", 7)
    receipt.raise_for_failures()
    ((event, envelope),) = SEEN
    assert event == 7
    assert envelope is (receipt.envelope if wants_envelope else None)


async def test_a_builtin_takes_the_event_too() -> None:
    bus, seen = EventBus(), []
    bus.subscribe("job", seen.append, id="append")
    async with bus:
        (await bus.publish("job", 7)).raise_for_failures()
    assert seen == [7]


async def test_a_plain_function_runs_in_a_worker_thread_and_an_async_one_in_the_loops() -> None:
    bus, threads = EventBus(), {}

    @bus.on("job", id="plain")
    def plain(event: Any) -> None:
        threads["plain"] = threading.get_ident()

    @bus.on("job", id="async")
    async def async_(event: Any) -> None:
        threads["async"] = threading.get_ident()

    async with bus:
        (await bus.publish("job", 7)).raise_for_failures()
    assert threads["async"] == threading.get_ident()
    assert threads["plain"] != threading.get_ident()


async def test_what_a_handler_returns_is_ignored() -> None:
    bus = EventBus()

    @bus.on("job", id="handler")
    async def handler(event: Any) -> Any:
        return RuntimeError("returned, not raised")

    async with bus:
        assert (await bus.publish("job", 1)).deliveries["handler"].state == "succeeded"


def no_argument() -> None: ...
def three(a: Any, b: Any, c: Any) -> None: ...
def keyword_needed(event: Any, *, colour: str) -> None: ...


@pytest.mark.parametrize("handler", [no_argument, three, keyword_needed])
def test_a_handler_that_takes_no_event_is_refused_with_its_place(handler: Any) -> None:
    with pytest.raises(TypeError, match=rf"{handler.__name__} \(test_subscribe\.py:\d+\) must take"):
        EventBus().subscribe("job", handler)


def test_what_is_not_callable_is_refused() -> None:
    with pytest.raises(TypeError, match="handler 42 is not callable"):
        EventBus().subscribe("job", 42)  # type: ignore[arg-type]  # the mistake


class NoEvent:
    pass


@pytest.mark.parametrize(
    "event", [NoEvent, 42, None, "", "a..b", "a.b*", "***", "a.**b", "x" * 513, "a\x00b"]
)
def test_what_nobody_can_listen_to_is_refused(event: Any) -> None:
    with pytest.raises(InvalidEvent):
        EventBus().subscribe(event, async_function)


def test_listening_to_nothing_is_refused() -> None:
    with pytest.raises(InvalidEvent, match="listens to nothing"):
        EventBus().on()(async_function)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"colour": "red"}, TypeError, "unknown option colour; there are: aliases, circuit, classify, "),
        ({"sandbox": None}, TypeError, "unknown option sandbox"),
        ({"max_concurrency": 0}, ValueError, "max_concurrency=0"),
        ({"max_concurrency": 1.5}, ValueError, r"max_concurrency=1\.5"),
        ({"stage": -1}, ValueError, "stage=-1"),
        ({"stage": True}, ValueError, "stage=True"),
        ({"priority": 0}, ValueError, "priority=0"),
        ({"priority": 11}, ValueError, "priority=11"),
        ({"tags": "billing"}, ValueError, "tags='billing' must be a tuple or a list"),
        ({"aliases": "old"}, ValueError, "aliases='old' must be a tuple or a list"),
        ({"classify": 5}, ValueError, "classify=5"),
        ({"tags": [""]}, InvalidEvent, "a tag or alias"),
        ({"id": ""}, InvalidEvent, "handler id=''"),
        ({"id": "a\x00"}, InvalidEvent, "handler id"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        EventBus().subscribe("job", async_function, **options)


def test_the_id_is_the_handlers_qualified_name_unless_it_is_given() -> None:
    bus = EventBus()
    assert bus.subscribe("job", async_function).id == f"{__name__}.async_function"
    assert bus.subscribe("job", Service().bound).id == f"{__name__}.Service.bound"
    assert bus.subscribe("job", AsyncCallable()).id == f"{__name__}.AsyncCallable"
    assert bus.subscribe("job", functools.partial(with_prefix, "p")).id == f"{__name__}.with_prefix"
    assert bus.subscribe("job", async_function, id="mine").id == "mine"


def test_a_taken_id_is_refused_with_the_place_of_who_has_it() -> None:
    bus = EventBus()
    bus.subscribe("job", async_function, id="billing.charge", aliases=("old",))
    for taken in ("billing.charge", "old"):
        with pytest.raises(DuplicateHandler, match=rf"{taken}.*function \(test_subscribe\.py:\d+\).*id="):
            bus.subscribe("other", plain_function, id=taken)
        with pytest.raises(DuplicateHandler, match=taken):
            bus.subscribe("other", plain_function, id="new", aliases=(taken,))
    assert len(bus.subscriptions) == 1


def test_a_name_that_survives_no_restart_is_refused_where_letters_are_kept(
    dlq: DeadLetterQueue,
) -> None:
    async def local(event: Any) -> None: ...

    for handler in (local, lambda event: None):
        with pytest.raises(ValueError, match="does not survive a restart; pass id="):
            EventBus(dlq=dlq).subscribe("job", handler)
        EventBus(dlq=dlq).subscribe("job", handler, id="given")
        EventBus().subscribe("job", handler)


async def test_one_decorator_listens_to_classes_names_and_patterns_and_gets_each_event_once() -> None:
    bus, seen = EventBus(), []

    @bus.on(OrderPlaced, "OrderPlaced", "*", "order.**", id="all")
    async def keep(event: Any, envelope: Envelope) -> None:
        seen.append(envelope.name)

    async with bus:
        await bus.publish(OrderPlaced(order_id=1))
        await bus.publish("order.placed.late", 1)
        await bus.publish("unrelated.name", 1)
    assert seen == ["OrderPlaced", "order.placed.late"]


async def test_after_unsubscribing_a_handler_receives_nothing_and_its_id_is_free() -> None:
    bus = EventBus()
    subscriptions = [
        bus.subscribe(OrderPlaced, async_function, id="a", aliases=("old",), max_concurrency=1),
        bus.subscribe("job", async_function, id="b"),
        bus.subscribe("job.*", async_function, id="c"),
    ]
    async with bus:
        await bus.publish(OrderPlaced(order_id=1))
        for subscription in subscriptions:
            bus.unsubscribe(subscription)
            with pytest.raises(ValueError, match="is not subscribed on this bus"):
                bus.unsubscribe(subscription)
        for event in (OrderPlaced(order_id=2), "job", "job.x"):
            assert (await bus.publish(event)).deliveries == {}
    assert len(SEEN) == 1
    assert bus.subscriptions == ()
    bus.subscribe("job", async_function, id="old")


async def test_a_handler_subscribed_while_the_bus_runs_gets_the_next_event() -> None:
    bus = EventBus()
    async with bus:
        await bus.publish("job", 1)
        subscription = bus.subscribe("job", async_function)
        await bus.publish("job", 2)
    assert [event for event, _ in SEEN] == [2]
    assert isinstance(subscription, Subscription)
    assert subscription.handler is async_function


async def test_a_handler_may_unsubscribe_itself_while_it_runs() -> None:
    bus = EventBus()

    @bus.on("job", id="once")
    async def once(event: Any) -> None:
        SEEN.append(event)
        bus.unsubscribe(bus.subscriptions[0])

    async with bus:
        assert (await bus.publish("job", 1)).ok
        await bus.publish("job", 2)
    assert SEEN == [1]


def test_two_classes_under_one_name_are_refused_at_registration() -> None:
    def make(version: int) -> type:
        @dataclass
        class Clash:
            value: int

        return Clash

    first, second = make(1), make(2)
    bus = EventBus()
    bus.subscribe(first, async_function, id="a")
    with pytest.raises(InvalidEvent, match=r"is already that of .*Clash; set event_name"):
        bus.subscribe(second, async_function, id="b")
    assert len(bus.subscriptions) == 1
