"""``announce``, ``withdraw``, ``processes``: who shares the store."""

from __future__ import annotations

from dataclasses import replace

from letters import NOW, after, build_process

from eventbus_dlq.store import DeadLetterStore


async def test_nobody_is_there_at_first(store: DeadLetterStore) -> None:
    assert list(await store.processes()) == []


async def test_a_process_is_kept_as_it_says_it_is(store: DeadLetterStore) -> None:
    process = build_process(name="läden & co", handlers=("a", "b", "ü" * 200, 'quote"', "c,d"))
    await store.announce(process)
    assert list(await store.processes()) == [process]


async def test_a_process_without_handlers_is_one_too(store: DeadLetterStore) -> None:
    process = build_process(handlers=())
    await store.announce(process)
    assert list(await store.processes()) == [process]


async def test_the_processes_come_by_id(store: DeadLetterStore) -> None:
    processes = [build_process(id=f"process-{number}") for number in (3, 1, 2, 10)]
    for process in processes:
        await store.announce(process)
    assert [it.id for it in await store.processes()] == ["process-1", "process-10", "process-2", "process-3"]


async def test_an_announcement_takes_the_place_of_the_earlier_one(store: DeadLetterStore) -> None:
    process, other = build_process(), build_process()
    await store.announce(process)
    await store.announce(other)
    later = replace(process, beat_at=after(10), handlers=("mail.send",))
    await store.announce(later)
    assert {it.id: it for it in await store.processes()} == {process.id: later, other.id: other}


async def test_a_process_that_withdraws_is_gone(store: DeadLetterStore) -> None:
    process, other = build_process(), build_process()
    await store.announce(process)
    await store.announce(other)
    await store.withdraw(process.id)
    assert list(await store.processes()) == [other]


async def test_withdrawing_what_is_not_there_is_harmless(store: DeadLetterStore) -> None:
    await store.withdraw("nobody")
    process = build_process()
    await store.announce(process)
    await store.withdraw(process.id)
    await store.withdraw(process.id)
    assert list(await store.processes()) == []


async def test_a_dead_process_stays_listed_until_it_is_given_up(store: DeadLetterStore) -> None:
    dead, alive = build_process(beat_at=after(-7_200)), build_process()
    await store.announce(dead)
    await store.announce(alive)
    assert len(await store.processes()) == 2
    await store.exhaust_unhandled(since=after(-3_600), now=NOW)
    assert list(await store.processes()) == [alive]


async def test_a_process_that_beat_at_that_very_moment_stays(store: DeadLetterStore) -> None:
    process = build_process(beat_at=after(-3_600))
    await store.announce(process)
    await store.exhaust_unhandled(since=after(-3_600), now=NOW)
    assert list(await store.processes()) == [process]
