"""Stores that break one promise each of what operators rely on."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from broken_stores import Breakable

from eventbus.controls import Control, ControlState, Scope
from eventbus.errors import Paused
from eventbus.ids import new_id
from eventbus_dlq import closing
from eventbus_dlq.control_store import Announcement, Closing
from eventbus_dlq.letter import DeadLetter, DeadLetterState, Reason, Verb
from eventbus_dlq.memory.announcements import Announcements
from eventbus_dlq.memory.controls import Controls
from eventbus_dlq.store import Claim, Kept, Lease, Settlement


class ForgetsControlsAtOpen(Breakable):
    """Keeps what is closed in the process alone."""

    async def open(self) -> None:
        await super().open()
        self._controls = Controls()


class HandsOutWhatIsClosed(Breakable):
    """Looks at the controls when asked by id, and not when handing out."""

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
        controls, self._controls = self._controls, Controls()
        claims = await super().claim_due(
            wanted, states=states, limit=limit, owner=owner, lease=lease, now=now
        )
        self._controls = controls
        return claims


class ClaimsWhatIsParked(Breakable):
    """Lets somebody who knows its id run a letter that is held."""

    async def claim(
        self, dead_letter_ids: Sequence[str], *, owner: str, lease: float, now: datetime
    ) -> Sequence[Claim | Exception]:
        controls, self._controls = self._controls, Controls()
        for it in dead_letter_ids:
            letter = self.row(it)
            if letter is not None and closing.is_held(letter):
                self.spoil(it, state=DeadLetterState.ACCEPTED, reason=None)
        answers = await super().claim(dead_letter_ids, owner=owner, lease=lease, now=now)
        self._controls = controls
        return answers


class ParksWithoutAControl(Breakable):
    """Parks everything of a tenant of which a part is closed."""

    async def close_scope(
        self, scope: Scope, state: Closing, *, reason: str, by: str, until: datetime | None, now: datetime
    ) -> Control:
        control = await super().close_scope(scope, state, reason=reason, by=by, until=until, now=now)
        for row in list(self._rows.claimable()):
            if scope.handler is not None and row.letter.tenant == scope.tenant:
                self.spoil(row.letter.id, state=DeadLetterState.PARKED, reason=Reason.PAUSED)
        return control


class ParksAheadOfTime(Breakable):
    """Parks what is not due, or waits, with the moment of the closing."""

    async def close_scope(
        self, scope: Scope, state: Closing, *, reason: str, by: str, until: datetime | None, now: datetime
    ) -> Control:
        control = await super().close_scope(scope, state, reason=reason, by=by, until=until, now=now)
        for row in list(self._rows):
            letter = row.letter
            if letter.state is DeadLetterState.EXHAUSTED and scope.covers(
                letter.tenant, letter.event_name, letter.handler_id
            ):
                self.spoil(letter.id, state=DeadLetterState.PARKED, reason=Reason.PAUSED)
        return control


class StarvesBehindWhatIsClosed(Breakable):
    """Counts what it parks as if it had been handed out."""

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
        held = len(self._rows.held())
        claims = await super().claim_due(
            wanted, states=states, limit=limit, owner=owner, lease=lease, now=now
        )
        room = max(0, limit - (len(self._rows.held()) - held))
        await super().release([it.lease for it in claims[room:]], now=now)
        return claims[:room]


class UnparksWhatIsStillClosed(Breakable):
    """Lets everything go that the control has closed which is gone."""

    async def open_scopes(self, scopes: Collection[Scope] | None, *, now: datetime) -> Sequence[Control]:
        others, removed = self._controls, await super().open_scopes(scopes, now=now)
        self._controls, self._was_opened = Controls(), bool(removed)
        await super().unpark(limit=1_000, now=now)
        self._controls = others
        return removed


class LeavesItParked(Breakable):
    """Lets new ones run, and forgets those that it has parked."""

    async def open_scopes(self, scopes: Collection[Scope] | None, *, now: datetime) -> Sequence[Control]:
        return self._controls.open(scopes)


class OpensWhatIsWithin(Breakable):
    """Takes a resume of a tenant for one of all its handlers as well."""

    async def open_scopes(self, scopes: Collection[Scope] | None, *, now: datetime) -> Sequence[Control]:
        if scopes is not None:
            within = [
                it.scope for it in self._controls.all if it.tenant in {scope.tenant for scope in scopes}
            ]
            scopes = {*scopes, *within}
        return await super().open_scopes(scopes, now=now)


class LosesTheFormerState(Breakable):
    """Lets everything that was parked begin anew."""

    async def unpark(self, *, limit: int, now: datetime) -> bool:
        self._forget_states()
        return await super().unpark(limit=limit, now=now)

    async def open_scopes(self, scopes: Collection[Scope] | None, *, now: datetime) -> Sequence[Control]:
        self._forget_states()
        return await super().open_scopes(scopes, now=now)

    def _forget_states(self) -> None:
        for row in self._rows.held():
            self._rows._write(replace(row, before=DeadLetterState.ACCEPTED), now=None)


class RunsTheNewestFirst(Breakable):
    """Lets what comes back queue behind what came meanwhile."""

    async def open_scopes(self, scopes: Collection[Scope] | None, *, now: datetime) -> Sequence[Control]:
        held = [row.letter.id for row in self._rows.held()]
        removed = await super().open_scopes(scopes, now=now)
        for dead_letter_id in held:
            row = self._rows[dead_letter_id]
            if row.queued_at is not None:
                self._rows._write(replace(row, queued_at=now), now=now)
        return removed


class NeverComesToAnEnd(Breakable):
    """Keeps closed what has come to its end."""

    async def close_scope(
        self, scope: Scope, state: Closing, *, reason: str, by: str, until: datetime | None, now: datetime
    ) -> Control:
        control = await super().close_scope(scope, state, reason=reason, by=by, until=None, now=now)
        return replace(control, until=until)


class KeepsWhatComesParked(Breakable):
    """Believes whoever says that a scope is closed."""

    async def accept(self, deliveries: Sequence[DeadLetter]) -> Sequence[Kept]:
        kept = await super().accept(deliveries)
        for it, delivery in zip(kept, deliveries, strict=True):
            if closing.is_held(delivery) and it.id == delivery.id:
                self.spoil(it.id, state=DeadLetterState.PARKED, reason=delivery.reason)
        return kept


class KeepsItsVersion(Breakable):
    """Tells nobody that something was opened."""

    async def open_scopes(self, scopes: Collection[Scope] | None, *, now: datetime) -> Sequence[Control]:
        version = self._controls.version
        removed = await super().open_scopes(scopes, now=now)
        self._controls.version = version
        return removed


class BlamesNobody(Breakable):
    """Refuses what is paused without saying who closed it."""

    async def claim(
        self, dead_letter_ids: Sequence[str], *, owner: str, lease: float, now: datetime
    ) -> Sequence[Claim | Exception]:
        answers = await super().claim(dead_letter_ids, owner=owner, lease=lease, now=now)
        return [Paused("it is paused") if isinstance(it, Paused) else it for it in answers]


class NeverDrains(Breakable):
    """Notes what the processes say, and draws nothing from it."""

    async def acknowledge(
        self, process_id: str, drains: Collection[Control], *, live_since: datetime, now: datetime
    ) -> Sequence[Control]:
        self._controls.acknowledge(process_id, drains)
        return ()


class DrainsWhileOneRuns(Breakable):
    """Asks the processes, and does not look at the letters."""

    def _is_running(self, scope: Scope) -> bool:
        return False


class DrainsAtTheFirstWord(Breakable):
    """Takes what one process says for what all say."""

    async def acknowledge(
        self, process_id: str, drains: Collection[Control], *, live_since: datetime, now: datetime
    ) -> Sequence[Control]:
        for process in await self.processes():
            self._controls.acknowledge(process.id, drains)
        return await super().acknowledge(process_id, drains, live_since=live_since, now=now)


class BelievesOldWords(Breakable):
    """Notes for which scope a process has spoken, and not for which of its drains."""

    async def acknowledge(
        self, process_id: str, drains: Collection[Control], *, live_since: datetime, now: datetime
    ) -> Sequence[Control]:
        current = {it.scope: it for it in self._controls.all if it.state is ControlState.DRAINING}
        meant = [current[it.scope] for it in drains if it.scope in current]
        return await super().acknowledge(process_id, meant, live_since=live_since, now=now)


class LosesAnnouncements(Breakable):
    """Tells of what is added, and not of what is settled."""

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime) -> Sequence[Lease]:
        announcements, self._announcements = self._announcements, Announcements()
        lost = await super().settle(settlements, now=now)
        self._announcements = announcements
        return lost


class AnnouncesAfterwards(Breakable):
    """Writes what is to be told with the next settlement, as a transaction of its own would after a crash."""

    def __init__(self) -> None:
        super().__init__()
        self._later: list[DeadLetter] = []

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime) -> Sequence[Lease]:
        announcements, self._announcements = self._announcements, Announcements()
        lost = await super().settle(settlements, now=now)
        self._announcements = announcements
        for letter in self._later:
            announcements.note(letter, at=letter.updated_at)
        letters = [self.row(it.lease.dead_letter_id) for it in settlements if it.lease not in lost]
        self._later = [it for it in letters if it is not None]
        return lost


class AnnouncesWhatDidNotHappen(Breakable):
    """Writes what is to be told before it looks at the lease."""

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime) -> Sequence[Lease]:
        lost = await super().settle(settlements, now=now)
        for it in settlements:
            letter = self.row(it.lease.dead_letter_id)
            if it.lease in lost and letter is not None:
                self._announcements.note(replace(letter, state=it.state), at=now)
        return lost


class AnnouncesRestores(Breakable):
    """Tells a person what that person has done."""

    async def change(
        self,
        dead_letter_id: str,
        verb: Verb,
        *,
        now: datetime,
        by: str | None = None,
        note: str | None = None,
        until: datetime | None = None,
    ) -> DeadLetter:
        letter = await super().change(dead_letter_id, verb, now=now, by=by, note=note, until=until)
        self._announcements.note(letter, at=now)
        return letter


class MakesNewKeys(Breakable):
    """Gives an announcement another key each time it is told."""

    async def claim_announcements(
        self, *, limit: int, owner: str, lease: float, now: datetime
    ) -> Sequence[Announcement]:
        told = await super().claim_announcements(limit=limit, owner=owner, lease=lease, now=now)
        for it in told:
            key = new_id()
            self._announcements._waiting[key] = replace(self._announcements._waiting.pop(it.key), key=key)
            self._announcements._taken[key] = self._announcements._taken.pop(it.key)
        return [it for it in self._announcements._waiting.values() if it not in told][-len(told) or None :]


class TellsSeveralAtATime(Breakable):
    """Hands an announcement to everybody who asks."""

    async def claim_announcements(
        self, *, limit: int, owner: str, lease: float, now: datetime
    ) -> Sequence[Announcement]:
        return await super().claim_announcements(limit=limit, owner=owner, lease=-lease, now=now)


class TellsOnceAtMost(Breakable):
    """Forgets an announcement when somebody has taken it."""

    async def claim_announcements(
        self, *, limit: int, owner: str, lease: float, now: datetime
    ) -> Sequence[Announcement]:
        told = await super().claim_announcements(limit=limit, owner=owner, lease=lease, now=now)
        await self.confirm_announcements([it.key for it in told])
        return told


class ChargesAnExcusedRun(Breakable):
    """Holds every run against the schedule."""

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime) -> Sequence[Lease]:
        return await super().settle([replace(it, excused=False) for it in settlements], now=now)


class KeepsTheOldSchedule(Breakable):
    """Does not look at the schedule that a settlement brings."""

    async def settle(self, settlements: Sequence[Settlement], *, now: datetime) -> Sequence[Lease]:
        return await super().settle([replace(it, redelivery=None) for it in settlements], now=now)


class RequeuesWithoutRetries(Breakable):
    """Makes a letter due whose retries are used up."""

    async def change(
        self,
        dead_letter_id: str,
        verb: Verb,
        *,
        now: datetime,
        by: str | None = None,
        note: str | None = None,
        until: datetime | None = None,
    ) -> DeadLetter:
        before = self.row(dead_letter_id)
        letter = await super().change(dead_letter_id, verb, now=now, by=by, note=note, until=until)
        if verb is Verb.REQUEUE and before is not None:
            self.spoil(dead_letter_id, retries=before.retries)
        return replace(letter, retries=before.retries if before else 0)


class SaysNothingOfMore(Breakable):
    """Brings a few letters back, and forgets the others."""

    async def unpark(self, *, limit: int, now: datetime) -> bool:
        await super().unpark(limit=limit, now=now)
        self._was_opened = False
        return False
