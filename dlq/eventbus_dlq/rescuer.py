"""Taking letters back from processes that have died while running them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from eventbus.log import Log
from eventbus_dlq.capture import moment
from eventbus_dlq.errors import StoreLocked
from eventbus_dlq.processes import ANNOUNCE_EVERY
from eventbus_dlq.store import Lease
from eventbus_dlq.telling import tell
from eventbus_dlq.vigil import Vigil, elapsed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime

    from eventbus.ports import Clock, Redeliverer
    from eventbus_dlq.leases import LeaseKeeper
    from eventbus_dlq.letter import DeadLetter
    from eventbus_dlq.store import DeadLetterStore, Leased
    from eventbus_dlq.telling import Moved

_log = Log()


def rescue_interval(lease: float) -> float:
    """Return the seconds between two looks for letters whose owner has died."""
    return min(ANNOUNCE_EVERY, lease / 3)


@dataclass(slots=True)
class _Watched:
    """A letter that somebody runs, as it was when it was seen first.

    Attributes:
        token: the claim's token then.
        lease_until: the end of the lease then; a heartbeat moves it.
        still: for how many seconds that count both have stood still.
    """

    token: int
    lease_until: datetime
    still: float = 0.0


class Rescuer:
    """Rescues the letters of the dead, and never one whose owner is alive.

    A store with a clock that all its processes agree on says which leases have run out. With another
    one the rescuer watches: an owner whose token and heartbeat have stood still for a whole lease, on
    the monotonic clock of this process, is dead. A jump of the wall clock costs nothing.

    Neither says anything about an owner that could not beat because the store was away, or took no writes.
    Each look therefore begins with a write, and nobody is rescued before this process has seen the store
    take them for a whole lease: from its start on, and again after each outage.

    Args:
        beat: says to the store that this process is alive, which is a write.
        lease: how long leases are, in seconds.
        max_crashes: at so many a letter is exhausted as poison.
        rescued: called when letters were rescued, and may be claimed again.
        moved: told where each of them is then.
        monotonic: seconds of a clock that never goes backwards.
    """

    def __init__(
        self,
        *,
        store: DeadLetterStore,
        bus: Redeliverer,
        keeper: LeaseKeeper,
        clock: Clock,
        beat: Callable[[], Awaitable[None]],
        lease: float,
        max_crashes: int,
        rescued: Callable[[], None],
        moved: Moved,
        monotonic: Callable[[], float] = elapsed,
    ) -> None:
        self._store = store
        self._bus = bus
        self._keeper = keeper
        self._clock = clock
        self._beat = beat
        self._lease = lease
        self._max_crashes = max_crashes
        self._rescued = rescued
        self._moved = moved
        self._monotonic = monotonic
        self._watched: dict[str, _Watched] = {}
        self._vigil = Vigil(rescue_interval(lease))

    async def rescue(self) -> None:
        """Say that this process is alive, look once at what is running, and take back what is the dead's.

        Raises:
            StoreUnavailable: the store cannot be reached, or takes no writes.
        """
        try:
            await self._beat()
            counted = self._vigil.go_on(self._monotonic())
            if counted is None:
                self._watched.clear()
            await self._look(counted or 0.0)
        except Exception:
            self._vigil.end()
            raise

    async def _look(self, counted: float) -> None:
        leased = [
            it
            for it in await self._store.leased(now=moment(self._clock.time_ns()))
            if not self._keeper.holds(Lease(dead_letter_id=it.dead_letter_id, token=it.token))
        ]
        dead = self._dead_of(leased, counted)
        if not dead:
            return
        letters = await self._taken_back(dead)
        owners = {it.dead_letter_id: it.owner for it in dead}
        for letter in letters:
            self._watched.pop(letter.id, None)
            self._tell(letter, owners.get(letter.id))
        if letters:
            self._rescued()

    async def _taken_back(self, dead: Sequence[Leased]) -> Sequence[DeadLetter]:
        now = moment(self._clock.time_ns())
        while True:
            try:
                return await self._store.rescue(dead, max_crashes=self._max_crashes, now=now)
            except StoreLocked as error:  # these have to wait, and the others need not
                held_up = error.dead_letter_ids
                dead = [it for it in dead if it.dead_letter_id not in held_up]

    def _dead_of(self, leased: Sequence[Leased], counted: float) -> Sequence[Leased]:
        """Return the letters whose owner is dead."""
        still = self._still_for_a_lease(leased, counted)
        if not self._store.judges_leases:
            return still
        if self._vigil.seconds < self._lease:  # the leases of the living may have run out in an outage
            return [it for it in still if it.expired]
        return [it for it in leased if it.expired]

    def _still_for_a_lease(self, leased: Sequence[Leased], counted: float) -> Sequence[Leased]:
        """Return the letters whose owner has not moved for a whole lease, as was seen from here."""
        before, self._watched = self._watched, {}
        dead: list[Leased] = []
        for it in leased:
            seen = before.get(it.dead_letter_id)
            if seen is None or (seen.token, seen.lease_until) != (it.token, it.lease_until):
                seen = _Watched(it.token, it.lease_until)
            else:
                seen.still += counted
            self._watched[it.dead_letter_id] = seen
            if seen.still >= self._lease:
                dead.append(it)
        return dead

    def _tell(self, letter: DeadLetter, owner: str | None) -> None:
        _log.warning(
            "dead_letter.rescued",
            dead_letter=letter.id,
            handler_id=letter.handler_id,
            owner=owner,
            crashes=letter.crashes,
            state=str(letter.state),
        )
        tell(self._bus.telemetry, "dead_letter.rescued", letter, crashes=letter.crashes)
        self._moved(letter.state, letter.retry_at)
