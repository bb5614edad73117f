"""What the tests of controls do again and again."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from letters import NOW, build_delivery
from steps import claim_due

from eventbus.controls import Control, Scope
from eventbus.errors import Paused
from eventbus_dlq.control_store import Closing, Configuration
from eventbus_dlq.letter import DeadLetter, DeadLetterState
from eventbus_dlq.store import Claim, DeadLetterStore

EVERYTHING = Scope()
ACME = Scope(tenant="acme")


async def close(
    store: DeadLetterStore,
    scope: Scope = ACME,
    state: Closing = "paused",
    *,
    reason: str = "their bank is down",
    by: str = "ann",
    until: datetime | None = None,
    now: datetime = NOW,
) -> Control:
    """Close a scope, the one tenant of most letters unless said otherwise."""
    return await store.close_scope(scope, state, reason=reason, by=by, until=until, now=now)


async def open_again(store: DeadLetterStore, *scopes: Scope, now: datetime = NOW) -> Collection[Control]:
    """Remove the controls of these scopes, and bring everything back that none closes any more."""
    removed = await store.open_scopes(scopes or [ACME], now=now)
    await bring_back(store, now=now)
    return removed


async def bring_back(store: DeadLetterStore, *, limit: int = 1_000, now: datetime = NOW) -> int:
    """Un-park until nothing is left; return how many calls it took."""
    for calls in range(1, 100):
        if not await store.unpark(limit=limit, now=now):
            return calls
    raise AssertionError("a store always finds more to un-park")


async def configured(store: DeadLetterStore) -> Configuration:
    """Return what operators have set."""
    configuration = await store.configuration()
    assert configuration is not None
    return configuration


async def version(store: DeadLetterStore) -> int:
    """Return the version of what operators have set."""
    return (await configured(store)).version


async def parked_delivery(store: DeadLetterStore, **values: object) -> DeadLetter:
    """Accept a delivery whose scope is closed, and let a worker meet it; return it as it is then."""
    delivery = build_delivery(**values)  # type: ignore[arg-type]  # as the caller says
    await store.accept([delivery])
    assert list(await claim_due(store, {delivery.handler_id: 1})) == []
    kept = await store.get(delivery.id)
    assert kept.state is DeadLetterState.PARKED
    return kept


async def claimable(store: DeadLetterStore, letter: DeadLetter, *, now: datetime = NOW) -> bool:
    """Tell whether a letter can be claimed by its id: it is, or is refused because of a control."""
    (answer,) = await store.claim([letter.id], owner="worker-1", lease=30.0, now=now)
    if isinstance(answer, Claim):
        return True
    assert isinstance(answer, Paused), answer
    return False


async def states(store: DeadLetterStore, letters: Collection[DeadLetter]) -> list[str]:
    """Return where letters are, with the reason if there is one."""
    kept = [await store.get(letter.id) for letter in letters]
    return [str(it.state) if it.reason is None else f"{it.state}/{it.reason}" for it in kept]
