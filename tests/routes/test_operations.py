"""Replay by query, statistics and metrics over HTTP."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import anyio
from admin_shop import MOUNTED_AT, Client, Shop, client_of


async def test_a_replay_by_query_brings_home_what_it_means(shop: Shop, admin: Client) -> None:
    placed = [await shop.fail("order.placed", order_id=number) for number in range(3)]
    shipped = await shop.fail("order.shipped")
    shop.broken = False
    response = await admin(
        "POST",
        "/api/operations",
        token="operator",
        json={"verb": "replay", "query": {"handler": "billing.charge"}, "note": "mended"},
    )
    assert response.status_code == 200
    assert response.json() == {
        "verb": "replay",
        "state": "completed",
        "total": 3,
        "done": 3,
        "failed": 0,
        "skipped": 0,
    }
    for letter_id in placed:
        letter = await shop.store.get(letter_id)
        assert (letter.state, letter.acted_by, letter.note) == ("resolved", "ann", "mended")
    assert (await shop.store.get(shipped)).attempts == 1


async def test_what_fails_again_and_what_is_closed_is_counted_apart(shop: Shop, admin: Client) -> None:
    await shop.fail()
    closed = await shop.fail()
    await admin("POST", f"/api/dead-letters/{closed}/discard")
    body = {"verb": "replay", "query": {"everything": True}}
    result = (await admin("POST", "/api/operations", json=body)).json()
    assert (result["total"], result["done"], result["failed"], result["skipped"]) == (2, 0, 1, 1)


async def test_times_and_lists_narrow_an_operation(shop: Shop, admin: Client) -> None:
    await shop.fail("order.placed")
    await shop.fail("order.shipped")
    shop.broken = False
    query: dict[str, object] = {"event": ["order.placed", "order.lost"], "until": "2000-01-01T00:00:00Z"}
    body = {"verb": "replay", "query": query}
    assert (await admin("POST", "/api/operations", json=body)).json()["total"] == 0
    query["until"] = None
    query["since"] = "2000-01-01T00:00:00Z"
    assert (await admin("POST", "/api/operations", json=body)).json()["total"] == 1


async def test_a_long_operation_is_answered_with_the_list_it_works_on(shop: Shop) -> None:
    letter_id = await shop.fail(tenant="a&b")
    shop.broken = False
    shop.open = anyio.Event()
    async with client_of(shop.app(replay_wait=0.0)) as admin:
        query = {"tenant": "a&b", "event": ["order.placed"], "since": "2026-01-01T00:00:00+01:00"}
        response = await admin("POST", "/api/operations", json={"verb": "replay", "query": query})
        assert response.status_code == 202
        assert response.json()["state"] == "running"
        assert response.json()["total"] is None
        place = urlsplit(response.headers["location"])
        assert place.path == f"{MOUNTED_AT}/api/dead-letters"
        assert parse_qs(place.query)["tenant"] == ["a&b"]
        listed = await admin("GET", response.headers["location"].removeprefix(MOUNTED_AT))
        assert [item["id"] for item in listed.json()["items"]] == [letter_id]
        everything = {"verb": "replay", "query": {"everything": True}}
        response = await admin("POST", "/api/operations", json=everything)
        assert response.headers["location"] == f"{MOUNTED_AT}/api/dead-letters"
        shop.open.set()
        await shop.resolved.wait()


async def test_statistics_add_up(shop: Shop, admin: Client) -> None:
    await shop.fail("order.placed")
    shipped = await shop.fail("order.shipped", tenant=None)
    await admin("POST", f"/api/dead-letters/{shipped}/resolve")
    stats = (await admin("GET", "/api/stats", token="viewer")).json()
    assert stats["total"] == 2
    assert stats["by_state"] == {"pending": 1, "resolved": 1}
    assert stats["by_event"] == {"order.placed": 1, "order.shipped": 1}
    assert stats["by_handler"] == {"billing.charge": 1, "mail.send": 1}
    assert stats["by_kind"]["connection"] == 1
    assert stats["last_24h"] == 2
    assert stats["recovery"] == {"total": 2, "pending": 1, "recovered": 1, "abandoned": 0}
    assert stats["oldest_open"].endswith("Z")
    assert stats["oldest_open"] == stats["newest_open"]
    assert (stats["paused"], stats["draining"]) == ([], [])


async def test_the_statistics_name_what_is_paused_and_what_is_drained(admin: Client, shop: Shop) -> None:
    await shop.bus.pause(tenant="acme", reason="a move", by="ann")
    await shop.bus.drain(handler="billing.charge", reason="a deploy", by="ann")
    stats = (await admin("GET", "/api/stats", token="viewer")).json()
    assert stats["paused"] == [{"tenant": "acme", "event": None, "handler": None}]
    assert stats["draining"] == [{"tenant": None, "event": None, "handler": "billing.charge"}]


async def test_statistics_of_nothing_are_zero(admin: Client) -> None:
    stats = (await admin("GET", "/api/stats")).json()
    assert (stats["total"], stats["average_attempts"], stats["oldest_open"]) == (0, 0.0, None)


async def test_metrics_count_deliveries_by_handler_and_event(shop: Shop, admin: Client) -> None:
    await shop.fail()
    shop.broken = False
    await shop.bus.publish("order.placed", {"order_id": 2})
    metrics = (await admin("GET", "/api/metrics", token="viewer")).json()
    assert metrics["published"] == 2
    charge = metrics["handlers"]["billing.charge"]
    assert (charge["published"], charge["delivered"], charge["failed"], charge["in_flight"]) == (2, 1, 1, 0)
    assert charge["latency"]["count"] == 2
    assert charge["latency"]["sum"] > 0
    bound, count = charge["latency"]["buckets"][-1]
    assert bound > 0
    assert count == 2
    assert charge["by_event"]["order.placed"]["failed"] == 1
    assert "by_event" not in charge["by_event"]["order.placed"]
