"""Writes whose answer was lost: they are repeated, and nobody who ran the first can settle the second."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from letters import NOW, build_delivery, build_letter

from eventbus.telemetry import Telemetry
from eventbus.testing import FakeClock
from eventbus_dlq import Claim, DeadLetter, DeadLetterState, Lease, MemoryStore, Settlement, StoreUnavailable
from eventbus_dlq.committing import Committer
from eventbus_dlq.moves import claimed
from eventbus_dlq.outage import Outage
from eventbus_dlq.spool import Spool
from eventbus_dlq.store import Kept

ACCEPTED = DeadLetterState.ACCEPTED


class LostAnswer(MemoryStore):
    """A store whose first answer to an ``accept`` is lost; what it has taken in may have run by then."""

    def __init__(self, *, runs: bool = True) -> None:
        super().__init__()
        self.runs = runs
        self.asked: list[Sequence[DeadLetter]] = []
        self.former: list[Lease] = []

    async def accept(self, deliveries: Sequence[DeadLetter]) -> Sequence[Kept]:
        self.asked.append(deliveries)
        kept = await super().accept(deliveries)
        if len(self.asked) > 1:
            return kept
        if self.runs:
            for _ in range(3):
                self.former.append(await self.lease_of(deliveries[0].id))
                await self.release(self.former[-1:], now=NOW)
            self.former.append(await self.lease_of(deliveries[0].id))
            resolved = DeadLetterState.RESOLVED
            await self.settle([Settlement(lease=self.former[-1], state=resolved, forget=True)], now=NOW)
        raise StoreUnavailable("the connection was lost")

    async def lease_of(self, dead_letter_id: str) -> Lease:
        (claim,) = await self.claim([dead_letter_id], owner="somebody", lease=30, now=NOW)
        assert isinstance(claim, Claim)
        return claim.lease


def committer_of(store: MemoryStore, *, timeout: float, spool: Spool | None = None) -> Committer:
    outage = Outage(telemetry=Telemetry(), clock=FakeClock())
    return Committer(store, timeout=timeout, spool=spool, outage=outage)


async def test_nobody_who_ran_the_first_can_settle_the_second() -> None:
    store, delivery = LostAnswer(), build_delivery()
    assert await committer_of(store, timeout=9).accept([delivery]) == [Kept(delivery.id, ACCEPTED)]
    lease = await store.lease_of(delivery.id)
    settlements = [Settlement(lease=it, state=DeadLetterState.RESOLVED) for it in store.former]
    assert await store.settle(settlements, now=NOW) == store.former
    assert not await store.settle([Settlement(lease=lease, state=DeadLetterState.RESOLVED)], now=NOW)


async def test_one_that_is_still_there_stays_as_it_is() -> None:
    store, delivery = LostAnswer(runs=False), build_delivery()
    assert await committer_of(store, timeout=9).accept([delivery]) == [Kept(delivery.id, ACCEPTED)]
    assert await store.get(delivery.id) == delivery


async def test_each_repetition_begins_above_the_one_before() -> None:
    class Away(LostAnswer):
        async def accept(self, deliveries: Sequence[DeadLetter]) -> Sequence[Kept]:
            self.asked.append(deliveries)
            raise StoreUnavailable("the connection was lost")

    store = Away()
    with pytest.raises(StoreUnavailable):
        await committer_of(store, timeout=0.2).accept([build_delivery()])
    tokens = [delivery.token for (delivery,) in store.asked]
    assert len(tokens) > 1
    assert tokens == sorted(set(tokens))


async def test_what_a_cancelled_publisher_leaves_begins_above_everything_it_has_tried() -> None:
    store, delivery = LostAnswer(runs=False), build_delivery()
    store.asked.append([])  # no answer is lost
    await committer_of(store, timeout=9).accept([delivery], again=True)
    ((seen_through,),) = store.asked[1:]
    assert seen_through.token > delivery.token + (1_000 << 32)


async def test_what_was_claimed_as_it_was_accepted_is_not_when_it_is_repeated() -> None:
    store, delivery = LostAnswer(runs=False), build_delivery()
    promised = claimed(delivery, owner="me", lease=30, now=NOW)
    (kept,) = await committer_of(store, timeout=9).accept([promised])
    assert kept == Kept(delivery.id, DeadLetterState.RUNNING)  # it was there: the claim holds
    ((repeated,),) = store.asked[1:]
    assert (repeated.state, repeated.attempts, repeated.lease_owner) == (ACCEPTED, 0, None)


async def test_what_is_spooled_is_claimed_by_nobody_and_above_what_was_granted(tmp_path: Path) -> None:
    store, spool = LostAnswer(runs=False), Spool(tmp_path / "spool")
    await spool.open()
    promised = claimed(build_delivery(), owner="me", lease=30, now=NOW)
    committer = committer_of(store, timeout=0.01, spool=spool)
    assert await committer.accept([promised]) == [Kept(promised.id, ACCEPTED)]
    await spool.close()
    (file,) = (tmp_path / "spool").iterdir()
    record = file.read_text()
    assert '"state":"accepted"' in record
    assert f'"token":{(1 << 32) + promised.token}' in record


async def test_what_is_spooled_is_above_what_was_granted_the_last_time_it_was_tried(tmp_path: Path) -> None:
    class Away(LostAnswer):
        async def accept(self, deliveries: Sequence[DeadLetter]) -> Sequence[Kept]:
            self.asked.append(deliveries)
            raise StoreUnavailable("the connection was lost")

    store, spool = Away(), Spool(tmp_path / "spool")
    await spool.open()
    await committer_of(store, timeout=0.2, spool=spool).accept([build_delivery()])
    await spool.close()
    (file,) = (tmp_path / "spool").iterdir()
    assert len(store.asked) > 1
    assert f'"token":{len(store.asked) << 32}' in file.read_text()


async def test_a_failure_is_repeated_as_it_was() -> None:
    class LostAdd(MemoryStore):
        asked = 0

        async def add(self, letters: Sequence[DeadLetter]) -> Sequence[str]:
            kept = await super().add(letters)
            self.asked += 1
            if self.asked == 1:
                raise StoreUnavailable("the connection was lost")
            return kept

    store, letter = LostAdd(), build_letter()
    assert await committer_of(store, timeout=9).add([letter]) == [letter.id]
    assert await store.get(letter.id) == letter
    assert store.asked == 2
