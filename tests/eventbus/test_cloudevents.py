"""Envelopes as CloudEvents 1.0 JSON, and back."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel

from eventbus import Envelope, InvalidEvent


class OrderPlaced(BaseModel):
    event_name: ClassVar[str] = "order.placed"
    event_version: ClassVar[int] = 3
    order_id: int


FULL: dict[str, Any] = {
    "id": "evt-1",
    "correlation_id": "req-1",
    "causation_id": "evt-0",
    "source": "shop",
    "tenant": "acme",
    "user_id": "u-1",
    "ordering_key": "k",
    "priority": 2,
    "tags": ("a", "b"),
    "headers": {"traceparent": "00-1"},
}


def test_everything_that_is_known_goes_there_and_comes_back() -> None:
    envelope = Envelope.of(OrderPlaced(order_id=7), **FULL)
    document = json.loads(json.dumps(envelope.to_cloudevent()))
    assert document["specversion"] == "1.0"
    assert (document["id"], document["type"], document["source"]) == ("evt-1", "order.placed", "shop")
    assert (document["data"], document["dataversion"]) == ({"order_id": 7}, "3")
    assert datetime.fromisoformat(document["time"]) == envelope.occurred_at
    assert all(name.isalnum() and name.islower() for name in document)
    back = Envelope.from_cloudevent(document)
    assert (back.name, back.version, back.payload) == ("order.placed", 3, {"order_id": 7})
    assert back.occurred_at == envelope.occurred_at
    for name, value in FULL.items():
        assert getattr(back, name) == value, name


def test_an_event_that_says_nothing_more_is_short() -> None:
    envelope = Envelope.of("ping", None)
    document = envelope.to_cloudevent()
    assert set(document) == {
        "specversion",
        "id",
        "type",
        "source",
        "time",
        "datacontenttype",
        "dataversion",
        "data",
        "correlationid",
    }
    back = Envelope.from_cloudevent(document)
    assert (back.id, back.source, back.tenant, back.tags) == (envelope.id, None, None, ())


MINIMAL: dict[str, Any] = {"specversion": "1.0", "id": "1", "type": "ping", "source": "there"}


def test_the_least_that_the_specification_asks_for_is_enough() -> None:
    before = datetime.now(UTC)
    envelope = Envelope.from_cloudevent(MINIMAL)
    assert (envelope.name, envelope.payload, envelope.version) == ("ping", None, 1)
    assert (envelope.occurred_at - before).total_seconds() < 60


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"specversion": None}, "needs 'specversion'"),
        ({"specversion": "0.3"}, r"'0\.3' is not '1\.0'"),
        ({"id": ""}, "needs 'id'"),
        ({"type": 7}, "needs 'type'"),
        ({"source": None}, "needs 'source'"),
        ({"type": "a.*"}, "without"),
        ({"dataversion": "new"}, "dataversion 'new'"),
        ({"dataversion": []}, "dataversion"),
        ({"time": "yesterday"}, "RFC 3339"),
        ({"time": 7}, "RFC 3339"),
        ({"time": "2026-01-01T00:00:00"}, "needs a time zone"),
        ({"tags": "not json"}, "tags 'not json' must be JSON text"),
        ({"tags": 7}, "tags 7"),
        ({"tags": "{}"}, "must be a JSON list"),
        ({"tags": "[1]"}, "a tag"),
        ({"headers": "[]"}, "must be a JSON dict"),
        ({"headers": '{"a": 1}'}, "header 'a'"),
        ({"tenant": 7}, "tenant=7"),
        ({"priority": "high"}, "priority='high'"),
    ],
)
def test_what_does_not_fit_is_refused_and_says_why(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidEvent, match=message):
        Envelope.from_cloudevent({**MINIMAL, **change})
