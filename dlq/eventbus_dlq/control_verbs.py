"""The verbs of a dead-letter queue that stop tenants, events and handlers, and let them go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from eventbus.controls import Control
    from eventbus_dlq.running import RunningQueue
    from eventbus_dlq.store import DeadLetterStore


class ControlVerbs:
    """What an operator may say about which deliveries are begun; a queue is made with it."""

    _store: DeadLetterStore

    def _require_running(self) -> RunningQueue:
        raise NotImplementedError

    async def pause(
        self,
        tenant: str | None = None,
        event: str | None = None,
        handler: str | None = None,
        *,
        reason: str,
        by: str,
        until: datetime | None = None,
    ) -> Control:
        """Begin no delivery of a scope any more, in any process, until it is resumed.

        What is published meanwhile is accepted and parked, and runs after :meth:`resume`, in order. What runs
        already goes on. Other processes obey within a second. A scope that is paused already takes over what
        is given now. A handler is stopped under its former ids, its aliases, too.

        Args:
            tenant: whose events; None for everybody's.
            event: the event's name; None for every event.
            handler: the handler's id or an alias; None for every handler.
            reason: why; whoever meets the pause reads it.
            by: who pauses it.
            until: when it opens by itself (aware), for all processes as soon as one of their clocks says so;
                None for not before somebody resumes it.

        Raises:
            ValueError: ``reason`` or ``by`` is blank or longer than 512 characters, ``until`` has no time
                zone or has passed, or a name cannot be one.
            UnknownEvent: no process and no stored delivery knows the event.
            UnknownHandler: no process and no stored delivery knows the handler.
            BusClosed: the bus is not running.
            StoreUnavailable: the store cannot be reached.
        """
        controls = self._require_running().controls
        return await controls.close(
            "paused", tenant, event, handler, reason=reason, by=by, until=until, wait=False
        )

    async def drain(
        self,
        tenant: str | None = None,
        event: str | None = None,
        handler: str | None = None,
        *,
        reason: str,
        by: str,
        until: datetime | None = None,
        wait: bool = True,
    ) -> Control:
        """Pause a scope, and return when nothing of it runs in any live process; ``drained_at`` says when.

        It stays closed until it is resumed. Runs, in-process retries and threads that were left behind are
        waited for; a process that has not been heard of for half a minute is not. Cancelling the call, or
        ``wait=False``, ends the wait and not the drain: ask :meth:`controls` how far it is.

        Takes the arguments of :meth:`pause` and raises like it, and besides:

        Raises:
            DrainInterrupted: the scope was resumed or paused, or has come to its ``until``, before it was
                drained.
            RuntimeError: it was called in a handler of the scope, for whose end it would wait.
            BusClosed: the bus stopped before it was drained; it is closed, and being drained, all the same.
        """
        controls = self._require_running().controls
        return await controls.close(
            "draining", tenant, event, handler, reason=reason, by=by, until=until, wait=wait
        )

    async def resume(
        self,
        tenant: str | None = None,
        event: str | None = None,
        handler: str | None = None,
        *,
        reason: str | None = None,
        by: str | None = None,
    ) -> Control | None:
        """Open exactly this scope again; return the control that there was, or None.

        Without a scope it lifts only what closes everything; :meth:`resume_all` lifts every control. What was
        parked goes back to its former state, unless another control closes it, too.

        Raises:
            ValueError: a name cannot be one, or ``reason`` or ``by`` is blank or too long.
            BusClosed: the bus is not running.
            StoreUnavailable: the store cannot be reached.
        """
        return await self._require_running().controls.open(tenant, event, handler, reason=reason, by=by)

    async def resume_all(self, *, reason: str | None = None, by: str | None = None) -> tuple[Control, ...]:
        """Open every scope again; return the controls that there were. Raises like :meth:`resume`."""
        return await self._require_running().controls.open_all(reason=reason, by=by)

    async def controls(self) -> tuple[Control, ...]:
        """Return the scopes that are closed, from the store, by the time since when.

        One that has come to its ``until`` may be among them for a moment.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        configuration = await self._store.configuration()
        assert configuration is not None  # no version is known here
        return configuration.controls
