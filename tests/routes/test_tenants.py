"""What belongs to others does not exist for a principal of some tenants."""

from __future__ import annotations

import pytest
from admin_shop import Client, Shop, assert_problem

LETTERS = "/api/dead-letters"
VERBS = [
    ("GET", ""),
    ("DELETE", ""),
    ("POST", "/replay"),
    ("POST", "/resolve"),
    ("POST", "/discard"),
]


async def listed(admin: Client, token: str, **parameters: object) -> set[str]:
    response = await admin("GET", LETTERS, token=token, params=parameters)
    assert response.status_code == 200
    return {item["id"] for item in response.json()["items"]}


async def test_a_list_holds_only_the_own(shop: Shop, admin: Client) -> None:
    own = await shop.fail(tenant="acme")
    foreign = await shop.fail(tenant="globex")
    nobodys = await shop.fail(tenant=None)
    assert await listed(admin, "admin") == {own, foreign, nobodys}
    assert await listed(admin, "acme") == {own}
    assert await listed(admin, "nobody") == set()
    assert await listed(admin, "acme", tenant=["acme", "globex"]) == {own}
    assert await listed(admin, "acme", tenant="globex") == set()
    assert await listed(admin, "nobody", tenant="acme") == set()


async def test_pages_are_full_of_the_own(shop: Shop, admin: Client) -> None:
    """The limit is in the query: foreign letters do not thin out the pages."""
    for number in range(6):
        await shop.fail(tenant=("acme", "globex")[number % 2])
    page = (await admin("GET", LETTERS, token="acme", params={"limit": 2})).json()
    assert [item["tenant"] for item in page["items"]] == ["acme", "acme"]
    assert page["next_cursor"] is not None


@pytest.mark.parametrize(("method", "verb"), VERBS)
@pytest.mark.parametrize("tenant", ["globex", None])
@pytest.mark.parametrize("token", ["acme", "nobody"])
async def test_a_foreign_letter_answers_exactly_like_none(
    shop: Shop, admin: Client, method: str, verb: str, tenant: str | None, token: str
) -> None:
    foreign = await shop.fail(tenant=tenant)
    unknown = "0" + foreign[1:] if foreign[0] != "0" else "f" + foreign[1:]
    answers = [await admin(method, f"{LETTERS}/{one}{verb}", token=token) for one in (foreign, unknown)]
    for answer in answers:
        assert_problem(answer, 404, kind="dead-letter-not-found")
    first, second = answers
    assert first.text.replace(foreign, "ID") == second.text.replace(unknown, "ID")
    assert first.headers == second.headers
    assert (await shop.store.get(foreign)).state == "pending"


@pytest.mark.parametrize(("method", "verb"), VERBS)
async def test_the_own_letter_takes_every_verb(shop: Shop, admin: Client, method: str, verb: str) -> None:
    own = await shop.fail(tenant="acme")
    assert (await admin(method, f"{LETTERS}/{own}{verb}", token="acme")).status_code in (200, 204)


@pytest.mark.parametrize(
    "query", [{"everything": True}, {"tenant": ["acme", "globex"]}, {"event": "order.placed"}]
)
async def test_an_operation_touches_only_the_own(shop: Shop, admin: Client, query: dict[str, object]) -> None:
    own, foreign, nobodys = [await shop.fail(tenant=tenant) for tenant in ("acme", "globex", None)]
    shop.broken = False
    body = {"verb": "replay", "query": query}
    assert (await admin("POST", "/api/operations", token="nobody", json=body)).json()["total"] == 0
    result = (await admin("POST", "/api/operations", token="acme", json=body)).json()
    assert (result["total"], result["done"]) == (1, 1)
    states = [(await shop.store.get(one)).state for one in (own, foreign, nobodys)]
    assert states == ["resolved", "pending", "pending"]


async def test_statistics_count_only_the_own(shop: Shop, admin: Client) -> None:
    for tenant in ("acme", "acme", "globex", None):
        await shop.fail(tenant=tenant)
    everybody = (await admin("GET", "/api/stats")).json()
    assert everybody["by_tenant"] == {"acme": 2, "globex": 1}
    assert (everybody["total"], everybody["without_tenant"]) == (4, 1)
    own = (await admin("GET", "/api/stats", token="acme")).json()
    assert own["by_tenant"] == {"acme": 2}
    assert (own["total"], own["without_tenant"]) == (2, 0)
    assert (await admin("GET", "/api/stats", token="nobody")).json()["total"] == 0


@pytest.mark.parametrize("token", ["acme", "nobody"])
async def test_the_metrics_of_the_whole_bus_are_not_for_some_tenants(admin: Client, token: str) -> None:
    assert_problem(
        await admin("GET", "/api/metrics", token=token), 403, says="tenants", kind="permission-denied"
    )
