"""Draining: every process says when nothing of a scope runs there any more, and somebody may wait for all."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

import anyio

from eventbus.context import current_delivery
from eventbus.controls import ControlState
from eventbus.errors import BusClosed, DrainInterrupted
from eventbus_dlq.capture import moment
from eventbus_dlq.errors import StoreUnavailable
from eventbus_dlq.processes import GONE_AFTER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventbus.controls import Control, Scope
    from eventbus.ports import Clock, Redeliverer
    from eventbus_dlq.configuring import Configuring
    from eventbus_dlq.control_store import Configuration
    from eventbus_dlq.outage import Outage
    from eventbus_dlq.store import DeadLetterStore

_FIRST_WAIT = 0.02
_LONGEST_WAIT = 0.5


class Tell(Protocol):
    """Tells observers of a control that has changed."""

    def __call__(self, control: Control, state: str, *, reason: str | None, by: str | None) -> None:
        """Tell that ``control`` has come to ``state``."""
        ...


class Drains:
    """Gives this process's word for the scopes that are being drained, and waits for that of the others.

    Args:
        process_id: whose word it is.
        drained: told of scopes of which nothing runs any more, by the process that has had the last word.
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
        drained: Tell,
    ) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock
        self._outage = outage
        self._configuring = configuring
        self._process_id = process_id
        self._drained = drained
        self._halted = False
        self._draining: Sequence[Control] = ()
        configuring.listen(self._take)

    def _take(self, configuration: Configuration) -> None:
        self._draining = [it for it in configuration.controls if it.state is ControlState.DRAINING]

    def halt(self) -> None:
        """Wait for nothing any more."""
        self._halted = True

    def check_outside(self, scopes: Sequence[Scope]) -> None:
        """Refuse to wait for a handler's end within it.

        Raises:
            RuntimeError: a delivery of these scopes runs here, or has published the one that does.
        """
        delivery = current_delivery.get()
        while delivery is not None:
            of = delivery.tenant, delivery.envelope.name, delivery.handler_id
            if delivery.state is None and any(scope.covers(*of) for scope in scopes):
                raise RuntimeError(
                    f"drain() in handler {delivery.handler_id!r}, which is to be drained, would wait for its "
                    "own end; call it elsewhere, or with wait=False"
                )
            delivery = delivery.parent

    async def acknowledge(self) -> None:
        """Say of which scopes nothing runs here, and learn which are drained.

        The gate has known of them for as long as the configuration that names them, so that nothing of theirs
        begins here any more. What is claimed is not looked at: its lease says so to everybody.

        Raises:
            StoreUnavailable: the store cannot be reached.
        """
        if not self._draining:
            return
        now = moment(self._clock.time_ns())
        drained = await self._store.acknowledge(
            self._process_id,
            [it for it in self._draining if not self._bus.runs(it.scope)],
            live_since=now - timedelta(seconds=GONE_AFTER),
            now=now,
        )
        for control in drained:
            self._drained(control, control.state, reason=control.reason, by=control.by)
        if drained:
            await self._configuring.refresh()

    async def wait(self, scopes: Sequence[Scope]) -> Control:
        """Return the control of the first of ``scopes`` when all of them are drained.

        Raises:
            DrainInterrupted: one of them is not being drained any more.
            BusClosed: the bus stops.
        """
        pause = _FIRST_WAIT
        while True:
            await self._try_to_acknowledge()
            known = {it.scope: it for it in self._configuring.current.controls}
            controls = [_still_draining(scope, known.get(scope)) for scope in scopes]
            if all(it.state is ControlState.DRAINED for it in controls):
                return controls[0]
            if self._halted:
                raise BusClosed(f"the bus stopped before {scopes[0]} was drained; it stays closed")
            await anyio.sleep(pause)  # for what really runs, whatever a test's clock says
            pause = min(pause * 2, _LONGEST_WAIT)

    async def _try_to_acknowledge(self) -> None:
        try:
            await self.acknowledge()
            await self._configuring.refresh()
        except StoreUnavailable as error:  # it is drained when the store is back
            self._outage.met(error, during="drain")


def _still_draining(scope: Scope, control: Control | None) -> Control:
    if control is None:
        raise DrainInterrupted(f"{scope} was opened before it was drained")
    if control.state is ControlState.PAUSED:
        raise DrainInterrupted(f"{control}; that took the place of the drain")
    return control
