"""Dead letters over HTTP: the list, one letter, and the verbs for it."""

from __future__ import annotations

import functools
from datetime import datetime, timedelta

import anyio
import pytest
from admin_shop import MOUNTED_AT, Client, Shop, assert_problem, client_of
from letters import build_letter

LETTERS = "/api/dead-letters"
DEEP = functools.reduce(lambda inner, _: [inner], range(399), list[object]())


async def ids_of(admin: Client, token: str = "admin", **parameters: object) -> list[str]:
    response = await admin("GET", LETTERS, token=token, params=parameters)
    assert response.status_code == 200, response.text
    return [item["id"] for item in response.json()["items"]]


async def test_a_failure_is_listed_with_its_reason_but_without_its_payload(shop: Shop, admin: Client) -> None:
    letter_id = await shop.fail(order_id=17, headers={"trace": "abc"})
    response = await admin("GET", LETTERS)
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    (item,) = response.json()["items"]
    assert item["id"] == letter_id
    assert (item["event_name"], item["handler_id"], item["tenant"]) == (
        "order.placed",
        "billing.charge",
        "acme",
    )
    assert (item["state"], item["kind"], item["category"]) == ("pending", "connection", "transient")
    assert item["error_message"] == "card terminal is offline"
    assert datetime.fromisoformat(item["created_at"]).utcoffset() == timedelta(0)
    assert not {"payload", "headers", "annotations", "history", "error"} & set(item)
    assert response.json()["next_cursor"] is None


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"tenant": "acme"}, {"placed at acme"}),
        ({"tenant": ["acme", "globex"]}, {"placed at acme", "shipped at globex"}),
        ({"event": "order.shipped"}, {"shipped at globex", "shipped nowhere"}),
        ({"handler": "billing.charge", "tenant": "globex"}, set()),
        ({"handler": "billing.charge"}, {"placed at acme"}),
        ({"state": "resolved"}, {"shipped nowhere"}),
        ({"state": ["resolved", "pending", "exhausted"], "event": "order.placed"}, {"placed at acme"}),
        ({"since": "2000-01-01T00:00:00Z"}, {"placed at acme", "shipped at globex", "shipped nowhere"}),
        ({"until": "2000-01-01T00:00:00+02:00"}, set()),
    ],
)
async def test_filters_narrow_the_list(
    shop: Shop, admin: Client, parameters: dict[str, object], expected: set[str]
) -> None:
    """A repeated parameter means any of its values, different ones must all hold."""
    names = {
        await shop.fail("order.placed", tenant="acme"): "placed at acme",
        await shop.fail("order.shipped", tenant="globex"): "shipped at globex",
        (closed := await shop.fail("order.shipped", tenant=None)): "shipped nowhere",
    }
    assert (await admin("POST", f"{LETTERS}/{closed}/resolve")).status_code == 200
    assert {names[found] for found in await ids_of(admin, **parameters)} == expected


async def test_since_includes_its_moment_and_until_does_not(shop: Shop, admin: Client) -> None:
    await shop.fail()
    (item,) = (await admin("GET", LETTERS)).json()["items"]
    stored = item["created_at"]
    assert len(await ids_of(admin, since=stored)) == 1
    assert await ids_of(admin, until=stored) == []


async def test_pages_follow_each_other_without_gap_or_repeat(shop: Shop, admin: Client) -> None:
    stored = [await shop.fail(order_id=number) for number in range(5)]
    found: list[str] = []
    parameters: dict[str, object] = {"limit": 2}
    for _ in range(5):
        page = (await admin("GET", LETTERS, params=parameters)).json()
        assert len(page["items"]) <= 2
        found += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        parameters["cursor"] = page["next_cursor"]
    assert found == stored[::-1]


