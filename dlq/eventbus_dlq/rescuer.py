"""Taking letters back from processes that have died while running them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eventbus.log import Log
from eventbus_dlq.capture import moment
from eventbus_dlq.errors import StoreLocked
from eventbus_dlq.store import Lease
from eventbus_dlq.telling import tell

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from eventbus.ports import Clock, Redeliverer
    from eventbus_dlq.leases import LeaseKeeper
    from eventbus_dlq.letter import DeadLetter
    from eventbus_dlq.store import DeadLetterStore, Leased
    from eventbus_dlq.telling import Moved

_log = Log()

_LONGEST_INTERVAL = 10.0


def rescue_interval(lease: float) -> float:
    """Return the seconds between two looks for letters whose owner has died."""
    return min(_LONGEST_INTERVAL, lease / 3)


@dataclass(slots=True)
class _Watched:
    """A letter that somebody runs, as it was when it was seen first.

    Attributes:
        token: the claim's token then.
        lease_until: the end of the lease then; a heartbeat moves it.
        still: for how many seconds both have stood still.
    """

    token: int
    lease_until: datetime
    still: float = 0.0


class Rescuer:
    """Rescues the letters of the dead, and never one whose owner is alive.

    A store with a clock that all its processes agree on says which leases have run out. With another
    one the rescuer watches: an owner whose token and heartbeat have stood still for a whole lease, on
    the monotonic clock of this process, is dead. A jump of the wall clock costs nothing.

    Args:
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
        lease: float,
        max_crashes: int,
        rescued: Callable[[], None],
        moved: Moved,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._bus = bus
        self._keeper = keeper
        self._clock = clock
        self._lease = lease
        self._max_crashes = max_crashes
        self._rescued = rescued
        self._moved = moved
        self._monotonic = monotonic
        self._watched: dict[str, _Watched] = {}
        self._looked_at: float | None = None

    async def rescue(self) -> None:
        """Look once at what is running, and take back what belongs to the dead.

        Raises:
            StoreUnavailable: the store cannot be reached.
        """
        leased = [
            it
            for it in await self._store.leased(now=moment(self._clock.time_ns()))
            if not self._keeper.holds(Lease(dead_letter_id=it.dead_letter_id, token=it.token))
        ]
        if self._store.judges_leases:
            dead: Sequence[Leased] = [it for it in leased if it.expired]
        else:
            dead = self._still_for_a_lease(leased)
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

    def _still_for_a_lease(self, leased: Sequence[Leased]) -> Sequence[Leased]:
        """Return the letters whose owner has not moved for a whole lease, as was seen from here.

        Time in which this process itself did not look, because it was frozen or busy, counts for one
        look alone: the owner may have been frozen with it.
        """
        now = self._monotonic()
        passed = 0.0 if self._looked_at is None else now - self._looked_at
        passed = min(passed, 2 * rescue_interval(self._lease))
        self._looked_at = now
        before, self._watched = self._watched, {}
        dead: list[Leased] = []
        for it in leased:
            seen = before.get(it.dead_letter_id)
            if seen is None or (seen.token, seen.lease_until) != (it.token, it.lease_until):
                seen = _Watched(it.token, it.lease_until)
            else:
                seen.still += passed
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
