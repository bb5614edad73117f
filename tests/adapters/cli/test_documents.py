"""What a line may be, and what is said of one that may not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from eventbus import Envelope
from eventbus_adapters.cli.documents import parse


def line(**document: Any) -> bytes:
    return json.dumps(document).encode()


def test_a_line_of_our_own_says_all_that_publish_takes() -> None:
    options = {
        "tenant": "acme",
        "correlation_id": "c",
        "causation_id": "p",
        "source": "till",
        "user_id": "ann",
        "id": "e-1",
        "priority": 2,
        "tags": ["a", "b"],
        "headers": {"traceparent": "00-1"},
    }
    publication = parse(line(event="order.placed", data={"order_id": 1}, **options))
    assert (publication.event, publication.data) == ("order.placed", {"order_id": 1})
    assert publication.options == options


def test_an_event_alone_is_enough() -> None:
    publication = parse(b'{"event": "ping"}\r')
    assert (publication.event, publication.data, publication.options) == ("ping", None, {})


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe{", "not JSON"),
        (b'{"event": "a", "data": NaN}', "not JSON"),
        (b'{"event": "a", "data": Infinity}', "not JSON"),
        (b'{"event": "\\ud800"}', "not JSON"),
        (b'{"event": "a", "data": ' + b"[" * 5_000 + b"]" * 5_000 + b"}", "not JSON"),
        (b"[1]", "an array"),
        (b"null", "null"),
        (b"true", "a boolean"),
        (b'"text"', "a text"),
        (b"1.5", "a number"),
        (b'{"data": 1}', "event: Field required"),
        (line(event=1), "event: Input should be a valid string"),
        (line(event="a", ordering_key="k"), "ordering_key: Extra inputs are not permitted"),
        (line(event="a", priority=11), "priority: Input should be less than or equal to 10"),
        (line(event="a", priority=True), "priority: Input should be a valid integer"),
        (line(event="a", tags="one"), "tags: Input should be a valid list"),
        (line(event="a", headers={"a": 1}), "headers.a: Input should be a valid string"),
    ],
)
def test_a_bad_line_says_why(content: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=r"^.+$") as caught:
        parse(content)
    assert says in str(caught.value)


def test_values_are_not_repeated_in_complaints() -> None:
    with pytest.raises(ValueError, match="password") as caught:
        parse(line(event="a", password="hunter2"))
    assert "hunter2" not in str(caught.value)


def test_a_cloud_event_comes_with_its_attributes() -> None:
    sent = Envelope.of(
        "order.placed",
        {"order_id": 1},
        id="e-1",
        tenant="acme",
        correlation_id="c",
        priority=3,
        tags=("a",),
        headers={"h": "1"},
        source="/till",
    )
    publication = parse(json.dumps(sent.to_cloudevent()).encode())
    assert (publication.event, publication.data) == ("order.placed", {"order_id": 1})
    assert publication.version == 1
    wanted = {
        "id": "e-1",
        "tenant": "acme",
        "correlation_id": "c",
        "priority": 3,
        "source": "/till",
        "tags": ("a",),
    }
    assert {name: publication.options.get(name) for name in wanted} == wanted
    assert dict(publication.options["headers"] or {}) == {"h": "1"}


def test_a_cloud_event_needs_no_id_and_no_source() -> None:
    publication = parse(line(specversion="1.0", type="order.placed", data={"order_id": 1}))
    assert publication.event == "order.placed"
    assert publication.options["id"]
    assert publication.options["source"] is None
    assert publication.version is None


@pytest.mark.parametrize(
    ("attributes", "says"),
    [
        ({"type": ""}, "'type'"),
        ({"type": "a", "specversion": "0.3"}, "'0.3'"),
        ({"type": "a", "id": None}, "'id'"),
        ({"type": "a", "data_base64": "AA=="}, "data_base64"),
        ({"type": "a", "datacontenttype": "text/xml"}, "text/xml"),
        ({"type": "a", "datacontenttype": 5}, "datacontenttype 5"),
        ({"type": "a", "orderingkey": "k"}, "orderingkey"),
        ({"type": "a", "dataversion": "x"}, "dataversion"),
        ({"type": "a", "priority": 99}, "priority"),
    ],
)
def test_a_bad_cloud_event_says_why(attributes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=r"^.+$") as caught:
        parse(line(**{"specversion": "1.0", **attributes}))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "media", ["application/json; charset=utf-8", "application/vnd.shop+json", "Text/JSON"]
)
def test_a_cloud_event_of_any_json_is_taken(media: str) -> None:
    assert parse(line(specversion="1.0", type="a", datacontenttype=media)).event == "a"
