"""Envelopes as CloudEvents 1.0 JSON and back (https://github.com/cloudevents/spec, v1.0.2)."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from eventbus.envelope import Envelope, Metadata, checked_metadata
from eventbus.errors import InvalidEvent
from eventbus.event_types import EventType
from eventbus.ids import sequence

_DEFAULT_SOURCE = "eventbus"
_TEXTS = {
    "correlationid": "correlation_id",
    "causationid": "causation_id",
    "tenant": "tenant",
    "userid": "user_id",
    "orderingkey": "ordering_key",
}


def to_cloudevent(envelope: Envelope) -> dict[str, Any]:
    """Return ``envelope`` as a JSON-able CloudEvent; see :meth:`Envelope.to_cloudevent`."""
    document: dict[str, Any] = {
        "specversion": "1.0",
        "id": envelope.id,
        "type": envelope.name,
        "source": envelope.source or _DEFAULT_SOURCE,
        "time": envelope.occurred_at.isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "dataversion": str(envelope.version),
        "data": json.loads(envelope.event_type.codec.encode(envelope.payload)),
    }
    for attribute, name in _TEXTS.items():
        value = getattr(envelope, name)
        if value is not None:
            document[attribute] = value
    if envelope.priority is not None:
        document["priority"] = envelope.priority
    if envelope.tags:
        document["tags"] = json.dumps(envelope.tags)
    if envelope.headers:
        document["headers"] = json.dumps(dict(envelope.headers))
    return document


def from_cloudevent(document: Mapping[str, Any]) -> Envelope:
    """Make an envelope of a CloudEvent; see :meth:`Envelope.from_cloudevent`."""
    for attribute in ("specversion", "id", "type", "source"):
        if not isinstance(document.get(attribute), str) or not document[attribute]:
            raise InvalidEvent(f"a CloudEvent needs {attribute!r}, a text that is not empty")
    if document["specversion"] != "1.0":
        raise InvalidEvent(f"specversion {document['specversion']!r} is not '1.0'")
    source = document["source"]
    event_type = EventType(document["type"], _version(document.get("dataversion", "1")), None)
    metadata = Metadata(
        id=document["id"],
        source=None if source == _DEFAULT_SOURCE else source,
        priority=document.get("priority"),
        tags=tuple(_json(document, "tags", list)),
        headers=_json(document, "headers", dict),
        **{name: document.get(attribute) for attribute, name in _TEXTS.items()},
    )
    return Envelope(
        event_type,
        document.get("data"),
        _time_ns(document.get("time")),
        sequence.next(),
        checked_metadata(metadata),
    )


def _version(value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError) as error:
        raise InvalidEvent(f"dataversion {value!r} must be a whole number") from error


def _json(document: Mapping[str, Any], attribute: str, kind: type[Any]) -> Any:
    text = document.get(attribute)
    if text is None:
        return kind()
    try:
        value = json.loads(text)
    except (TypeError, ValueError) as error:
        raise InvalidEvent(f"{attribute} {text!r} must be JSON text") from error
    if not isinstance(value, kind):
        raise InvalidEvent(f"{attribute} {text!r} must be a JSON {kind.__name__}")
    return value


def _time_ns(value: Any) -> int:
    if value is None:  # optional in the specification
        return time.time_ns()
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError) as error:
        raise InvalidEvent(f"time {value!r} must be an RFC 3339 text") from error
    if moment.tzinfo is None:
        raise InvalidEvent(f"time {value!r} needs a time zone")
    return int(moment.timestamp() * 1_000_000) * 1000
