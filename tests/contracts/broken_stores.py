"""Stores that break one promise each: what the suite must not let pass."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from eventbus.ids import new_id
from eventbus_dlq.letter import DeadLetter, DeadLetterState
from eventbus_dlq.memory import MemoryStore
from eventbus_dlq.stats import Stats
from eventbus_dlq.store import Claim, Kept, Lease, Leased, Settlement, Spooled


class Breakable(MemoryStore):
    """A memory store whose rows a subclass can spoil."""

    def row(self, dead_letter_id: str) -> DeadLetter | None:
        """Return a letter as it is, or None."""
        row = self._rows.find(dead_letter_id)
        return None if row is None else row.letter

    def spoil(self, dead_letter_id: str, **changes: Any) -> None:
        """Overwrite fields of a letter, whatever the rules say."""
        row = self._rows.find(dead_letter_id)
        if row is not None:
            self._rows._write(replace(row, letter=replace(row.letter, **changes)), now=None)


class AcceptsStaleTokens(Breakable):
    """Looks at the id of a lease alone."""

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime) -> Sequence[Lease]:
        current = [replace(it, lease=self._current(it.lease)) for it in settlements]
        return await super().settle(current, now=now)

    def _current(self, lease: Lease) -> Lease:
        letter = self.row(lease.dead_letter_id)
        return lease if letter is None else lease._replace(token=letter.token)


class LosesTheLastOfSeveral(Breakable):
    """Says that it has kept what it has not."""

    async def accept(self, deliveries: Sequence[DeadLetter]) -> Sequence[Kept]:
        if len(deliveries) < 2:
            return await super().accept(deliveries)
        last = deliveries[-1]
        return [*await super().accept(deliveries[:-1]), Kept(last.id, last.state)]


class HandsOutTwice(Breakable):
    """Gives a letter that somebody runs to somebody else as well."""

    async def claim(
        self, dead_letter_ids: Sequence[str], *, owner: str, lease: float, now: datetime
    ) -> Sequence[Claim | Exception]:
        answers = await super().claim(dead_letter_ids, owner=owner, lease=lease, now=now)
        return [self._anyway(it, answer) for it, answer in zip(dead_letter_ids, answers, strict=True)]

    def _anyway(self, dead_letter_id: str, answer: Claim | Exception) -> Claim | Exception:
        letter = self.row(dead_letter_id)
        if isinstance(answer, Claim) or letter is None or letter.state is not DeadLetterState.RUNNING:
            return answer
        return Claim(letter=letter, lease=Lease(dead_letter_id=letter.id, token=letter.token))


class Leapfrogs(Breakable):
    """Lets what was accepted run at once, whatever is before it."""

    async def accept(self, deliveries: Sequence[DeadLetter]) -> Sequence[Kept]:
        kept = await super().accept(deliveries)
        for it in kept:
            if it.state is DeadLetterState.ACCEPTED:
                self.spoil(it.id, waits=False)
        return kept


class ParksNothing(Breakable):
    """Keeps what comes behind a failure as accepted."""

    async def accept(self, deliveries: Sequence[DeadLetter]) -> Sequence[Kept]:
        kept = await super().accept(deliveries)
        for it in kept:
            if it.state is DeadLetterState.PARKED:
                self.spoil(it.id, state=DeadLetterState.ACCEPTED, reason=None)
        return [Kept(it.id, DeadLetterState.ACCEPTED) for it in kept]


class MixesUpKeys(Breakable):
    """Takes keys that differ in their case for one."""

    async def accept(self, deliveries: Sequence[DeadLetter]) -> Sequence[Kept]:
        folded = [
            replace(it, ordering_key=it.ordering_key and it.ordering_key.casefold()) for it in deliveries
        ]
        return await super().accept(folded)


class CountsDrift(Breakable):
    """Keeps counting what it has forgotten."""

    forgotten = 0

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime) -> Sequence[Lease]:
        before = len(list(self._rows))
        lost = await super().settle(settlements, now=now)
        self.forgotten += before - len(list(self._rows))
        return lost

    async def stats(self, *, now: datetime, tenants: Collection[str] | None = None) -> Stats:
        stats = await super().stats(now=now, tenants=tenants)
        return stats if tenants is not None else replace(stats, total=stats.total + self.forgotten)


class RescuesTheLiving(Breakable):
    """Takes a letter back although its owner has beaten in between."""

    async def rescue(
        self, leased: Sequence[Leased], *, max_crashes: int, now: datetime
    ) -> Sequence[DeadLetter]:
        found = [(it, self.row(it.dead_letter_id)) for it in leased]
        current = [
            replace(it, token=letter.token, lease_until=letter.lease_until or now)
            for it, letter in found
            if letter is not None
        ]
        return await super().rescue(current, max_crashes=max_crashes, now=now)


class NeverFindsPoison(Breakable):
    """Forgets who crashed before."""

    async def rescue(
        self, leased: Sequence[Leased], *, max_crashes: int, now: datetime
    ) -> Sequence[DeadLetter]:
        for it in leased:
            self.spoil(it.dead_letter_id, crashes=0)
        return await super().rescue(leased, max_crashes=max_crashes, now=now)


class ChargesForARelease(Breakable):
    """Keeps the attempt that a release gives back."""

    async def release(self, leases: Sequence[Lease], *, now: datetime) -> Sequence[Lease]:
        charged = {
            it: letter.attempts for it in leases if (letter := self.row(it.dead_letter_id)) is not None
        }
        lost = await super().release(leases, now=now)
        for it in set(charged) - set(lost):
            self.spoil(it.dead_letter_id, attempts=charged[it])
        return lost


class LowersTokens(Breakable):
    """Takes the token back with the claim."""

    async def release(self, leases: Sequence[Lease], *, now: datetime) -> Sequence[Lease]:
        lost = await super().release(leases, now=now)
        for it in leases:
            if it not in lost:
                self.spoil(it.dead_letter_id, token=it.token - 1)
        return lost


class ImportsTwice(Breakable):
    """Does not look where a spool stands."""

    async def import_spool(
        self, spool_id: str, writes: Sequence[Spooled], *, start: int, end: int, now: datetime
    ) -> bool:
        position = await self.spool_position(spool_id)
        return await super().import_spool(spool_id, writes, start=position, end=end, now=now)


class ReopensWithASpool(Breakable):
    """Carries out an old failure on a letter that somebody has closed."""

    async def import_spool(
        self, spool_id: str, writes: Sequence[Spooled], *, start: int, end: int, now: datetime
    ) -> bool:
        done = await super().import_spool(spool_id, writes, start=start, end=end, now=now)
        if done:
            await self.add([it.letter for it in writes if it.verb == "add"])
        return done


class LosesNoLease(Breakable):
    """Tells every owner that it still is one."""

    def heartbeat(self, leases: Sequence[Lease], *, lease: float, now: datetime) -> Sequence[Lease]:
        super().heartbeat(leases, lease=lease, now=now)
        return ()


class AcceptsTwice(Breakable):
    """Keeps a further row for a delivery that it knows."""

    async def accept(self, deliveries: Sequence[DeadLetter]) -> Sequence[Kept]:
        known = [it for it in deliveries if self._rows.known(it) is not None]
        kept = await super().accept(deliveries)
        for it in known:
            self._rows.insert(replace(it, id=new_id()))
        return kept


class ForgetsFailures(Breakable):
    """Deletes a letter that has failed before it succeeded."""

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime) -> Sequence[Lease]:
        lost = await super().settle(settlements, now=now)
        for it in settlements:
            if it.forget and it.state is DeadLetterState.RESOLVED and it.lease not in lost:
                row = self._rows.find(it.lease.dead_letter_id)
                if row is not None:
                    self._rows.remove(row)
        return lost


class IgnoresPriority(Breakable):
    """Hands out what is least urgent first."""

    async def claim_due(
        self,
        wanted: Mapping[str, int],
        *,
        states: Collection[DeadLetterState],
        limit: int,
        owner: str,
        lease: float,
        now: datetime,
    ) -> Sequence[Claim]:
        claims = await super().claim_due(
            wanted, states=states, limit=limit, owner=owner, lease=lease, now=now
        )
        return list(reversed(claims))
