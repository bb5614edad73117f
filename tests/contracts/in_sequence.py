"""What the tests of sequences do again and again."""

from __future__ import annotations

from letters import NOW, build_delivery, build_letter_in
from steps import claim_due

from eventbus_dlq.letter import DeadLetter, DeadLetterState
from eventbus_dlq.store import DeadLetterStore, Lease, Settlement

EXHAUSTED, RESOLVED = DeadLetterState.EXHAUSTED, DeadLetterState.RESOLVED
KEY = "order-1017"


async def accepted(store: DeadLetterStore, number: int = 3, key: str = KEY) -> list[DeadLetter]:
    """Accept deliveries of one key, one after another; return them."""
    deliveries = [build_delivery(key) for _ in range(number)]
    await store.accept(deliveries)
    return deliveries


async def blocked_by_a_failure(store: DeadLetterStore, followers: int = 2) -> list[DeadLetter]:
    """Store a failure and deliveries behind it; return all of them."""
    head = build_letter_in(EXHAUSTED, ordering_key=KEY)
    await store.add([head])
    return [head, *await accepted(store, followers)]


async def standing(store: DeadLetterStore, letters: list[DeadLetter]) -> list[str]:
    """Return where letters stand, with a mark at those that wait."""
    kept = [await store.get(letter.id) for letter in letters]
    return [f"{it.state} waits" if it.waits else str(it.state) for it in kept]


async def end(store: DeadLetterStore, lease: Lease, state: DeadLetterState, **values: object) -> None:
    """Settle a run."""
    lost = await store.settle([Settlement(lease=lease, state=state, **values)], now=NOW)  # type: ignore[arg-type]  # as the caller says
    assert list(lost) == []


async def run_next(store: DeadLetterStore) -> str:
    """Run the one letter that is due to its success; return its id."""
    (claim,) = await claim_due(store)
    await end(store, claim.lease, RESOLVED, forget=True)
    return claim.letter.id
