"""Feeding a bus from lines: what is counted, refused, lost and stopped."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import anyio
import anyio.lowlevel
from pydantic import BaseModel

from eventbus import BusClosed, EventBus
from eventbus_adapters.cli.feed import Feeder, Tally
from eventbus_dlq import DeadLetter, DeadLetterQueue, MemoryStore, StoreUnavailable


class OrderPlaced(BaseModel):
    event_name: ClassVar[str] = "order.placed"
    event_version: ClassVar[int] = 2
    order_id: int


class Chunks:
    """A source of chunks; waits for ever after the last one if it is not to end."""

    def __init__(self, *chunks: bytes | Exception, ends: bool = True) -> None:
        self._chunks: Iterator[bytes | Exception] = iter(chunks)
        self._ends = ends

    async def chunk(self) -> bytes:
        await anyio.lowlevel.checkpoint()
        chunk = next(self._chunks, b"")
        if isinstance(chunk, Exception):
            raise chunk
        if not chunk and not self._ends:
            await anyio.sleep_forever()
        return chunk


class Shop:
    """A bus with a handler, and what was heard of the feeding."""

    def __init__(self, dlq: DeadLetterQueue | None) -> None:
        self.bus = EventBus(dlq=dlq, shutdown_grace=0.0)
        self.seen: list[int] = []
        self.complaints: list[tuple[int, str]] = []
        self.read = 0
        self.full = anyio.Event()
        self.go = anyio.Event()
        self.bus.subscribe(OrderPlaced, self.charge, id="billing.charge")
        self.bus.subscribe("stock.*", self.charge_later, id="stock.count")
        self.bus.subscribe("ping", self.ping, id="ping")

    async def charge(self, order: OrderPlaced) -> None:
        await anyio.lowlevel.checkpoint()
        if order.order_id < 0:
            raise ConnectionError("offline")
        self.seen.append(order.order_id)

    async def charge_later(self, data: Any) -> None:
        self.full.set()
        await self.go.wait()
        self.seen.append(data)

    async def ping(self, data: Any) -> None:
        self.seen.append(data)

    def feeder(self, concurrency: int = 10) -> Feeder:
        def progress(read: int) -> None:
            self.read = read

        def complain(number: int, why: str) -> None:
            self.complaints.append((number, why))

        return Feeder(self.bus, concurrency=concurrency, complain=complain, progress=progress)

    async def feed(self, source: Any, concurrency: int = 10) -> Tally:
        async with self.bus:
            feeder = self.feeder(concurrency)
            await feeder.run(source)
        return feeder.tally


def ndjson(*documents: Any) -> bytes:
    return b"".join(json.dumps(document).encode() + b"\n" for document in documents)


def orders(*ids: int) -> bytes:
    return ndjson(*({"event": "order.placed", "data": {"order_id": order}} for order in ids))


async def test_every_line_is_published_and_counted(dlq: DeadLetterQueue) -> None:
    shop = Shop(dlq)
    content = orders(*range(50))
    tally = await shop.feed(Chunks(content[:77], content[77:]))
    assert sorted(shop.seen) == list(range(50))
    assert tally == Tally(published=50, last_line=50)
    assert shop.read == len(content)


async def test_one_at_a_time_keeps_the_order(dlq: DeadLetterQueue) -> None:
    shop = Shop(dlq)
    await shop.feed(Chunks(orders(*range(30))), concurrency=1)
    assert shop.seen == list(range(30))


async def test_a_failed_delivery_is_a_dead_letter_and_the_line_is_published(dlq: DeadLetterQueue) -> None:
    tally = await Shop(dlq).feed(Chunks(orders(1, -2)))
    assert tally == Tally(published=2, dead_lettered=1, last_line=2)


async def test_without_a_dead_letter_queue_a_failed_delivery_is_lost() -> None:
    tally = await Shop(None).feed(Chunks(orders(-1)))
    assert tally == Tally(published=1, lost=1, last_line=1)


class _Refusing(MemoryStore):
    async def add(self, letters: Sequence[DeadLetter]) -> Sequence[str]:
        raise StoreUnavailable("disk is full")


async def test_a_failure_that_cannot_be_stored_is_lost_and_told() -> None:
    shop = Shop(DeadLetterQueue(_Refusing(), capture_timeout=0.0))
    tally = await shop.feed(Chunks(orders(1, -2)))
    assert (tally.published, tally.lost, tally.dead_lettered) == (2, 1, 0)
    ((number, why),) = shop.complaints
    assert number == 2
    assert "disk is full" in why


async def test_bad_lines_are_told_with_their_numbers_and_passed_over(dlq: DeadLetterQueue) -> None:
    shop = Shop(dlq)
    content = (
        b"\xef\xbb\xbf"
        + orders(1)
        + b"\n{\n"
        + ndjson({"event": "nobody.listens"}, {"event": "order.placed", "data": {"order_id": "x"}})
        + ndjson({"event": "order.placed", "data": {"order_id": 2}, "tenant": ""})
        + b'{"event": "ping", "data": "'
        + b"x" * (8 * 1024 * 1024)
        + b'"}\n'
        + ndjson({"event": "ping", "data": "x" * 1_100_000})
        + ndjson({"specversion": "1.0", "type": "order.placed", "dataversion": "1", "data": {"order_id": 3}})
        + ndjson({"specversion": "1.0", "type": "order.placed", "dataversion": "2", "data": {"order_id": 4}})
        + orders(5).rstrip()
    )
    tally = await shop.feed(Chunks(content), concurrency=1)
    assert tally == Tally(published=3, bad=7, last_line=11)
    assert shop.seen == [1, 4, 5]
    told = dict(shop.complaints)
    expected = {
        3: "not JSON",
        4: "nobody listens to 'nobody.listens'",
        5: "the payload does not fit: order_id: Input should be a valid integer",
        6: "tenant=''",
        7: "longer than 8 MiB",
        8: "at most 1,048,576 are kept",
        9: "dataversion 1 of 'order.placed', whose class has 2",
    }
    assert told.keys() == expected.keys()
    for number, says in expected.items():
        assert says in told[number]


async def test_names_are_known_by_class_by_name_and_by_pattern(dlq: DeadLetterQueue) -> None:
    shop = Shop(dlq)
    shop.go.set()
    await shop.feed(
        Chunks(orders(1) + ndjson({"event": "ping"}, {"event": "stock.left", "data": 2}, {"event": "stock"}))
    )
    assert len(shop.seen) == 3
    assert shop.complaints == [(4, "nobody listens to 'stock'")]


async def test_input_that_breaks_off_ends_the_feeding_and_keeps_what_came(dlq: DeadLetterQueue) -> None:
    error = OSError(5, "Input/output error")
    tally = await Shop(dlq).feed(Chunks(orders(1, 2), error))
    assert (tally.published, tally.error) == (2, error)


async def test_a_stop_takes_no_more_lines_and_finishes_what_is_under_way(dlq: DeadLetterQueue) -> None:
    shop = Shop(dlq)
    async with shop.bus, anyio.create_task_group() as tasks:
        feeder = shop.feeder(concurrency=2)
        content = ndjson(*({"event": "stock.left", "data": left} for left in range(5)))
        tasks.start_soon(feeder.run, Chunks(content, ends=False))
        await shop.full.wait()
        await anyio.wait_all_tasks_blocked()
        feeder.stop()
        shop.go.set()
    assert sorted(shop.seen) == [0, 1]
    assert feeder.tally == Tally(published=2, last_line=2, stopped=True)


async def test_a_second_stop_cuts_short_and_the_deliveries_are_kept(
    dlq: DeadLetterQueue,
) -> None:
    shop = Shop(dlq)
    async with shop.bus:
        async with anyio.create_task_group() as tasks:
            feeder = shop.feeder()
            tasks.start_soon(feeder.run, Chunks(ndjson({"event": "stock.left"}), ends=False))
            await shop.full.wait()
            feeder.stop()
            feeder.stop()
        assert feeder.tally == Tally(cut_short=1, last_line=1, stopped=True)
        (letter,) = (await shop.bus.dead_letters()).items
        assert (letter.handler_id, letter.state, letter.reason) == ("stock.count", "pending", "interrupted")


async def test_a_bus_that_is_closed_meanwhile_ends_the_feeding(dlq: DeadLetterQueue) -> None:
    shop = Shop(dlq)
    feeder = shop.feeder()
    await feeder.run(Chunks(orders(1), ends=False))
    assert isinstance(feeder.tally.error, BusClosed)
    assert feeder.tally.published == 0
