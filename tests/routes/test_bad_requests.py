"""Whatever comes in wrong is a 4xx that says what is wrong, and never a 5xx."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence

import pytest
from admin_shop import MOUNTED_AT, Client, Shop, assert_problem

from eventbus_routes.reading import MAX_BODY

LETTERS = "/api/dead-letters"


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("colour=red", "colour: is not known here"),
        ("kind=timeout", "kind: is not known here"),
        ("order=oldest", "order: is not known here"),
        ("state=sleeping", "state.0: Input should be 'accepted', 'running'"),
        ("state=pending&state=PENDING", "state.1: Input should be"),
        ("state=", "state.0: Input should be"),
        ("tenant=", "tenant.0: String should have at least 1 character"),
        ("event=" + "x" * 513, "event.0: String should have at most 512 characters"),
        ("handler=a%00b", "handler.0: has a NUL"),
        (
            "&".join(f"tenant=t{number}" for number in range(101)),
            "tenant: List should have at most 100 items",
        ),
        ("&".join(f"x{number}=" for number in range(201)), "201 query parameters"),
        ("limit=0", "limit: Input should be greater than or equal to 1"),
        ("limit=1001", "limit: Input should be less than or equal to 1000"),
        ("limit=ten", "limit: must be a whole number"),
        ("limit=1_0", "limit: must be a whole number"),
        ("limit=-1", "limit: must be a whole number"),
        ("limit=%D9%A3", "limit: must be a whole number"),
        ("limit=" + "9" * 5_000, "limit: must be a whole number"),
        ("limit=1&limit=2", "limit: must be a whole number"),
        ("limit=", "limit: must be a whole number"),
        ("cursor=", "cursor: String should have at least 1 character"),
        ("cursor=nonsense", "cursor"),
        ("cursor=" + "A" * 1_025, "cursor: String should have at most 1024 characters"),
        ("cursor=%00", "cursor: has a NUL"),
        ("cursor=a&cursor=b", "cursor: Input should be a valid string"),
        ("since=yesterday", "since: must be an RFC 3339 time with a zone"),
        ("since=2026-11-22T08:00:00", "since: must be an RFC 3339 time with a zone"),
        ("since=2026-11-22", "since: must be an RFC 3339 time with a zone"),
        ("since=2026-11-22T08:00:00+01:00", "+ is written %2B"),
        ("since=2026-13-22T08:00:00Z", "since: is not a moment of the calendar"),
        ("until=0001-01-01T00:00:00%2B14:00", "until: is not a moment of the calendar"),
        ("until=2026-11-22T08:00:00Z&until=2026-11-22T08:00:00Z", "until: must be an RFC 3339 time"),
    ],
)
async def test_a_wrong_query_parameter_is_named(admin: Client, query: str, says: str) -> None:
    assert_problem(await admin("GET", f"{LETTERS}?{query}"), 400, says=says)


async def test_every_fault_is_listed(admin: Client) -> None:
    response = await admin("GET", f"{LETTERS}?limit=x&since=y&colour=red")
    assert_problem(response, 400, kind="invalid-request")
    errors = response.json()["errors"]
    assert {(error["where"], error["name"]) for error in errors} == {
        ("query", "limit"),
        ("query", "since"),
        ("query", "colour"),
    }
    assert all(error["detail"] for error in errors)


@pytest.mark.parametrize(
    "moment",
    [
        "2026-11-22t08:00:00.123456789z",
        "2026-11-22T08:00:00-00:00",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
    ],
)
async def test_every_form_of_rfc_3339_with_a_zone_is_understood(admin: Client, moment: str) -> None:
    assert (await admin("GET", LETTERS, params={"since": moment, "until": moment})).status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/api/stats"), ("GET", "/api/metrics"), ("POST", "/api/operations"), ("DELETE", f"{LETTERS}/x")],
)
async def test_parameters_that_a_route_does_not_know_are_refused(
    admin: Client, method: str, path: str
) -> None:
    assert_problem(await admin(method, path, params={"force": "1"}), 400, says="force: is not known here")


@pytest.mark.parametrize("letter_id", ["unknown", "%00", "x" * 600, "%ED%A0%80", "..", "%2e%2e%2f", "a%20b"])
async def test_an_id_that_cannot_be_is_simply_not_found(admin: Client, letter_id: str) -> None:
    response = await admin("GET", f"{LETTERS}/{letter_id}")
    assert_problem(response, 404)


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"{", 400, "is not JSON"),
        (b"\xff\xfe{\x00}\x00", 400, "is not JSON"),
        (b'\xef\xbb\xbf{"note": "bom"}', 400, "is not JSON"),
        (b'{"note": NaN}', 400, "NaN is no JSON value"),
        (b'{"note": -Infinity}', 400, "-Infinity is no JSON value"),
        (b'{"note": "a", "note": "b"}', 400, "a name twice"),
        (b"[" * 60_000, 400, "nested too deeply"),
        (b'{"note": ' + b"9" * 5_000 + b"}", 400, "is not JSON"),
        (b"null", 422, "body: Input should be"),
        (b"[]", 422, "body: Input should be"),
        (b'"note"', 422, "body: Input should be"),
        (b'{"note": 7}', 422, "note: Input should be a valid string"),
        (b'{"note": {"a": {}}}', 422, "note: Input should be a valid string"),
        (b'{"by": "somebody else"}', 422, "by: is not known here"),
        (b'{"payload": {}}', 422, "payload: is not known here"),
        (b'{"sandbox": true}', 422, "sandbox: is not known here"),
        (b'{"note": "a\\u0000"}', 422, "note: has a NUL"),
        (b'{"note": "\\ud800"}', 422, "note: Input should be a valid string"),
        (json.dumps({"note": "x" * 4_097}).encode(), 422, "note: String should have at most 4096 characters"),
        (b'{"' + b"x" * 1_000 + b'": 1}', 422, "is not known here"),
        (b'{"\\ud800": 1}', 422, "body: Input should be a valid string"),
    ],
)
async def test_a_wrong_body_is_told_why(
    shop: Shop, admin: Client, body: bytes, status: int, says: str
) -> None:
    letter_id = await shop.fail()
    response = await admin(
        "POST", f"{LETTERS}/{letter_id}/resolve", content=body, headers={"content-type": "application/json"}
    )
    assert_problem(response, status, says=says)
    assert len(response.content) < 2_000
    assert (await shop.store.get(letter_id)).state == "pending"


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({"content-type": "text/plain"}, "'text/plain'"),
        ({"content-type": "application/x-www-form-urlencoded"}, "application/json"),
        ({"content-type": "application/json; charset=latin-1"}, "'latin-1'"),
        ({"content-type": "application/json", "content-encoding": "gzip"}, "'gzip'"),
        ({}, "application/json, not ''"),
    ],
)
async def test_a_body_of_another_type_is_refused(admin: Client, headers: dict[str, str], says: str) -> None:
    response = await admin("POST", f"{LETTERS}/x/resolve", content=b"{}", headers=headers)
    assert_problem(response, 415, says=says)


async def test_json_is_recognised_however_it_is_called(shop: Shop, admin: Client) -> None:
    letter_id = await shop.fail()
    response = await admin(
        "POST",
        f"{LETTERS}/{letter_id}/resolve",
        content='{"note": "ärgerlich 🐍"}'.encode(),
        headers={"content-type": 'Application/JSON; charset="UTF-8"'},
    )
    assert response.json()["note"] == "ärgerlich 🐍"


async def test_a_body_that_is_too_long_is_refused_before_it_is_read(shop: Shop, admin: Client) -> None:
    """By its announced length, and when it announces none by what has come."""
    letter_id = await shop.fail()
    path, headers = f"{LETTERS}/{letter_id}/resolve", {"content-type": "application/json"}
    full = json.dumps({"note": ""}).encode()
    fitting = full + b" " * (MAX_BODY - len(full))
    assert_problem(
        await admin("POST", path, content=fitting + b" ", headers=headers), 413, says=str(MAX_BODY)
    )

    assert (await admin("POST", path, content=fitting, headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "announced", [(), (b"99999999999",), (b"0000000000000000001",), (b"-1",), (b"many",)]
)
async def test_a_body_without_end_is_not_read_to_its_end(shop: Shop, announced: tuple[bytes, ...]) -> None:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b" " * 1_000, "more_body": True}

    headers = [(b"content-length", length) for length in announced]
    assert await status_of(shop, f"{LETTERS}/x/resolve", receive, headers) == 413


async def test_a_delete_takes_no_body(shop: Shop, admin: Client) -> None:
    letter_id = await shop.fail()
    response = await admin("DELETE", f"{LETTERS}/{letter_id}", json={"note": "gone"})
    assert_problem(response, 400, says="no body")
    assert (await shop.store.get(letter_id)).id == letter_id


async def test_a_client_that_goes_away_while_it_speaks_changes_nothing(shop: Shop) -> None:
    letter_id = await shop.fail()
    messages = iter(
        [{"type": "http.request", "body": b'{"note', "more_body": True}, {"type": "http.disconnect"}]
    )

    async def receive() -> dict[str, object]:
        return next(messages)

    assert await status_of(shop, f"{LETTERS}/{letter_id}/resolve", receive) == 400
    assert (await shop.store.get(letter_id)).state == "pending"


async def status_of(
    shop: Shop,
    path: str,
    receive: Callable[[], Awaitable[dict[str, object]]],
    headers: Sequence[tuple[bytes, bytes]] = (),
) -> object:
    """POST what ``receive`` gives, message by message; return the status of the answer."""
    sent: list[dict[str, object]] = []

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": f"{MOUNTED_AT}{path}",
        "query_string": b"",
        "headers": [(b"authorization", b"Bearer admin"), (b"content-type", b"application/json"), *headers],
    }
    await shop.app()(scope, receive, send)  # type: ignore[arg-type]
    return sent[0]["status"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "verb: Field required"),
        ({"verb": "replay"}, "query: Field required"),
        ({"verb": "replay", "query": {}}, 'query: is empty; name a condition, or say {"everything": true}'),
        ({"verb": "replay", "query": {"state": None}}, "query: is empty"),
        ({"verb": "replay", "query": {"state": []}}, "query.state: List should have at least 1 item"),
        ({"verb": "replay", "query": {"everything": False}}, "query.everything: must be true"),
        ({"verb": "replay", "query": {"everything": 1}}, "query.everything: must be true"),
        ({"verb": "replay", "query": {"everything": True, "state": "pending"}}, "says everything and state"),
        ({"verb": "replay", "query": {"limit": 5}}, "query.limit: is not known here"),
        ({"verb": "replay", "query": {"state": "asleep"}}, "query.state.0: Input should be"),
        ({"verb": "replay", "query": {"event": {"a": 1}}}, "query.event: Input should be a valid list"),
        ({"verb": "replay", "query": {"event": [1]}}, "query.event.0: Input should be a valid string"),
        ({"verb": "replay", "query": {"since": 5}}, "query.since: must be an RFC 3339 time"),
        ({"verb": "replay", "query": "everything"}, "query: Input should be"),
        ({"verb": "delete", "query": {"everything": True}}, "verb: Input should be 'replay'"),
        ({"verb": "replay", "query": {"everything": True}, "rate": 5}, "rate: is not known here"),
        ({"verb": "replay", "query": {"everything": True}, "canary": 1}, "canary: is not known here"),
    ],
)
@pytest.mark.parametrize("token", ["admin", "acme"])
async def test_an_operation_that_does_not_say_what_it_means_is_refused(
    shop: Shop, admin: Client, body: object, says: str, token: str
) -> None:
    """An empty query never means everything, not even everything of one's own tenants."""
    letter_id = await shop.fail(tenant="acme")
    response = await admin("POST", "/api/operations", token=token, json=body)
    assert_problem(response, 422, says=says, kind="invalid-request")
    assert (await shop.store.get(letter_id)).attempts == 1
