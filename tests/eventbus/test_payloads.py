"""Payloads: what is published can be stored, comes back as it went, or is refused at once."""

import json
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

import pydantic
import pytest
from pydantic import BaseModel, ConfigDict, Field, field_serializer

from eventbus.errors import InvalidEvent, PayloadTooLarge, UndecodableEvent, UnknownEvent
from eventbus.event_types import EventType, EventTypes
from eventbus.payloads import MAX_PAYLOAD, ClassCodec, Codec, JsonCodec, PlainCodec, codec_for

MOMENT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def codec_of(cls: type[Any] | None, limit: int = MAX_PAYLOAD) -> Codec:
    return codec_for("event", cls, limit)


class Plain(BaseModel):
    number: int
    text: str = "x"
    ratio: float = 0.5
    at: datetime = MOMENT
    day: date = MOMENT.date()
    hour: time = MOMENT.time()
    wait: timedelta = timedelta(seconds=1.5)
    key: UUID = UUID(int=7)
    flag: bool | None = None
    kind: Literal["a", "b"] = "a"
    short: Annotated[str, Field(max_length=10)] = "y"


class Small(BaseModel):
    number: int
    text: str = "x"
    ratio: float = 0.5


class Colour(Enum):
    RED = "red"


class Line(BaseModel):
    sku: str
    price: Decimal


class Open(BaseModel):
    lines: list[Line]
    colour: Colour = Colour.RED
    extra: dict[str, Any] = {}
    data: bytes = b"abc"


class Aliased(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    order_id: int = Field(alias="orderId")


class Serialized(BaseModel):
    secret: str

    @field_serializer("secret")
    def hide(self, value: str) -> str:
        return value[::-1]


class Extra(BaseModel):
    model_config = ConfigDict(extra="allow")
    number: int = 1


class Excluding(BaseModel):
    kept: int
    left_out: str = Field("x", exclude=True)


@dataclass
class PlainData:
    number: int
    text: str


@dataclass(slots=True, frozen=True)
class SlotsData:
    number: int
    tags: tuple[str, ...] = ()


@dataclass
class OpenData:
    lines: list[Line] = field(default_factory=list)


@pydantic.dataclasses.dataclass
class PydanticData:
    number: int
    when: datetime = MOMENT


@pytest.mark.parametrize(
    "event",
    [
        Plain(number=1),
        Plain(number=2**63, text="ü" * 50, flag=True),
        Open(lines=[Line(sku="a", price=Decimal("9.90"))], extra={"a": [1, None, {"b": 2.5}]}),
        Aliased(orderId=3),
        Extra(number=2, other=[1, 2]),  # type: ignore[call-arg]  # what extra="allow" is for
        PlainData(1, "a"),
        SlotsData(1, ("a", "b")),
        OpenData([Line(sku="a", price=Decimal(1))]),
        PydanticData(4),
    ],
    ids=lambda event: type(event).__name__,
)
def test_an_event_comes_back_from_its_bytes_as_it_went(event: Any) -> None:
    codec = codec_of(type(event))
    checked = codec.check(event)
    encoded = codec.encode(event)
    assert checked in (None, encoded)
    assert codec.decode(encoded) == event


@pytest.mark.parametrize(
    ("cls", "codec"),
    [
        (Plain, PlainCodec),
        (PlainData, PlainCodec),
        (Open, ClassCodec),
        (Serialized, ClassCodec),
        (Extra, ClassCodec),
        (SlotsData, ClassCodec),
        (None, JsonCodec),
    ],
)
def test_only_scalars_of_a_known_size_go_unencoded(cls: Any, codec: type) -> None:
    assert type(codec_of(cls)) is codec


@pytest.mark.parametrize(
    ("event", "encoded"),
    [
        (Small(number=1), False),
        (Small(number=2**64), True),
        (Small(number=1, text="ümlaut"), True),
        (Small(number=1, text="x" * 200_000), True),
        (PlainData(1, "a"), False),
    ],
)
def test_what_cannot_be_told_by_looking_is_encoded_on_the_spot(event: Any, encoded: bool) -> None:
    checked = codec_of(type(event)).check(event)
    assert (checked is not None) is encoded


@pytest.mark.parametrize(
    "event",
    [
        Plain.model_construct(number=object()),
        PlainData(1, object()),  # type: ignore[arg-type]  # annotations bind nobody
        Open(lines=[], extra={"x": object()}),
        Plain(number=1, text="\ud800"),
        Open(lines=[], extra={"x": "\ud800"}),
        Open(lines=[], data=b"\xff\xfe"),
    ],
    ids=["field", "dataclass-field", "extra", "surrogate", "surrogate-in-extra", "bytes"],
)
def test_what_could_not_be_stored_is_refused_when_it_is_published(event: Any) -> None:
    codec = codec_of(type(event))
    with pytest.raises(InvalidEvent, match="'event'"):
        codec.check(event)


@pytest.mark.parametrize(
    "event",
    [
        Plain.model_construct(number=1, text=["not", "a", "text"]),
        Plain.model_construct(number="1"),
        Open.model_construct(lines="none", colour=Colour.RED, extra={}, data=b""),
    ],
    ids=["list-for-text", "text-for-int", "text-for-list"],
)
def test_wrong_types_that_json_can_carry_are_kept_as_they_are_and_quoted_nowhere(event: Any) -> None:
    codec = codec_of(type(event))
    encoded = codec.check(event)  # a warning would quote the value, and is an error here
    assert encoded is not None
    assert json.loads(encoded)


def test_a_field_that_would_be_lost_is_refused_before_anything_is_published() -> None:
    with pytest.raises(InvalidEvent, match="Excluding has a field with exclude=True"):
        codec_of(Excluding)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_json_cannot_carry_are_refused(value: float) -> None:
    with pytest.raises(InvalidEvent, match="which JSON cannot carry"):
        codec_of(Plain).check(Plain(number=1, ratio=value))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["value", "list", "deep"])
