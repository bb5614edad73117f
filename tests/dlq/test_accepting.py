"""Accepting durable deliveries: at once, later, into the spool, or with a clear refusal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from eventbus import CaptureFailed, EventBus
from eventbus_dlq import (
    DeadLetter,
    DeadLetterQuery,
    DeadLetterQueue,
    InvalidSession,
    Kept,
    MemoryStore,
    SpoolUnavailable,
    StoreUnavailable,
)


class Refusing(MemoryStore):
    """A store that is away for some writes, or answers none while it hangs."""

    def __init__(self) -> None:
        super().__init__()
        self.away = 0
        self.asked = 0
        self.retryable = True
        self.hang: anyio.Event | None = None

    async def accept(self, deliveries: Sequence[DeadLetter]) -> Sequence[Kept]:
        await self._answer()
        if self.hang is not None:
            await self.hang.wait()
        return await super().accept(deliveries)

    async def add(self, letters: Sequence[DeadLetter]) -> Sequence[str]:
        await self._answer()
        return await super().add(letters)

    async def _answer(self) -> None:
        self.asked += 1
        if self.asked <= self.away:
            raise StoreUnavailable("the server is gone", retryable=self.retryable)


def shop(store: MemoryStore, **options: Any) -> tuple[EventBus, list[Any]]:
    seen: list[Any] = []
    bus = EventBus(dlq=DeadLetterQueue(store, **{"poll": 3600, **options}))

    @bus.on("job", id="handler", durable=True)
    async def handler(event: Any) -> None:
        seen.append(event)

    @bus.on("fails", id="failing")
    async def failing(event: Any) -> None:
        raise RuntimeError("fails")

    return bus, seen


async def count(store: MemoryStore) -> int:
    return len((await store.find(DeadLetterQuery())).items)


async def until(there: Any) -> None:
    with anyio.fail_after(10):
        while not there():
            await anyio.sleep(0.001)


async def test_an_accept_is_tried_again_while_the_store_is_away() -> None:
    store = Refusing()
    store.away = 2
    bus, seen = shop(store)
    async with bus:
        receipt = await bus.publish("job", 1)
        assert receipt.deliveries["handler"].state == "accepted"
        await bus.wait_idle()
    assert (store.asked, seen) == (3, [1])


async def test_without_a_spool_the_publisher_is_told_after_the_capture_timeout() -> None:
    store = Refusing()
    store.away = 1_000
    bus, _seen = shop(store, capture_timeout=0.06)
    async with bus:
        with pytest.raises(CaptureFailed, match="the server is gone"):
            await bus.publish("job", 1)
    assert store.asked == 2
    assert await count(store) == 0


async def test_a_store_that_needs_a_person_is_asked_once() -> None:
    store = Refusing()
    store.away, store.retryable = 1_000, False
    bus, _ = shop(store)
    async with bus:
        with pytest.raises(CaptureFailed):
            await bus.publish("job", 1)
    assert store.asked == 1


async def test_what_the_store_does_not_take_is_spooled_imported_and_run(tmp_path: Path) -> None:
    store = Refusing()
    store.away = 1_000
    bus, seen = shop(store, capture_timeout=0, spool=tmp_path / "spool")
    async with bus:
        receipt = await bus.publish("job", 1)
        assert receipt.deliveries["handler"].state == "accepted"
        failed = await bus.publish("fails", 1)
        assert failed.deliveries["failing"].state == "dead_lettered"
        await until(lambda: seen)
        with anyio.fail_after(10):
            await bus.wait_idle()
            while not await count(store):  # the failure is imported when its turn comes
                await anyio.sleep(0.001)
        letter = await bus.dead_letter(str(failed.deliveries["failing"].dead_letter_id))
    assert seen == [1]
    assert letter.state == "pending"


async def test_while_the_spool_is_not_empty_later_writes_queue_up_behind_it(tmp_path: Path) -> None:
    store = Refusing()
    store.away = 1
    imports = anyio.Event()
    import_spool = store.import_spool

    async def late(*arguments: Any, **options: Any) -> bool:
        await imports.wait()
        return await import_spool(*arguments, **options)

    store.import_spool = late  # type: ignore[method-assign]
    bus, seen = shop(store, capture_timeout=0, spool=tmp_path / "spool")
    async with bus:
        await bus.publish("job", 1)
        assert store.asked == 1
        await bus.publish("job", 2)
        assert store.asked == 1  # the store would have taken it, before the first one
        imports.set()
        await until(lambda: len(seen) == 2)
    assert seen == [1, 2]


async def test_those_that_try_again_go_behind_the_first_that_gave_up(tmp_path: Path) -> None:
    store = Refusing()
    store.away = 1_000
    bus, seen = shop(store, capture_timeout=0.2, spool=tmp_path / "spool")
    async with bus:
        async with anyio.create_task_group() as group:
            group.start_soon(bus.publish, "job", 1)
            await anyio.sleep(0.1)
            group.start_soon(bus.publish, "job", 2)
        await until(lambda: len(seen) == 2)
    assert seen == [1, 2]


async def test_a_store_that_hangs_is_unavailable_too(tmp_path: Path) -> None:
    store = Refusing()
    store.hang = anyio.Event()
    bus, seen = shop(store, capture_timeout=0.05, spool=tmp_path / "spool")
    async with bus:
        receipt = await bus.publish("job", 1)
        assert receipt.deliveries["handler"].state == "accepted"
        await until(lambda: seen)
        with anyio.fail_after(10):
            await bus.wait_idle()
    assert seen == [1]


async def test_when_the_spool_fails_too_the_error_names_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Refusing()
    store.away = 1_000
    bus, _ = shop(store, capture_timeout=0, spool=tmp_path / "spool")

    async def full(writes: Any) -> None:
        raise SpoolUnavailable("no space left on device")

    async with bus:
        assert bus.dlq._spool is not None
        monkeypatch.setattr(bus.dlq._spool, "append", full)
        with pytest.raises(CaptureFailed, match=r"server is gone; .* no space left"):
            await bus.publish("job", 1)


async def test_a_spool_folder_that_cannot_be_used_keeps_the_bus_closed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    bus, _ = shop(MemoryStore(), spool=tmp_path / "file")
    with pytest.raises(SpoolUnavailable):
        await bus.start()
    assert not bus.running


async def test_a_cancelled_publisher_ends_its_wait_and_not_the_write() -> None:
    store = Refusing()
    store.away = 1
    bus, seen = shop(store, capture_timeout=60)
    async with bus:
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(bus.publish, "job", 1)
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
        await until(lambda: seen)
        await bus.wait_idle()
    assert seen == [1]


async def test_what_a_publisher_was_told_is_not_accepted_is_not_tried_again_behind_its_back() -> None:
    class Puzzled(Refusing):
        async def _answer(self) -> None:
            self.asked += 1
            if self.asked == 1:
                raise ValueError("the id is taken")

    store = Puzzled()
    bus, seen = shop(store)
    async with bus:
        with pytest.raises(CaptureFailed, match="the id is taken"):
            await bus.publish("job", 1)
        failed = await bus.publish("fails", 1, id="01a20191-7ec4-768f-91f4-410f77f8ae42")
        assert failed.deliveries["failing"].state == "dead_lettered"
        await bus.wait_idle()
    assert (store.asked, seen) == (2, [])


async def test_the_same_event_published_twice_is_run_once() -> None:
    store = MemoryStore()
    bus, seen = shop(store, keep_succeeded=True)
    async with bus:
        first = await bus.publish("job", 1, id="01a20191-7ec4-768f-91f4-410f77f8ae42")
        await bus.wait_idle()
        again = await bus.publish("job", 1, id="01a20191-7ec4-768f-91f4-410f77f8ae42")
        await bus.wait_idle()
    assert seen == [1]
    assert (
        first.deliveries["handler"].dead_letter_id == again.deliveries["handler"].dead_letter_id is not None
    )


class Sessions(MemoryStore):
    """A store that takes deliveries in within a session: a list, until it is committed."""

    def __init__(self) -> None:
        super().__init__()
        self.wake: Any = None

    def on_work(self, wake: Any) -> None:
        self.wake = wake

    async def accept_in(self, session: Any, deliveries: Sequence[DeadLetter]) -> Sequence[Kept]:  # type: ignore[override]
        return self.accept_in_sync(session, deliveries)

    def accept_in_sync(self, session: Any, deliveries: Sequence[DeadLetter]) -> Sequence[Kept]:  # type: ignore[override]
        session.extend(deliveries)
        return [Kept(it.id, it.state) for it in deliveries]

    async def commit(self, session: list[DeadLetter]) -> None:
        await self.accept(session)
        self.wake()


async def test_what_is_written_in_a_session_runs_when_it_commits_and_is_waited_for_then() -> None:
    store = Sessions()
    bus, seen = shop(store)
    async with bus:
        session: list[DeadLetter] = []
        receipt = await bus.publish("job", 1, session=session)
        assert receipt.deliveries["handler"].state == "accepted"
        await store.commit(session)
        with anyio.fail_after(10):
            await bus.wait_idle()
        assert seen == [1]
        rolled_back: list[DeadLetter] = []
        bus.publish_in(rolled_back, "job", 2)
        with anyio.fail_after(10):
            await bus.wait_idle()
        assert seen == [1]
        bus.publish_in(session := [], "job", 3)
        await store.commit(session)
        await until(lambda: len(seen) == 2)
    assert seen == [1, 3]


async def test_a_store_without_sessions_says_so_and_writes_nothing() -> None:
    class Plain:
        """A store that knows nothing of sessions."""

        def __init__(self, store: MemoryStore) -> None:
            self._store = store

        def __getattr__(self, name: str) -> Any:
            if name.startswith("accept_in"):
                raise AttributeError(name)
            return getattr(self._store, name)

    memory = MemoryStore()
    store: Any = Plain(memory)
    bus, _seen = shop(store)
    async with bus:
        with pytest.raises(InvalidSession, match="Plain cannot take deliveries in"):
            await bus.publish("job", 1, session=object())
        with pytest.raises(InvalidSession, match="without session="):
            bus.publish_in(object(), "job", 1)
    assert await count(memory) == 0