async def test_a_letter_is_shown_whole_to_an_operator(shop: Shop, admin: Client) -> None:
    letter_id = await shop.fail(order_id=17, headers={"trace": "abc"})
    response = await admin("GET", f"{LETTERS}/{letter_id}", token="operator")
    letter = response.json()
    assert letter["payload"] == {"order_id": 17}
    assert letter["headers"] == {"trace": "abc"}
    assert letter["annotations"] == {}
    assert letter["error"]["type"] == "ConnectionError"
    assert "_charge" in letter["error"]["traceback"]
    (attempt,) = letter["history"]
    assert attempt["number"] == 1
    assert attempt["error"]["message"] == "card terminal is offline"
    stored = await shop.store.get(letter_id)
    assert letter["correlation_id"] == stored.correlation_id
    assert datetime.fromisoformat(letter["occurred_at"]) == stored.occurred_at


async def test_a_viewer_sees_why_but_not_what(shop: Shop, admin: Client) -> None:
    """Errors and tracebacks are for reading; payload, headers and annotations need to be revealed."""
    letter_id = await shop.fail(headers={"trace": "abc"})
    letter = (await admin("GET", f"{LETTERS}/{letter_id}", token="viewer")).json()
    assert letter["error"]["message"] == "card terminal is offline"
    assert not {"payload", "payload_json", "headers", "annotations"} & set(letter)


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        (b'{"a":"\\ud800"}', {"a": "\ud800"}),
        (b'{"a":NaN}', None),
        (b"[" * 400 + b"]" * 400, DEEP),
        (b"[" * 100_000, None),
        (b"\xff", None),
        (b'"plain"', "plain"),
    ],
    ids=["surrogate", "nan", "deep", "endless", "bytes", "text"],
)
async def test_a_payload_of_any_shape_breaks_no_answer(
    shop: Shop, admin: Client, stored: bytes, shown: object
) -> None:
    letter = build_letter(payload_json=stored)
    await shop.store.add([letter])
    response = await admin("GET", f"{LETTERS}/{letter.id}")
    assert response.status_code == 200, response.text
    assert response.json()["payload"] == shown


async def test_causes_and_annotations_come_along(shop: Shop, admin: Client) -> None:
    letter = build_letter(annotations={"charge_id": "ch_1"})
    await shop.store.add([letter])
    shown = (await admin("GET", f"{LETTERS}/{letter.id}")).json()
    assert shown["annotations"] == {"charge_id": "ch_1"}
    assert shown["error"]["causes"][0]["relation"] == "cause"
    assert shown["redelivery"]["backoff"] == letter.redelivery.backoff
    assert shown["tags"] == list(letter.tags)


async def test_a_replay_brings_a_mended_failure_home(shop: Shop, admin: Client) -> None:
    letter_id = await shop.fail(order_id=17)
    shop.broken = False
    response = await admin("POST", f"{LETTERS}/{letter_id}/replay", json={"note": "terminal is back"})
    assert response.status_code == 200
    assert response.json() == {
        "dead_letter_id": letter_id,
        "state": "resolved",
        "attempts": 2,
        "error": None,
    }
    assert shop.charged == [{"order_id": 17}]
    letter = (await admin("GET", f"{LETTERS}/{letter_id}")).json()
    assert (letter["state"], letter["acted_by"], letter["note"]) == ("resolved", "root", "terminal is back")


async def test_a_replay_that_fails_again_says_why(shop: Shop, admin: Client) -> None:
    letter_id = await shop.fail()
    result = (await admin("POST", f"{LETTERS}/{letter_id}/replay")).json()
    assert result["state"] in ("pending", "exhausted")
    assert result["attempts"] == 2
    assert result["error"] == {"type": "ConnectionError", "message": "card terminal is offline"}


async def test_who_may_replay_but_not_read_is_not_told_why_it_failed_again(shop: Shop, admin: Client) -> None:
    letter_id = await shop.fail()
    result = (await admin("POST", f"{LETTERS}/{letter_id}/replay", token="replayer")).json()
    assert result["attempts"] == 2
    assert result["error"] is None


