"""A store that is down is told of in a few log lines, however much is refused meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from eventbus import CaptureFailed, EventBus, TelemetryEvent
from eventbus.telemetry import Telemetry
from eventbus.testing import FakeClock
from eventbus_dlq import DeadLetterQueue, MemoryStore, StoreUnavailable
from eventbus_dlq.outage import Outage
from eventbus_dlq.processes import ANNOUNCE_EVERY


class DownStore(MemoryStore):
    """A store that is down while a test says so.

    Attributes:
        down: whether it is.
        refused: how often it was asked then.
        claims: how often it was asked for work else.
    """

    def __init__(self) -> None:
        super().__init__()
        self.down = False
        self.refused = 0
        self.claims = 0

    def _check(self) -> None:
        if self.down:
            self.refused += 1
            raise StoreUnavailable("the server is gone")

    async def add(self, letters: Any) -> Any:
        self._check()
        return await super().add(letters)

    async def accept(self, deliveries: Any) -> Any:
        self._check()
        return await super().accept(deliveries)

    async def claim_due(self, wanted: Any, **options: Any) -> Any:
        self._check()
        self.claims += 1
        return await super().claim_due(wanted, **options)

    async def announce(self, process: Any) -> None:
        self._check()
        await super().announce(process)

    async def import_spool(self, spool_id: str, writes: Any, **options: Any) -> Any:
        self._check()
        return await super().import_spool(spool_id, writes, **options)


def shop(store: DownStore, **options: Any) -> EventBus:
    bus = EventBus(dlq=DeadLetterQueue(store, poll=0.01, **options))

    async def mail(event: Any) -> None:
        pass

    async def charge(event: Any) -> None:
        raise ConnectionError("the bank is down")

    bus.subscribe("order.placed", mail, id="mail", durable=True)
    bus.subscribe("order.paid", charge, id="billing.charge")
    return bus


async def test_an_outage_is_told_of_when_it_begins_and_when_it_is_over(tmp_path: Path) -> None:
    store = DownStore()
    bus = shop(store, spool=tmp_path / "spool", capture_timeout=0.1)
    with capture_logs() as logs:
        async with bus:
            store.down = True
            async with anyio.create_task_group() as group:
                for number in range(50):
                    group.start_soon(bus.publish, "order.placed", number)
                    group.start_soon(bus.publish, "order.paid", number)
            with anyio.fail_after(10):
                while not any(line["event"] == "spool.waits" for line in logs):
                    await anyio.sleep(0.001)
            store.down = False
            await bus.wait_idle()
    told = [line["event"] for line in logs]
    assert told.count("store.unavailable") == told.count("store.available") == 1
    assert sorted(set(told)) == ["spool.waits", "store.available", "store.unavailable"]
    assert len(told) == 3
    (end,) = [line for line in logs if line["event"] == "store.available"]
    assert end["refused"] >= 100


async def test_what_is_lost_for_want_of_a_spool_is_told_of_without_a_traceback() -> None:
    store = DownStore()
    bus = shop(store, capture_timeout=0.05)
    with capture_logs() as logs:
        async with bus:
            store.down = True
            for event in ("order.placed", "order.paid"):
                with pytest.raises(CaptureFailed, match="the server is gone"):
                    await bus.publish(event, 1)
            store.down = False
    lines = {line["event"]: line for line in logs if line["log_level"] == "error"}
    assert set(lines) == {"accept.failed", "capture.failed"}
    for line in lines.values():
        assert line["error"] == "the server is gone"
        assert line["exc_info"] is None


async def test_an_outage_that_lasts_is_told_of_every_minute(fake_clock: FakeClock) -> None:
    seen: list[TelemetryEvent] = []
    outage = Outage(telemetry=Telemetry([seen.append]), clock=fake_clock)
    with capture_logs() as logs:
        for second in range(150):
            outage.met(StoreUnavailable(f"the server is gone for {second} s"), during="claim")
            fake_clock.advance(1)
        outage.over()
        outage.over()
    assert [(line["event"], line.get("seconds"), line.get("refused")) for line in logs] == [
        ("store.unavailable", None, None),
        ("store.still_unavailable", 60, 61),
        ("store.still_unavailable", 120, 121),
        ("store.available", 150, 150),
    ]
    assert [(event.name, event.fields) for event in seen] == [
        ("store.unavailable", {"error": "the server is gone for 0 s"}),
        ("store.available", {"seconds": 150, "refused": 150}),
    ]


async def test_a_health_check_sees_the_outage_and_the_spool(tmp_path: Path) -> None:
    store = DownStore()
    bus = shop(store, spool=tmp_path / "spool", capture_timeout=0.1)
    assert bus.dlq.store_error is None
    async with bus:
        assert (bus.dlq.store_error, bus.dlq.is_spooling) == (None, False)
        store.down = True
        await bus.publish("order.placed", 1)
        assert str(bus.dlq.store_error) == "the server is gone"
        assert bus.dlq.is_spooling
        store.down = False
        await bus.wait_idle()
        assert (bus.dlq.store_error, bus.dlq.is_spooling) == (None, False)


async def test_an_outage_that_nobody_publishes_in_is_over_when_the_store_is_back(
    fake_clock: FakeClock,
) -> None:
    store = DownStore()
    bus = EventBus(dlq=DeadLetterQueue(store, clock=fake_clock))
    async with bus:
        store.down = True
        await fake_clock.wait_for_sleepers()
        fake_clock.advance(ANNOUNCE_EVERY)
        with anyio.fail_after(10):
            while bus.dlq.store_error is None:
                await anyio.sleep(0.001)
        store.down = False
        with anyio.fail_after(10):
            while bus.dlq.store_error is not None:
                await fake_clock.wait_for_sleepers()
                fake_clock.advance(1)
                await anyio.sleep(0.001)


async def test_what_finds_nothing_to_do_ends_no_outage() -> None:
    store = DownStore()
    bus = shop(store, capture_timeout=0)
    seen: list[TelemetryEvent] = []
    bus.telemetry = Telemetry([seen.append])
    async with bus:
        await anyio.wait_all_tasks_blocked()  # the row of this process is written
        for _ in range(3):
            store.down = True
            with pytest.raises(CaptureFailed):
                await bus.publish("order.placed", 1)
            store.down = False
            claims = store.claims
            with anyio.fail_after(10):
                while store.claims < claims + 2:
                    await anyio.sleep(0.001)
    names = [event.name for event in seen if event.name.startswith("store.")]
    assert names == ["store.unavailable"]
