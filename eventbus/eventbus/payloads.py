"""How payloads become bytes and come back: one codec per event type, chosen once.

A payload is checked when it is published, because a failure must be storable when it happens.
Scalars of a known size cost a look; text costs its length; everything open is encoded on the spot
and the bytes are kept, so that a handler that changes the event cannot change what is stored.
"""

from __future__ import annotations

import json
import re
from math import isfinite
from typing import TYPE_CHECKING, Any, Protocol, cast

import pydantic
import pydantic_core
from pydantic_core import PydanticSerializationError

from eventbus.errors import InvalidEvent, PayloadTooLarge, UndecodableEvent
from eventbus.plain import compile_check, most_characters, plain_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

MAX_PAYLOAD = 1_048_576
"""The largest encoded payload, in bytes, unless the dead-letter queue says otherwise."""

_CONSTANTS = re.compile(rb"NaN|Infinity")


MASK = b'"**********"'
"""What pydantic writes in place of a secret; a payload that has it cannot be run again as it is."""


class Codec(Protocol):
    """Checks, encodes and decodes the payloads of one event type."""

    @property
    def has_secrets(self) -> bool:
        """Whether its class has fields such as ``SecretStr``, which are masked when they are encoded."""
        ...

    def check(self, payload: Any) -> bytes | None:
        """Make sure that ``payload`` can be stored.

        Returns the encoded bytes when it had to encode, None when it could tell without.

        Raises:
            InvalidEvent: it cannot be encoded.
            PayloadTooLarge: its encoding is larger than the limit.
        """
        ...

    def encode(self, payload: Any) -> bytes:
        """Return ``payload`` as JSON.

        Raises:
            InvalidEvent: it cannot be encoded.
        """
        ...

    def decode(self, payload: bytes) -> Any:
        """Turn stored JSON into the event object of today's class.

        Raises:
            UndecodableEvent: it is no JSON, or does not fit the class.
        """
        ...

    def validate(self, data: Any) -> Any:
        """Turn what a publisher gave for a named event into the event object.

        Raises:
            InvalidEvent: it does not fit the class.
        """
        ...


_NOT_JSON = (PydanticSerializationError, TypeError, ValueError, RecursionError)
_QUOTED = re.compile(r"input_value=.*?(?=, input_type=|\])", re.DOTALL)


def _not_storable(name: str, error: Exception) -> InvalidEvent:
    return InvalidEvent(
        f"the payload of {name!r} cannot be stored: {_QUOTED.sub('input_value=...', str(error))}"
    )


def _too_large(name: str, size: int, limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"the payload of {name!r} has {size:,} bytes, at most {limit:,} are kept; "
        "store the bulk elsewhere and publish a reference to it, or raise max_payload="
    )


class ClassCodec:
    """The codec of a pydantic model or a dataclass with open types: it always encodes."""

    def __init__(self, name: str, cls: type[Any], limit: int) -> None:
        self._name = name
        self._limit = limit
        adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(cls)
        if _any_part(adapter.core_schema, _is_excluded, set()):
            raise InvalidEvent(
                f"event {name!r}: {cls.__qualname__} has a field with exclude=True, which would be missing "
                "when a failure is run again; keep it in a private attribute, or out of the event"
            )
        self.has_secrets = _any_part(adapter.core_schema, _is_secret, set())
        self._writes_constants = _any_part(adapter.core_schema, _is_set_for_nan, set())
        self._to_json = adapter.serializer.to_json
        self._to_python = adapter.serializer.to_python
        self._validator = adapter.validator

    def check(self, payload: Any) -> bytes | None:
        """See :class:`Codec`."""
        try:
            encoded = self._to_json(payload, round_trip=True, warnings=False)
        except _NOT_JSON as error:
            raise _not_storable(self._name, error) from error
        if len(encoded) > self._limit:
            raise _too_large(self._name, len(encoded), self._limit)
        # pydantic writes NaN and the infinities as null, unless it was told otherwise; find() is what is
        # quick here, "in" takes three times as long
        if encoded.find(b"null") >= 0 or (self._writes_constants and _CONSTANTS.search(encoded)):
            _refuse_not_finite(self._name, "payload", self._to_python(payload, warnings=False))
        return encoded

    def encode(self, payload: Any) -> bytes:
        """See :class:`Codec`."""
        try:
            return self._to_json(payload, round_trip=True, warnings=False)
        except _NOT_JSON as error:
            raise _not_storable(self._name, error) from error

    def decode(self, payload: bytes) -> Any:
        """See :class:`Codec`."""
        try:
            return self._validator.validate_json(payload, by_alias=True, by_name=True)
        except pydantic.ValidationError as error:
            json_values(self._name, payload)
            raise UndecodableEvent(
                f"the stored payload of {self._name!r} does not fit today's class: {_without_inputs(error)}"
            ) from error

    def validate(self, data: Any) -> Any:
        """See :class:`Codec`."""
        try:
            return self._validator.validate_python(data)
        except pydantic.ValidationError as error:
            raise InvalidEvent(
                f"the payload of {self._name!r} does not fit its class: {_without_inputs(error)}"
            ) from error


