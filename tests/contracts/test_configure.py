"""``configuration`` and ``configure``: what operators have set, and the version that tells of a change."""

from __future__ import annotations

from pathlib import Path

import anyio
from controlled import ACME, close, configured, version
from letters import NOW, after, build_delivery, build_process
from steps import claim_due
from subjects import Subject
from test_open_close import over_durable_stores

from eventbus.retry import RetryPolicy
from eventbus_dlq.control_store import Configuration, Schedule
from eventbus_dlq.store import DeadLetterStore

HOURLY = RetryPolicy(attempts=24, backoff="fixed", delay=3600.0, max_delay=7200.0)
SLOWLY = RetryPolicy(attempts=7, backoff="linear", delay=0.25, multiplier=1.5, max_delay=90.5, jitter=False)


async def test_at_first_nothing_is_set(store: DeadLetterStore) -> None:
    assert await store.configuration() == Configuration(
        version=0, controls=(), schedules=(), automatic_retries=True
    )
    assert await store.configuration(known=0) is None


async def test_a_schedule_is_set_for_a_handler_for_an_event_and_for_all(store: DeadLetterStore) -> None:
    await store.configure(now=NOW, by="ann", handler="billing.charge", redelivery=HOURLY)
    await store.configure(now=after(1), event="billing.charge", redelivery=SLOWLY)
    answer = await store.configure(now=after(2), by="bob", redelivery=HOURLY)
    assert set(answer.schedules) == {
        Schedule("billing.charge", None, HOURLY, "ann", NOW),
        Schedule(None, "billing.charge", SLOWLY, None, after(1)),
        Schedule(None, None, HOURLY, "bob", after(2)),
    }
    assert await store.configuration() == answer


async def test_a_later_schedule_takes_the_place_of_the_one_for_the_same(store: DeadLetterStore) -> None:
    for handler in ("billing.charge", "Billing.Charge", None):
        await store.configure(now=NOW, by="ann", handler=handler, redelivery=HOURLY)
        answer = await store.configure(now=after(60), by="bob", handler=handler, redelivery=SLOWLY)
    assert set(answer.schedules) == {
        Schedule(handler, None, SLOWLY, "bob", after(60))
        for handler in ("billing.charge", "Billing.Charge", None)
    }


async def test_a_schedule_that_is_forgotten_leaves_the_others(store: DeadLetterStore) -> None:
    for handler, event in (("stock.reserve", None), (None, "OrderPlaced"), (None, None)):
        await store.configure(now=NOW, handler=handler, event=event, redelivery=HOURLY)
    answer = await store.configure(now=after(1), event="OrderPlaced", forget_redelivery=True)
    assert {(it.handler, it.event) for it in answer.schedules} == {("stock.reserve", None), (None, None)}
    answer = await store.configure(now=after(2), forget_redelivery=True)
    assert [(it.handler, it.event) for it in answer.schedules] == [("stock.reserve", None)]


async def test_the_switch_is_turned_and_turned_back(store: DeadLetterStore) -> None:
    assert (await store.configure(now=NOW, automatic_retries=False)).automatic_retries is False
    assert (await configured(store)).automatic_retries is False
    await store.configure(now=NOW, redelivery=HOURLY)
    assert (await configured(store)).automatic_retries is False
    assert (await store.configure(now=NOW, automatic_retries=True)).automatic_retries is True


async def test_a_schedule_and_the_switch_are_set_together(store: DeadLetterStore) -> None:
    answer = await store.configure(
        now=NOW, handler="stock.reserve", redelivery=SLOWLY, automatic_retries=False
    )
    assert [(it.handler, it.redelivery) for it in answer.schedules] == [("stock.reserve", SLOWLY)]
    assert answer.automatic_retries is False


async def test_the_switch_is_for_whoever_claims_and_not_for_the_store(store: DeadLetterStore) -> None:
    await store.configure(now=NOW, automatic_retries=False)
    await store.accept([build_delivery()])
    assert len(await claim_due(store)) == 1


