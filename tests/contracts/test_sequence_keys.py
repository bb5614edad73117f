"""Ordering keys: each is a sequence of its own, compared as it is."""

from __future__ import annotations

from in_sequence import KEY, standing
from letters import build_delivery
from steps import claim_due

from eventbus_dlq.store import DeadLetterStore

KEYS = [
    "a", "A", "a ", " a", "", "1", "01", "1.0", "ä", "a\u0308", "a:b", "a\tb", "a\nb", "null", "None",
    "\uff41", "ß", "ss", "x" * 500, "x" * 499 + "y", "1" * 40, "1" * 39, "\U0001f600", "%", "_",
    "'", '"', "\\",
]  # fmt: skip


async def test_keys_are_compared_as_they_are(store: DeadLetterStore) -> None:
    deliveries = [build_delivery(key) for key in KEYS]
    await store.accept(deliveries)
    assert await standing(store, deliveries) == ["accepted"] * len(KEYS)
    assert {key.ordering_key for key in await store.blocked({"billing.charge"})} == set(KEYS)
    behind = [build_delivery(key) for key in KEYS]
    await store.accept(behind)
    assert await standing(store, behind) == ["accepted waits"] * len(KEYS)


async def test_many_keys_never_share_a_sequence(store: DeadLetterStore) -> None:
    deliveries = [build_delivery(f"customer-{number}") for number in range(1_000)]
    await store.accept(deliveries)
    claims = await claim_due(store, {"billing.charge": 2_000}, limit=2_000)
    assert len(claims) == 1_000


async def test_one_key_of_two_handlers_is_two_sequences(store: DeadLetterStore) -> None:
    first = build_delivery(KEY)
    second = build_delivery(KEY, event_id=first.event_id, handler_id="stock.reserve")
    await store.accept([first, second])
    assert await standing(store, [first, second]) == ["accepted", "accepted"]
    # The parts of both names, put together, are alike.
    await store.accept(
        alike := [build_delivery("b:c", handler_id="a"), build_delivery("c", handler_id="a:b")]
    )
    assert await standing(store, alike) == ["accepted", "accepted"]


async def test_tenants_share_a_sequence_when_they_share_its_key(store: DeadLetterStore) -> None:
    deliveries = [build_delivery(KEY, tenant="acme"), build_delivery(KEY, tenant="globex")]
    await store.accept(deliveries)
    assert await standing(store, deliveries) == ["accepted", "accepted waits"]