def test_such_numbers_are_refused_in_open_payloads_too(value: float, where: str) -> None:
    data: Any = {"value": value, "list": [1.0, value], "deep": {"a": [{"b": value}]}}[where]
    with pytest.raises(InvalidEvent):
        codec_of(None).check({"data": data})
    with pytest.raises(InvalidEvent):
        codec_of(Open).check(Open(lines=[], extra={"data": data}))


def test_a_nul_in_a_text_is_stored_and_comes_back() -> None:
    for event in (Plain(number=1, text="a\x00b"), Open(lines=[], extra={"t": "a\x00b"})):
        codec = codec_of(type(event))
        codec.check(event)
        assert codec.decode(codec.encode(event)) == event


def test_a_payload_that_holds_itself_is_refused() -> None:
    loop: dict[str, Any] = {}
    loop["self"] = loop
    with pytest.raises(InvalidEvent):
        codec_of(None).check(loop)
    with pytest.raises(InvalidEvent):
        codec_of(Open).check(Open.model_construct(lines=[], extra=loop))


def test_a_payload_nested_too_deeply_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(InvalidEvent):
        codec_of(None).check(deep)


@pytest.mark.parametrize("event", [{"text": "x" * 100}, PlainData(1, "x" * 100), SlotsData(1, ("x" * 100,))])
def test_the_limit_is_on_encoded_bytes_to_the_byte(event: Any) -> None:
    cls = None if isinstance(event, dict) else type(event)
    size = len(codec_of(cls).encode(event))
    assert codec_of(cls, size).check(event) is not None
    with pytest.raises(PayloadTooLarge, match=f"has {size} bytes, at most {size - 1}"):
        codec_of(cls, size - 1).check(event)


@pytest.mark.parametrize("data", [None, 1, 1.5, "text", True, [], {}, [1, {"a": None}], (1, 2)])
def test_json_values_are_taken_as_they_are(data: Any) -> None:
    codec = codec_of(None)
    assert codec.validate(data) is data
    assert codec.decode(codec.encode(data)) == (list(data) if isinstance(data, tuple) else data)


def test_what_is_nested_as_deeply_as_it_can_be_stored_comes_back() -> None:
    codec = codec_of(None)
    deep: Any = 1
    for _ in range(230):
        deep = [deep]
    assert codec.decode(codec.encode(deep)) == deep


@pytest.mark.parametrize("cls", [None, PlainData])
@pytest.mark.parametrize("payload", [b"", b'{"number":', b"\xff\xfe\x00", b"[" * 100_000])
def test_stored_bytes_that_are_no_json_are_undecodable(cls: type[Any] | None, payload: bytes) -> None:
    with pytest.raises(UndecodableEvent, match="is not JSON"):
        codec_of(cls).decode(payload)


