"""The admin over the store that people really use."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from admin_shop import Client, Shop, assert_problem, client_of

from eventbus_adapters.sql import SqlStore

LETTERS = "/api/dead-letters"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "failures.db"


@pytest.fixture
async def shop(file: Path) -> AsyncIterator[Shop]:
    shop = Shop(SqlStore(f"sqlite+aiosqlite:///{file}"))
    async with shop.bus:
        yield shop


@pytest.fixture
async def admin(shop: Shop) -> AsyncIterator[Client]:
    async with client_of(shop.app()) as client:
        yield client


async def test_a_failure_is_found_understood_replayed_and_removed(shop: Shop, admin: Client) -> None:
    stored = [await shop.fail(order_id=number, tenant=("acme", "globex")[number % 2]) for number in range(3)]
    page = (await admin("GET", LETTERS, params={"limit": 2, "state": "pending"})).json()
    rest = (
        await admin("GET", LETTERS, params={"limit": 2, "state": "pending", "cursor": page["next_cursor"]})
    ).json()
    assert [item["id"] for item in page["items"] + rest["items"]] == stored[::-1]
    assert (await admin("GET", f"{LETTERS}/{stored[0]}")).json()["payload"] == {"order_id": 0}
    shop.broken = False
    replayed = await admin("POST", f"{LETTERS}/{stored[0]}/replay", token="acme", json={"note": "mended"})
    assert replayed.json()["state"] == "resolved"
    assert_problem(await admin("POST", f"{LETTERS}/{stored[1]}/replay", token="acme"), 404)
    body = {"verb": "replay", "query": {"everything": True}}
    assert (await admin("POST", "/api/operations", token="acme", json=body)).json()["done"] == 1
    assert (await admin("DELETE", f"{LETTERS}/{stored[0]}")).status_code == 204
    stats = (await admin("GET", "/api/stats")).json()
    assert stats["by_state"] == {"pending": 1, "resolved": 1}
    assert_problem(await admin("GET", LETTERS, params={"cursor": "nonsense"}), 400, kind="invalid-cursor")


@pytest.mark.parametrize(
    "damage",
    ["state = 'asleep'", "error = 'no json'", "history = x'ff'", "headers = '[1]'", "payload = x'ff'"],
)
async def test_a_damaged_row_breaks_no_answer(shop: Shop, admin: Client, file: Path, damage: str) -> None:
    broken = await shop.fail()
    whole = await shop.fail()
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(f"UPDATE eventbus_dead_letters SET {damage} WHERE id = ?", (broken,))
    listed = (await admin("GET", LETTERS)).json()["items"]
    assert [item["id"] for item in listed] == [whole, broken]
    for method, path in (("GET", ""), ("POST", "/replay"), ("POST", "/discard"), ("DELETE", "")):
        response = await admin(method, f"{LETTERS}/{broken}{path}")
        assert response.status_code in (200, 204, 409), response.text
    assert (await admin("GET", "/api/stats")).status_code == 200
