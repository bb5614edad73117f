"""Telling observers, at least once, of every letter that has become exhausted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from eventbus.log import Log
from eventbus_dlq.capture import moment
from eventbus_dlq.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventbus.ports import Clock, Redeliverer
    from eventbus_dlq.control_store import Announcement
    from eventbus_dlq.outage import Outage
    from eventbus_dlq.store import DeadLetterStore

_log = Log()

LOOK_EVERY = 1.0
"""Seconds between two looks for letters that other processes, or an operator, have exhausted."""

_AT_A_TIME = 100
_PATIENCE = 2.0
"""Seconds that the store has to answer once the bus stops."""


class Announcing:
    """Takes what the store has to announce, tells the observers of the bus, and confirms it.

    What is told and not confirmed, because this process has died in between or the store was away, is told
    again when its lease has run out, by any process on the same store; its key is the same then. Where a bus
    has no observers nothing is taken, and other processes may tell of it.

    Args:
        owner: whose it is while it is being told.
        lease: seconds after which others may tell of what was taken and not confirmed.
    """

    def __init__(
        self,
        *,
        store: DeadLetterStore,
        bus: Redeliverer,
        clock: Clock,
        outage: Outage,
        owner: str,
        lease: float,
    ) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock
        self._outage = outage
        self._owner = owner
        self._lease = lease
        self._pending = True
        self._told: list[str] = []
        self._pause: anyio.CancelScope | None = None

    def wake(self) -> None:
        """Look soon: a letter has become exhausted here."""
        self._pending = True
        if self._pause is not None:
            self._pause.cancel()

    async def serve(self) -> None:
        """Announce until cancelled."""
        while True:
            await self._announce()
            if not self._pending:
                with anyio.CancelScope() as self._pause:
                    await self._clock.sleep(LOOK_EVERY)
                self._pause = None

    async def finish(self) -> None:
        """Announce what is left, if the store answers in time; called when nothing runs any more."""
        if self._bus.telemetry:
            with anyio.move_on_after(_PATIENCE):
                await self._announce()

    async def _announce(self) -> None:
        """Announce what there is; what goes wrong is tried again at the next look."""
        try:
            while await self._announce_some():
                pass
        except StoreUnavailable as error:
            self._outage.met(error, during="announcements")
        except Exception:  # whatever it is, later ones must be told
            _log.exception("announcements.failed")

    async def _announce_some(self) -> bool:
        """Announce as much as one call brings; return whether there may be more."""
        self._pending = False  # what wakes from here on asks for another look
        await self._confirm()  # what an outage has kept from being confirmed
        announcements = await self._store.claim_announcements(
            limit=_AT_A_TIME, owner=self._owner, lease=self._lease, now=moment(self._clock.time_ns())
        )
        told_all = await self._tell(announcements)
        await self._confirm()
        return len(announcements) == _AT_A_TIME or not told_all

    async def _tell(self, announcements: Sequence[Announcement]) -> bool:
        """Tell the observers; return False when they take so long that others would tell of the rest, too.

        What is left is still taken by this process, and comes with its next call.
        """
        end = self._clock.monotonic() + self._lease / 3
        for number, it in enumerate(announcements, 1):
            self._bus.telemetry.emit(
                "dead_letter.exhausted",
                dead_letter=it.dead_letter_id,
                event=it.event_name,
                event_id=it.event_id,
                handler=it.handler_id,
                tenant=it.tenant,
                reason=it.reason,
                key=it.key,
            )
            self._told.append(it.key)
            await anyio.lowlevel.checkpoint()  # others run meanwhile, however slow an observer is
            if self._clock.monotonic() > end:
                return number == len(announcements)
        return True

    async def _confirm(self) -> None:
        if self._told:
            await self._store.confirm_announcements(self._told)
            self._told = []
            self._outage.over()