@pytest.mark.parametrize("data", [{1: 2}, {"a": {2: 3}}, b"x", {1, 2}, MOMENT, Decimal(1), Colour.RED, Plain])
def test_what_would_come_back_as_something_else_is_refused(data: Any) -> None:
    with pytest.raises(InvalidEvent):
        codec_of(None).check(data)


def test_the_message_of_what_no_longer_fits_quotes_no_input() -> None:
    with pytest.raises(UndecodableEvent, match="number: ") as caught:
        codec_of(PlainData).decode(b'{"number": "hunter2", "text": "x"}')
    assert "hunter2" not in str(caught.value)


def test_a_class_that_pydantic_cannot_read_is_refused_at_registration() -> None:
    @dataclass
    class Odd:
        thing: "NoSuchThing"  # type: ignore[name-defined]  # noqa: F821 - the mistake

    with pytest.raises(InvalidEvent, match="pydantic cannot make a schema"):
        EventType.of_class(Odd)


class TestEventTypes:
    def test_a_name_is_the_attribute_or_the_qualified_name(self) -> None:
        class Named(BaseModel):
            event_name: ClassVar[str] = "order.placed"
            event_version: ClassVar[int] = 4

        assert (EventType.of_class(Named).name, EventType.of_class(Named).version) == ("order.placed", 4)
        assert EventType.of_class(PlainData).name == "PlainData"
        assert repr(EventType.of_class(Named)) == "<EventType order.placed v4>"

    @pytest.mark.parametrize("version", [0, -1, "1", 1.0, True])
    def test_a_version_counts_from_one(self, version: Any) -> None:
        class Odd(BaseModel):
            event_version: ClassVar[Any] = version

        with pytest.raises(InvalidEvent, match="event_version"):
            EventType.of_class(Odd)

    @pytest.mark.parametrize("name", ["", "a..b", "a.*", 7])
    def test_a_name_is_segments_joined_by_dots(self, name: Any) -> None:
        class Odd(BaseModel):
            event_name: ClassVar[Any] = name

        with pytest.raises(InvalidEvent):
            EventType.of_class(Odd)

    def test_a_subclass_with_its_parents_name_is_refused(self) -> None:
        class Parent(BaseModel):
            event_name: ClassVar[str] = "same"

        class Child(Parent):
            pass

        types = EventTypes()
        types.of_class(Parent)
        assert types.of_class(Parent) is types.named("same")
        with pytest.raises(InvalidEvent, match="'same'"):
            types.of_class(Child)

    def test_a_subclass_of_a_known_class_is_found_by_its_name(self) -> None:
        class Base(BaseModel):
            number: int

        class Middle(Base):
            event_name: ClassVar[str] = "middle"

        class Leaf(Middle):
            event_name: ClassVar[str] = "leaf"

        types = EventTypes()
        types.of_class(Base)
        found = types.find("leaf")
        assert found is not None
        assert found.cls is Leaf
        assert types.find("unknown") is None
        event_type, event = types.decode("middle", 1, b'{"number": 3}')
        assert (event_type.cls, event) == (Middle, Middle(number=3))

    def test_an_unknown_name_decodes_to_its_json(self) -> None:
        event_type, data = EventTypes().decode("unknown", 3, b'{"a": 1}')
        assert (event_type.cls, data) == (None, {"a": 1})

    def test_a_missing_upcast_leaves_it_to_the_class(self) -> None:
        class V2(BaseModel):
            event_version: ClassVar[int] = 2
            event_name: ClassVar[str] = "v"
            number: int
            added: str = "default"

        types = EventTypes()
        types.of_class(V2)
        assert types.decode("v", 1, b'{"number": 1}')[1] == V2(number=1)
        with pytest.raises(UndecodableEvent):
            types.decode("v", 1, b'{"wrong": 1}')
        with pytest.raises(UnknownEvent):
            types.add_upcast("w", 1, dict)

    def test_endless_names_are_not_kept_for_ever(self) -> None:
        types = EventTypes()
        for number in range(10_001):
            types.named(f"n{number}")
        assert types.named("n1").name == "n1"