async def test_a_long_replay_is_answered_with_the_place_where_to_look(shop: Shop) -> None:
    """202 comes as soon as the router no longer waits; the run goes on and settles."""
    letter_id = await shop.fail()
    shop.broken = False
    shop.open = anyio.Event()
    async with client_of(shop.app(replay_wait=0.0)) as admin:
        response = await admin("POST", f"{LETTERS}/{letter_id}/replay", json={})
        assert response.status_code == 202
        assert response.json()["state"] == "running"
        place = response.headers["location"]
        assert place == f"{MOUNTED_AT}{LETTERS}/{letter_id}"
        await shop.busy.wait()
        assert_problem(await admin("POST", f"{LETTERS}/{letter_id}/resolve", json={}), 409, kind="lease-held")
        assert (await admin("GET", place.removeprefix(MOUNTED_AT))).json()["state"] == "running"
        shop.open.set()
        await shop.resolved.wait()
    assert (await shop.store.get(letter_id)).state == "resolved"
    assert shop.charged


async def test_a_client_that_goes_away_does_not_cancel_its_replay(shop: Shop) -> None:
    letter_id = await shop.fail()
    shop.broken = False
    shop.open = anyio.Event()
    shop.busy = anyio.Event()
    async with client_of(shop.app()) as admin, anyio.create_task_group() as clients:
        clients.start_soon(admin, "POST", f"{LETTERS}/{letter_id}/replay")
        await shop.busy.wait()
        clients.cancel_scope.cancel()
    assert (await shop.store.get(letter_id)).state == "running"
    shop.open.set()
    await shop.resolved.wait()
    assert (await shop.store.get(letter_id)).state == "resolved"


async def test_a_second_replay_meanwhile_is_a_conflict(shop: Shop, admin: Client) -> None:
    letter_id = await shop.fail()
    shop.open = anyio.Event()
    shop.busy = anyio.Event()
    async with anyio.create_task_group() as clients:
        clients.start_soon(admin, "POST", f"{LETTERS}/{letter_id}/replay")
        await shop.busy.wait()
        assert_problem(await admin("POST", f"{LETTERS}/{letter_id}/replay"), 409, kind="lease-held")
        shop.open.set()


async def test_a_resolved_letter_cannot_be_replayed(shop: Shop, admin: Client) -> None:
    letter_id = await shop.fail()
    await admin("POST", f"{LETTERS}/{letter_id}/resolve")
    response = await admin("POST", f"{LETTERS}/{letter_id}/replay")
    assert_problem(response, 409, says="restore it first", kind="invalid-transition")


@pytest.mark.parametrize(("verb", "state"), [("resolve", "resolved"), ("discard", "discarded")])
async def test_a_person_closes_a_letter_with_a_note(shop: Shop, admin: Client, verb: str, state: str) -> None:
    letter_id = await shop.fail()
    response = await admin(
        "POST", f"{LETTERS}/{letter_id}/{verb}", token="operator", json={"note": "by hand"}
    )
    assert response.status_code == 200
    assert response.json() == {
        "dead_letter_id": letter_id,
        "state": state,
        "acted_by": "ann",
        "note": "by hand",
    }
    stored = await shop.store.get(letter_id)
    assert (stored.state, stored.acted_by, stored.note) == (state, "ann", "by hand")
    again = await admin("POST", f"{LETTERS}/{letter_id}/{verb}")
    assert_problem(again, 409, says=state, kind="invalid-transition")


async def test_a_deleted_letter_is_gone(shop: Shop, admin: Client) -> None:
    letter_id = await shop.fail()
    response = await admin("DELETE", f"{LETTERS}/{letter_id}")
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["cache-control"] == "no-store"
    assert_problem(await admin("DELETE", f"{LETTERS}/{letter_id}"), 404, kind="dead-letter-not-found")


async def test_head_has_the_headers_of_get_and_no_body(shop: Shop, admin: Client) -> None:
    await shop.fail()
    got, headed = await admin("GET", LETTERS), await admin("HEAD", LETTERS)
    assert headed.status_code == 200
    assert headed.content == b""
    assert headed.headers["content-length"] == got.headers["content-length"] == str(len(got.content))
