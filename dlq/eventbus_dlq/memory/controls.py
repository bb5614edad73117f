"""What operators have set, in memory: which scopes are closed, the schedules, the switch."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from eventbus.controls import Control, ControlState, Scope
from eventbus_dlq import closing
from eventbus_dlq.control_store import Configuration, Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from datetime import datetime

    from eventbus.retry import RetryPolicy
    from eventbus_dlq.control_store import Closing
    from eventbus_dlq.letter import DeadLetter

ScheduleKey = tuple[str | None, str | None]


class Controls:
    """The controls, by scope, and the rest of the configuration, with a version that rises."""

    def __init__(self) -> None:
        self.version = 0
        self._controls: dict[Scope, Control] = {}
        self._acknowledged: dict[int, set[str]] = {}
        self._schedules: dict[ScheduleKey, Schedule] = {}
        self._automatic_retries = True

    @property
    def all(self) -> tuple[Control, ...]:
        """Every control, by the time since when it is there."""
        return tuple(sorted(self._controls.values(), key=lambda it: (it.since, it.version)))

    def configuration(self) -> Configuration:
        """Return everything as it is."""
        return Configuration(
            version=self.version,
            controls=self.all,
            schedules=tuple(self._schedules.values()),
            automatic_retries=self._automatic_retries,
        )

    def set_schedule(
        self, key: ScheduleKey, redelivery: RetryPolicy, *, by: str | None, now: datetime
    ) -> None:
        """Keep a schedule for a handler, an event or all, in place of the one before."""
        self.version += 1
        self._schedules[key] = Schedule(*key, redelivery, by, now)

    def forget_schedule(self, key: ScheduleKey) -> None:
        """Remove a schedule, if there is one."""
        if self._schedules.pop(key, None) is not None:
            self.version += 1

    def set_automatic_retries(self, wanted: bool) -> None:
        """Turn the switch."""
        if wanted is not self._automatic_retries:
            self._automatic_retries = wanted
            self.version += 1

    # -- scopes

    def closed_by(self, letter: DeadLetter, now: datetime) -> Control | None:
        """Return the control that closes a letter, or None."""
        return closing.closed_by(self._controls, letter, now)

    def close(
        self, scope: Scope, state: Closing, *, reason: str, by: str, until: datetime | None, now: datetime
    ) -> Control:
        """Close a scope, whether it is closed or not."""
        self._forget(scope)
        self.version += 1
        control = Control(
            scope=scope,
            state=ControlState(state),
            reason=reason,
            by=by,
            since=now,
            until=until,
            drained_at=None,
            version=self.version,
        )
        self._controls[scope] = control
        return control

    def open(self, scopes: Collection[Scope] | None) -> Sequence[Control]:
        """Remove the controls of these scopes, or of all; return them."""
        wanted = self._controls if scopes is None else scopes
        removed = [it for it in self.all if it.scope in wanted]
        for control in removed:
            self._forget(control.scope)
        self.version += bool(removed)
        return removed

    def expire(self, now: datetime) -> bool:
        """Remove the controls that have come to their end; return whether there were any."""
        return bool(self.open([it.scope for it in self._controls.values() if not it.is_closed(now)]))

    def _forget(self, scope: Scope) -> None:
        control = self._controls.pop(scope, None)
        if control is not None:
            self._acknowledged.pop(control.version, None)

    # -- draining

    def acknowledge(self, process_id: str, drains: Collection[Control]) -> None:
        """Note that a process runs nothing of these scopes, where they are draining at this version."""
        for control in drains:
            known = self._controls.get(control.scope)
            if known is not None and known.version == control.version:
                self._acknowledged.setdefault(known.version, set()).add(process_id)

    def drain(
        self, live: Collection[str], is_running: Callable[[Scope], bool], *, now: datetime
    ) -> Sequence[Control]:
        """Make drained what all that live have acknowledged and nobody runs; return what became so."""
        drained = [
            replace(it, state=ControlState.DRAINED, drained_at=now)
            for it in self.all
            if it.state is ControlState.DRAINING
            and self._acknowledged.get(it.version, set()).issuperset(live)
            and not is_running(it.scope)
        ]
        self._controls |= {it.scope: it for it in drained}
        self.version += bool(drained)
        return drained
