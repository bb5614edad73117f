"""From a line of NDJSON to what is to be published."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, cast

import pydantic
import pydantic_core
from pydantic import BaseModel, ConfigDict, Field

from eventbus import Envelope, InvalidEvent
from eventbus.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eventbus.intake import PublishOptions

_JSON_TYPES = ("application/json", "text/json")
_NAME_OF: dict[type, str] = {list: "an array", str: "a text", bool: "a boolean", type(None): "null"}


class Publication(NamedTuple):
    """An event by name, its payload, and the options of ``bus.publish``.

    ``version`` is that of the payload where the line names one, else None.
    """

    event: str
    data: Any
    options: PublishOptions
    version: int | None = None


class _Document(BaseModel):
    """A line in our own form."""

    model_config = ConfigDict(extra="forbid", strict=True)

    event: str
    data: Any = None
    tenant: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    source: str | None = None
    user_id: str | None = None
    id: str | None = None
    priority: Annotated[int, Field(ge=1, le=10)] | None = None
    tags: list[str] = []
    headers: dict[str, str] = {}


def parse(line: bytes) -> Publication:
    """Turn a line into what is to be published.

    It is an object of our own, ``{"event": ..., "data": ..., ...}``, or a CloudEvent 1.0 in JSON, of
    which ``id`` and ``source`` may be left out. A CloudEvent's ``time`` is not kept: an event occurs
    when it is published.

    Raises:
        ValueError: it is neither; the message says why.
    """
    try:
        value: object = pydantic_core.from_json(line, allow_inf_nan=False)
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"JSON, but {_NAME_OF.get(type(value), 'a number')} and not an object")
    document = cast("dict[str, Any]", value)
    return _cloud_event(document) if "specversion" in document else _own(document)


def _own(document: Mapping[str, Any]) -> Publication:
    try:
        checked = _Document.model_validate(document)
    except pydantic.ValidationError as error:
        raise ValueError(told(error)) from None
    options = checked.model_dump(exclude={"event", "data"}, exclude_defaults=True)
    return Publication(checked.event, checked.data, cast("PublishOptions", options))


def _cloud_event(document: Mapping[str, Any]) -> Publication:
    if "data_base64" in document:
        raise ValueError("a CloudEvent with data_base64; payloads are JSON, in data")
    media = document.get("datacontenttype") or _JSON_TYPES[0]
    if not isinstance(media, str) or not _is_json(media):
        raise ValueError(f"a CloudEvent of datacontenttype {media!r}; payloads are JSON")
    if "orderingkey" in document:
        raise ValueError("a CloudEvent with orderingkey, which is not supported")
    try:
        envelope = Envelope.from_cloudevent({"id": new_id(), "source": "eventbus", **document})
    except InvalidEvent as error:
        raise ValueError(str(error)) from None
    said = envelope.metadata
    options: PublishOptions = {
        "id": said.id,
        "correlation_id": said.correlation_id,
        "causation_id": said.causation_id,
        "source": said.source,
        "tenant": said.tenant,
        "user_id": said.user_id,
        "priority": said.priority,
        "tags": said.tags,
        "headers": said.headers,
    }
    version = envelope.version if "dataversion" in document else None
    return Publication(envelope.name, envelope.payload, options, version)


def _is_json(media: str) -> bool:
    kind = media.partition(";")[0].strip().lower()
    return kind in _JSON_TYPES or kind.endswith("+json")


def told(error: pydantic.ValidationError) -> str:
    """Return what is wrong in one line, without the values, which may be long, or secret."""
    return "; ".join(
        f"{'.'.join(str(part) for part in item['loc']) or 'data'}: {item['msg']}"
        for item in error.errors(include_url=False, include_context=False, include_input=False)
    )
