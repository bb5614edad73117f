"""``acknowledge``: when a drain has come to its end, across processes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from controlled import ACME, EVERYTHING, claimable, close, configured
from letters import NOW, after, build_delivery, build_letter, build_letter_in, build_process
from steps import claim_one, lease_of, rescue, running, stored
from subjects import Subject
from test_open_close import over_durable_stores

from eventbus.controls import Control, ControlState, Scope
from eventbus_dlq.letter import DeadLetterState
from eventbus_dlq.store import DeadLetterStore, Settlement

LIVE = after(-30)


async def live(store: DeadLetterStore, *names: str) -> None:
    """Let processes beat."""
    for name in names:
        await store.announce(build_process(id=name))


async def acknowledge(
    store: DeadLetterStore, name: str, *drains: Control, seconds: float = 0.0
) -> list[Control]:
    """Let a process say that it runs nothing of these scopes; return what is drained by that."""
    return list(await store.acknowledge(name, drains, live_since=LIVE, now=after(seconds)))


async def test_it_is_drained_when_every_live_process_has_said_so(store: DeadLetterStore) -> None:
    await live(store, "web-1", "web-2", "web-3")
    control = await close(store, state="draining")
    assert await acknowledge(store, "web-1", control) == []
    assert await acknowledge(store, "web-3", control, seconds=1) == []
    assert (await configured(store)).controls == (control,)
    drained = replace(control, state=ControlState.DRAINED, drained_at=after(2))
    assert await acknowledge(store, "web-2", control, seconds=2) == [drained]
    assert (await configured(store)).controls == (drained,)


async def test_it_is_told_once(store: DeadLetterStore) -> None:
    await live(store, "web-1")
    control = await close(store, state="draining")
    (drained,) = await acknowledge(store, "web-1", control, seconds=1)
    assert await acknowledge(store, "web-1", control, seconds=2) == []
    assert await acknowledge(store, "web-1", drained, seconds=3) == []
    assert (await configured(store)).controls == (drained,)


async def test_it_stays_closed_when_it_is_drained(store: DeadLetterStore) -> None:
    letter = await stored(store, build_letter())
    await acknowledge(store, "web-1", await close(store, state="draining"))
    assert await claimable(store, letter) is False


async def test_without_a_live_process_nobody_has_to_say_so(store: DeadLetterStore) -> None:
    await store.announce(build_process(beat_at=after(-30.000001)))
    await close(store, state="draining")
    assert [it.state for it in await acknowledge(store, "web-1")] == ["drained"]


async def test_a_process_that_beat_at_that_very_moment_is_live(store: DeadLetterStore) -> None:
    await store.announce(build_process(id="web-1", beat_at=LIVE))
    control = await close(store, state="draining")
    assert await acknowledge(store, "web-2", control) == []
    assert len(await acknowledge(store, "web-1", control)) == 1


async def test_a_process_that_has_ended_is_not_waited_for(store: DeadLetterStore) -> None:
    await live(store, "web-1", "web-2")
    control = await close(store, state="draining")
    assert await acknowledge(store, "web-1", control) == []
    await store.withdraw("web-2")
    assert len(await acknowledge(store, "web-1")) == 1


async def test_a_process_that_starts_meanwhile_is_waited_for(store: DeadLetterStore) -> None:
    await live(store, "web-1")
    control = await close(store, state="draining")
    await live(store, "web-2")
    assert await acknowledge(store, "web-1", control) == []
    assert len(await acknowledge(store, "web-2", control)) == 1


async def test_one_cannot_speak_for_another(store: DeadLetterStore) -> None:
    await live(store, "web-1")
    control = await close(store, state="draining")
    for name in ("web-2", "web-11", "WEB-1", ""):
        assert await acknowledge(store, name, control) == []


async def test_a_run_of_the_scope_is_waited_for(store: DeadLetterStore) -> None:
    await live(store, "web-1")
    lease = await running(store, build_letter())
    control = await close(store, state="draining")
    assert await acknowledge(store, "web-1", control) == []
    await store.settle([Settlement(lease=lease, state=DeadLetterState.RESOLVED)], now=after(1))
    assert [it.drained_at for it in await acknowledge(store, "web-1", seconds=2)] == [after(2)]


@pytest.mark.parametrize("how", ["accept", "add"])
async def test_a_run_that_came_running_is_waited_for(store: DeadLetterStore, how: str) -> None:
    came = build_letter_in(DeadLetterState.RUNNING)
    if how == "accept":
        came = replace(came, error=None, history=(), fingerprint="")
    await getattr(store, how)([came])
    control = await close(store, state="draining")
    assert await acknowledge(store, "web-1", control) == []
    assert list(await store.release([lease_of(came)], now=NOW)) == []
    assert len(await acknowledge(store, "web-1", control)) == 1


async def test_a_run_of_a_process_that_has_died_is_waited_for_until_it_is_rescued(
    store: DeadLetterStore,
) -> None:
    letter = await stored(store, build_letter())
    await claim_one(store, letter.id)
    control = await close(store, state="draining")
    assert await acknowledge(store, "web-1", control, seconds=40) == []
    await rescue(store, letter.id, now=after(60))
    assert len(await acknowledge(store, "web-1", control, seconds=61)) == 1


@pytest.mark.parametrize(
    ("scope", "is_waited_for"),
    [
        (EVERYTHING, True),
        (ACME, True),
        (Scope(event="OrderPlaced"), True),
        (Scope(handler="billing.charge"), True),
        (Scope("acme", "OrderPlaced", "billing.charge"), True),
        (Scope(tenant="globex"), False),
        (Scope(tenant=""), False),
        (Scope("acme", "OrderPaid"), False),
        (Scope("acme", None, "stock.reserve"), False),
    ],
    ids=str,
)
async def test_only_runs_of_the_scope_are_waited_for(
    store: DeadLetterStore, scope: Scope, is_waited_for: bool
) -> None:
    delivery = build_delivery()
    await store.accept([delivery])
    await claim_one(store, delivery.id)
    control = await close(store, scope, "draining")
    assert bool(await acknowledge(store, "web-1", control)) is not is_waited_for


async def test_what_is_only_stored_is_not_waited_for(store: DeadLetterStore) -> None:
    await store.accept([build_delivery()])
    await store.add([build_letter(retry_at=NOW)])
    control = await close(store, state="draining")
    assert len(await acknowledge(store, "web-1", control)) == 1


async def test_what_was_said_of_an_earlier_drain_does_not_count(store: DeadLetterStore) -> None:
    await live(store, "web-1", "web-2")
    first = await close(store, state="draining")
    assert await acknowledge(store, "web-1", first) == []
    second = await close(store, state="draining", now=after(1))
    assert await acknowledge(store, "web-2", second) == []
    assert await acknowledge(store, "web-1", first) == []
    assert [it.version for it in await acknowledge(store, "web-1", second)] == [second.version]


async def test_what_was_said_before_it_was_opened_does_not_count(store: DeadLetterStore) -> None:
    await live(store, "web-1", "web-2")
    first = await close(store, state="draining")
    assert await acknowledge(store, "web-1", first) == []
    await store.open_scopes([ACME], now=after(1))
    assert await acknowledge(store, "web-2", first) == []
    second = await close(store, state="draining", now=after(2))
    assert await acknowledge(store, "web-2", second) == []
    assert len(await acknowledge(store, "web-1", second)) == 1


async def test_what_is_paused_is_never_drained(store: DeadLetterStore) -> None:
    control = await close(store)
    for drains in ((), (control,), (replace(control, state=ControlState.DRAINING),)):
        assert await acknowledge(store, "web-1", *drains) == []
    assert (await configured(store)).controls == (control,)


async def test_what_is_drained_is_drained_again(store: DeadLetterStore) -> None:
    await live(store, "web-1")
    await acknowledge(store, "web-1", await close(store, state="draining"))
    again = await close(store, state="draining", now=after(5))
    assert await acknowledge(store, "web-1", seconds=6) == []
    (drained,) = await acknowledge(store, "web-1", again, seconds=7)
    assert (drained.since, drained.drained_at) == (after(5), after(7))


async def test_each_drain_comes_to_an_end_of_its_own(store: DeadLetterStore) -> None:
    await live(store, "web-1")
    lease = await running(store, build_letter())
    acme = await close(store, state="draining")
    globex = await close(store, Scope(tenant="globex"), "draining", now=after(1))
    ended = await acknowledge(store, "web-1", acme, globex, seconds=2)
    assert [it.scope for it in ended] == [Scope(tenant="globex")]
    await store.release([lease], now=after(3))
    assert [it.scope for it in await acknowledge(store, "web-1", seconds=4)] == [ACME]


async def test_several_come_to_their_end_at_once(store: DeadLetterStore) -> None:
    await live(store, "web-1")
    lease = await running(store, build_letter())
    scopes = [ACME, EVERYTHING, Scope(handler="billing.charge")]
    drains = [await close(store, it, "draining", now=after(n)) for n, it in enumerate(scopes)]
    assert await acknowledge(store, "web-1", *drains) == []
    await store.release([lease], now=NOW)
    assert {it.scope for it in await acknowledge(store, "web-1")} == set(scopes)


@over_durable_stores
async def test_what_was_said_outlives_a_durable_store(subject: Subject, tmp_path: Path) -> None:
    first, second = subject.make(tmp_path), subject.make(tmp_path)
    await first.open()
    await live(first, "web-1", "web-2")
    control = await close(first, state="draining")
    assert await acknowledge(first, "web-1", control) == []
    await first.close()

    await second.open()
    try:
        (drained,) = await acknowledge(second, "web-2", control, seconds=1)
        assert (await configured(second)).controls == (drained,)
    finally:
        await second.close()