class PlainCodec(ClassCodec):
    """The codec of a class whose fields are all scalars: it seldom needs to encode."""

    def __init__(self, name: str, cls: type[Any], limit: int, fields: Mapping[str, Any]) -> None:
        super().__init__(name, cls, limit)
        # an instance attribute, so that a publish calls the compiled function itself
        self.check = compile_check(  # type: ignore[assignment, method-assign]
            fields, most_characters=most_characters(fields, limit), otherwise=self._check_slowly
        )

    def _check_slowly(self, payload: Any) -> bytes | None:
        for field, value in payload.__dict__.items():
            _refuse_not_finite(self._name, field, value)
        return super().check(payload)


class JsonCodec:
    """The codec of a named event without a class: JSON values, which come back as they went."""

    has_secrets = False

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit

    def check(self, payload: Any) -> bytes | None:
        """See :class:`Codec`."""
        encoded = self.encode(payload)
        if len(encoded) > self._limit:
            raise _too_large(self._name, len(encoded), self._limit)
        return encoded

    def encode(self, payload: Any) -> bytes:
        """See :class:`Codec`."""
        try:
            encoded = pydantic_core.to_json(payload)
        except (PydanticSerializationError, ValueError, RecursionError) as error:
            raise _not_storable(self._name, error) from error
        self._check_values(payload, "payload")
        return encoded

    def decode(self, payload: bytes) -> Any:
        """See :class:`Codec`."""
        return json_values(self._name, payload)

    def validate(self, data: Any) -> Any:
        """See :class:`Codec`."""
        return data

    def _check_values(self, value: Any, path: str) -> None:
        kind: Any = value.__class__
        if kind is str or kind is int or kind is bool or value is None:
            return
        if kind is float:
            _refuse_not_finite(self._name, path, value)
        elif kind is dict:
            for key, item in value.items():
                if type(key) is not str:
                    raise InvalidEvent(f"{path} of {self._name!r} has the key {key!r}; JSON keys are texts")
                self._check_values(item, f"{path}.{key}")
        elif kind is list or kind is tuple:
            for item in value:
                self._check_values(item, f"{path}[]")
        else:
            raise InvalidEvent(
                f"{path} of {self._name!r} is a {kind.__qualname__}, which would come back from the store as "
                "something else; publish a pydantic model or a dataclass, or convert it to JSON values"
            )


def json_values(name: str, payload: bytes) -> Any:
    """Return the values of a stored payload of an event.

    Raises:
        UndecodableEvent: it is no JSON.
    """
    try:
        return pydantic_core.from_json(payload)
    except ValueError:
        pass  # json takes ten times as long, and reads some that this refuses: 200 levels, lone surrogates
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise UndecodableEvent(f"the stored payload of {name!r} is not JSON: {error}") from error


def _refuse_not_finite(name: str, path: str, value: Any) -> None:
    """Refuse NaN and the infinities, which JSON writes as null or not at all."""
    if isinstance(value, float):
        if not isfinite(value):
            raise InvalidEvent(
                f"{path} of {name!r} is {value!r}, which JSON cannot carry; "
                "send None, a text or a Decimal instead"
            )
    elif isinstance(value, dict):
        for key, item in cast("dict[Any, Any]", value).items():  # type: ignore[redundant-cast]  # not to pyright
            _refuse_not_finite(name, f"{path}.{key}", item)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in cast("Collection[Any]", value):
            _refuse_not_finite(name, f"{path}[]", item)


def codec_for(name: str, cls: type[Any] | None, limit: int) -> Codec:
    """Choose the codec of an event type, for payloads of at most ``limit`` bytes when encoded.

    Raises:
        InvalidEvent: pydantic cannot make a schema of the class.
    """
    if cls is None:
        return JsonCodec(name, limit)
    try:
        names = plain_fields(cls)
        return ClassCodec(name, cls, limit) if names is None else PlainCodec(name, cls, limit, names)
    except (pydantic.errors.PydanticUserError, pydantic_core.SchemaError, NameError) as error:
        raise InvalidEvent(
            f"event {name!r}: pydantic cannot make a schema of {cls.__qualname__}: {error}"
        ) from error


def _any_part(schema: object, wanted: Callable[[dict[str, Any]], bool], seen: set[int]) -> bool:
    """Tell whether any part of a pydantic core schema, which may refer to itself, is as wanted."""
    if id(schema) in seen:
        return False
    seen.add(id(schema))
    if isinstance(schema, dict):
        part = cast("dict[str, Any]", schema)
        return wanted(part) or any(_any_part(inner, wanted, seen) for inner in part.values())
    if isinstance(schema, (list, tuple)):
        return any(_any_part(inner, wanted, seen) for inner in cast("list[object]", schema))
    return False


def _is_secret(part: dict[str, Any]) -> bool:
    cls = part.get("cls")
    # looked up here, and not when this is imported: pydantic loads its types when they are asked for
    return isinstance(cls, type) and issubclass(
        cls, (pydantic.SecretStr, pydantic.SecretBytes, pydantic.Secret)
    )


def _is_excluded(part: dict[str, Any]) -> bool:
    return part.get("serialization_exclude") is True


def _is_set_for_nan(part: dict[str, Any]) -> bool:
    return "ser_json_inf_nan" in part


def _without_inputs(error: pydantic.ValidationError) -> str:
    lines = [
        f"{'.'.join(str(part) for part in item['loc']) or 'payload'}: {item['msg']}"
        for item in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    return "; ".join(lines)
