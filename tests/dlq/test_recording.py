"""Recording single runs while the store, or their sequence, is busy."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from letters import NOW, build_letter
from tests.dlq.fakes import FakeBus, WallClock

from eventbus_dlq import Claim, DeadLetterState, Lease, MemoryStore, Settlement, StoreLocked
from eventbus_dlq.leases import LeaseKeeper
from eventbus_dlq.recording import Recorder


class BusySequences(MemoryStore):
    """A store in which others write to every sequence, one after another, with few gaps."""

    def __init__(self, refusals: int) -> None:
        super().__init__()
        self.refusals = refusals

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime) -> Sequence[Lease]:
        if self.refusals:
            self.refusals -= 1
            ids = frozenset(it.lease.dead_letter_id for it in settlements)
            raise StoreLocked("somebody else writes to their sequence", ids)
        return await super().settle(settlements, now=now)


async def test_a_sequence_that_others_write_to_all_the_time_is_asked_for_until_there_is_a_gap() -> None:
    store, clock = BusySequences(refusals=12), WallClock()
    letter = build_letter(ordering_key="acme")
    await store.add([letter])
    (claim,) = await store.claim([letter.id], owner="me", lease=30, now=NOW)
    assert isinstance(claim, Claim)
    keeper = LeaseKeeper(store, clock=clock, lease=30)
    keeper.start(FakeBus())
    recorder = Recorder(store=store, keeper=keeper, clock=clock, timeout=2.0)
    assert await recorder.settle(Settlement(lease=claim.lease, state=DeadLetterState.RESOLVED))
    await keeper.stop()
    assert (await store.get(letter.id)).state is DeadLetterState.RESOLVED
