"""Carrying out what operators say of scopes, and keeping this process to what the store says of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import anyio.lowlevel

from eventbus.log import Log
from eventbus_dlq.capture import moment
from eventbus_dlq.drains import Drains
from eventbus_dlq.errors import StoreUnavailable
from eventbus_dlq.scoping import Known, check_words, checked_scope, checked_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from eventbus.controls import Control, Scope
    from eventbus.ports import Clock, Redeliverer
    from eventbus_dlq.configuring import Configuring
    from eventbus_dlq.control_store import Closing, Configuration
    from eventbus_dlq.outage import Outage
    from eventbus_dlq.store import DeadLetterStore

_log = Log()

_AT_A_TIME = 1_000
"""How many parked deliveries go back in one transaction."""


class Controlling:
    """Closes and opens scopes, keeps the gate of the bus up to date, and brings back what was parked.

    Args:
        process_id: the row of this process, whose word a drain waits for.
        closed: called when the gate may have closed: what is in hand and has not begun is to be given back.
        opened: called when parked deliveries may have become claimable.
    """

    def __init__(
        self,
        *,
        store: DeadLetterStore,
        bus: Redeliverer,
        clock: Clock,
        outage: Outage,
        configuring: Configuring,
        process_id: str,
        closed: Callable[[], None],
        opened: Callable[[], None],
    ) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock
        self._outage = outage
        self._configuring = configuring
        self._closed = closed
        self._opened = opened
        self._known = Known(store, bus)
        self._drains = Drains(
            store=store,
            bus=bus,
            clock=clock,
            outage=outage,
            configuring=configuring,
            process_id=process_id,
            drained=self._tell,
        )
        self._ends: datetime | None = None
        self._may_be_parked = True
        self._bringing_back = False
        self._halted = False
        configuring.listen(self._take)

    async def start(self) -> None:
        """Learn what is closed, before anything is begun.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        self._bus.gate.set(())  # of an earlier run of the bus, perhaps on another store
        await self._configuring.refresh()

    def halt(self) -> None:
        """Let go of those who wait for a drain, and leave what is parked to others: the bus stops."""
        self._halted = True
        self._drains.halt()

    # -- what operators say

    async def close(
        self,
        state: Closing,
        tenant: str | None,
        event: str | None,
        handler: str | None,
        *,
        reason: str,
        by: str,
        until: datetime | None,
        wait: bool,
    ) -> Control:
        """Close a scope; with ``wait``, return when it is drained.

        Raises:
            ValueError: what is said makes no sense.
            UnknownEvent: the event is not known.
            UnknownHandler: the handler is not known.
            RuntimeError: a handler would wait until it has itself ended.
            DrainInterrupted: somebody opened the scope, or only paused it, before it was drained.
            BusClosed: the bus stopped before it was drained; it is closed, and being drained, all the same.
            StoreUnavailable: the store cannot be reached.
        """
        scope = checked_scope(tenant, event, handler)
        check_words("reason", reason)
        check_words("by", by)
        until = checked_until(until, self._now())
        scopes = await self._known.scopes(scope, now=self._now())
        if wait:
            self._drains.check_outside(scopes)
        controls = [await self._close(each, state, reason=reason, by=by, until=until) for each in scopes]
        return await self._drains.wait(scopes) if wait else controls[0]

    async def _close(
        self, scope: Scope, state: Closing, *, reason: str, by: str, until: datetime | None
    ) -> Control:
        control = await self._store.close_scope(
            scope, state, reason=reason, by=by, until=until, now=self._now()
        )
        await self._closed_here(control)
        self._tell(control, control.state, reason=reason, by=by)
        return control

    async def open(
        self,
        tenant: str | None,
        event: str | None,
        handler: str | None,
        *,
        reason: str | None,
        by: str | None,
    ) -> Control | None:
        """Open a scope; return the control that there was.

        Raises:
            ValueError: what is said makes no sense.
            StoreUnavailable: the store cannot be reached.
        """
        scopes = self._known.scopes_of(checked_scope(tenant, event, handler))
        opened = {it.scope: it for it in await self._open(scopes, reason=reason, by=by)}
        return next((opened[scope] for scope in scopes if scope in opened), None)

    async def open_all(self, *, reason: str | None, by: str | None) -> tuple[Control, ...]:
        """Open every scope; return the controls that there were.

        Raises:
            ValueError: what is said makes no sense.
            StoreUnavailable: the store cannot be reached.
        """
        return tuple(await self._open(None, reason=reason, by=by))

    async def _open(
        self, scopes: Sequence[Scope] | None, *, reason: str | None, by: str | None
    ) -> Sequence[Control]:
        for name, words in (("reason", reason), ("by", by)):
            if words is not None:
                check_words(name, words)
        opened = await self._store.open_scopes(scopes, now=self._now())
        await self.see()
        for control in opened:
            self._tell(control, "resumed", reason=reason, by=by)
        if opened:
            self._bus.spawn(self._bring_back)
        return opened

    async def _closed_here(self, control: Control) -> None:
        """Have the gate know of a control of this process's own at once, for little where that is enough."""
        current = self._configuring.current
        if control.version != current.version + 1:
            await self.see()
            return
        others = (it for it in current.controls if it.scope != control.scope)
        self._configuring.take(replace(current, version=control.version, controls=(*others, control)))

    async def see(self) -> None:
        """Learn what is closed; when the store does not answer, that is done again soon."""
        try:
            await self._configuring.refresh()
        except StoreUnavailable as error:
            self._outage.met(error, during="controls")
        except Exception:  # what was asked for has happened, or goes on
            _log.exception("controls.unread")

    # -- what the store says

    async def look(self) -> None:
        """Learn what is closed, and say what has run out here.

        Raises:
            StoreUnavailable: the store cannot be reached.
        """
        await self._configuring.refresh()
        await self._drains.acknowledge()

    async def bring_back(self) -> None:
        """Bring back what is parked and free, however long that takes: nothing else may wait for it.

        Raises:
            StoreUnavailable: the store cannot be reached.
        """
        if self._may_be_parked or (self._ends is not None and self._ends <= self._now()):
            await self._bring_back()

    def _take(self, configuration: Configuration) -> None:
        controls = configuration.controls
        self._bus.gate.set(controls)
        self._ends = min((it.until for it in controls if it.until is not None), default=None)
        self._may_be_parked = True  # something was opened, perhaps, and whoever did it may have died since
        self._closed()

    async def _bring_back(self) -> None:
        """Let what no control holds any more go back to where it was, and have it claimed."""
        if self._bringing_back:
            return
        self._bringing_back = True
        try:
            self._may_be_parked = False  # what is opened from here on asks for another turn
            while await self._unpark() and not self._halted:
                await anyio.lowlevel.checkpoint()
        except BaseException:
            self._may_be_parked = True
            raise
        finally:
            self._bringing_back = False

    async def _unpark(self) -> bool:
        more = await self._store.unpark(limit=_AT_A_TIME, now=self._now())
        self._opened()
        return more

    def _tell(
        self,
        control: Control,
        state: str,
        *,
        reason: str | None,
        by: str | None,
    ) -> None:
        tenant, event, handler = control.scope
        _log.info("control.changed", scope=str(control.scope), state=state, reason=reason, by=by)
        self._bus.telemetry.emit(
            "control.changed", tenant=tenant, event=event, handler=handler, state=state, reason=reason, by=by
        )

    def _now(self) -> datetime:
        return moment(self._clock.time_ns())