async def test_nothing_is_told_while_the_version_is_the_known_one(store: DeadLetterStore) -> None:
    known = (await store.configure(now=NOW, redelivery=HOURLY)).version
    assert await store.configuration(known=known) is None
    for other in (0, known + 1):
        assert await store.configuration(known=other) == await configured(store)
    answer = await store.configure(now=NOW, automatic_retries=False)
    assert await store.configuration(known=known) == answer


async def test_every_change_raises_the_version(store: DeadLetterStore) -> None:
    seen = [await version(store)]
    for values in (
        {"handler": "stock.reserve", "redelivery": HOURLY},
        {"handler": "stock.reserve", "redelivery": SLOWLY},
        {"handler": "stock.reserve", "forget_redelivery": True},
        {"automatic_retries": False},
        {"automatic_retries": True},
    ):
        answer = await store.configure(now=NOW, **values)  # type: ignore[arg-type]  # as configure names them
        seen.append(answer.version)
    control = await close(store, ACME, "paused", until=after(60))
    seen.append(control.version)
    control = await close(store, ACME, "draining", until=after(60))
    seen.append(control.version)
    await store.acknowledge("web-1", [control], live_since=after(-30), now=NOW)
    seen.append(await version(store))
    await store.unpark(limit=10, now=after(60))
    seen.append(await version(store))
    seen.append((await close(store)).version)
    await store.open_scopes([ACME], now=NOW)
    seen.append(await version(store))
    assert seen == sorted(set(seen))


async def test_what_changes_nothing_leaves_the_version(store: DeadLetterStore) -> None:
    control = await close(store, ACME, "draining")
    await store.announce(build_process(id="web-1"))
    before = await configured(store)
    await store.configure(now=NOW)
    await store.configure(now=NOW, automatic_retries=True)
    await store.configure(now=NOW, handler="stock.reserve", forget_redelivery=True)
    await store.open_scopes([], now=NOW)
    await store.open_scopes([ACME._replace(handler="billing.charge")], now=NOW)
    await store.acknowledge("web-2", [control], live_since=after(-30), now=NOW)
    await store.accept([build_delivery()])
    await claim_due(store)
    await store.unpark(limit=10, now=NOW)
    assert await store.configuration(known=before.version) is None
    assert await store.configuration() == before


async def test_changes_at_a_time_are_all_kept(store: DeadLetterStore) -> None:
    handlers = [f"handler-{number}" for number in range(10)]
    async with anyio.create_task_group() as group:
        for handler in handlers:
            group.start_soon(_configure, store, handler)
    assert sorted(str(it.handler) for it in (await configured(store)).schedules) == handlers
    assert await version(store) == len(handlers)


async def _configure(store: DeadLetterStore, handler: str) -> None:
    await store.configure(now=NOW, handler=handler, redelivery=HOURLY)


@over_durable_stores
async def test_what_is_set_outlives_a_durable_store(subject: Subject, tmp_path: Path) -> None:
    first, second = subject.make(tmp_path), subject.make(tmp_path)
    await first.open()
    await close(first, until=after(3600))
    await first.configure(now=NOW, by="ann", event="OrderPlaced", redelivery=SLOWLY)
    before = await first.configure(now=NOW, automatic_retries=False)
    await first.close()

    await second.open()
    try:
        assert await second.configuration() == before
    finally:
        await second.close()


@over_durable_stores
async def test_other_stores_on_the_same_place_see_it_at_once(subject: Subject, tmp_path: Path) -> None:
    first, second = subject.make(tmp_path), subject.make(tmp_path)
    await first.open()
    await second.open()
    try:
        for known in range(3):
            assert await second.configuration(known=known) is None
            answer = await first.configure(now=NOW, handler=f"handler-{known}", redelivery=HOURLY)
            assert await second.configuration(known=known) == answer
    finally:
        await first.close()
        await second.close()
