"""What operators have set, told a second time: which scopes are closed, and what is to be told of."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from eventbus.controls import Scope

Key = tuple[str, str]
"""Event id and handler id; in the programs, an event's id is its name."""


@dataclass(eq=False)
class ClosedScope:
    """What the model knows of one control."""

    scope: Scope
    state: str
    since: datetime
    until: datetime | None
    version: int
    drained_at: datetime | None = None
    said_by: set[str] = field(default_factory=set)

    @property
    def reason(self) -> str:
        """Why a letter is parked that it closes."""
        return "paused" if self.state == "paused" else "draining"

    def seen(self) -> tuple[object, ...]:
        """Return what a control of the store must show."""
        return (self.scope, self.state, self.since, self.until, self.drained_at, self.version)


@dataclass(eq=False)
class Notice:
    """What the model knows of one announcement."""

    dead_letter_id: str
    handler: str
    reason: str | None
    at: datetime
    key: str | None = None
    until: datetime | None = None

    def seen(self) -> tuple[object, ...]:
        """Return what an announcement of the store must show."""
        return (self.dead_letter_id, self.handler, self.reason, self.at)


class Operators:
    """The controls, schedules and announcements. ``changes`` counts what the version must tell of."""

    def __init__(self) -> None:
        self.closed: dict[Scope, ClosedScope] = {}
        self.schedules: dict[tuple[str | None, str | None], int] = {}
        self.automatic_retries = True
        self.live: dict[str, datetime] = {}
        self.notices: list[Notice] = []
        self.changes = 0

    # -- scopes

    def closing(self, key: Key, tenant: str | None, now: datetime) -> list[ClosedScope]:
        """Return what closes a letter, the first one first."""
        event, handler = key
        found = [
            it
            for it in self.closed.values()
            if it.scope.tenant in {None, tenant}
            and it.scope.event in {None, event}
            and it.scope.handler in {None, handler}
            and (it.until is None or now < it.until)
        ]
        return sorted(found, key=lambda it: it.version)

    def close(self, closed: ClosedScope) -> None:
        """Close a scope."""
        self.closed[closed.scope] = closed
        self.changes += 1

    def open(self, scopes: list[Scope] | None) -> list[ClosedScope]:
        """Remove controls; return them."""
        wanted = list(self.closed) if scopes is None else [it for it in self.closed if it in scopes]
        removed = [self.closed.pop(scope) for scope in wanted]
        self.changes += bool(removed)
        return removed

    def expire(self, now: datetime) -> None:
        """Remove the controls that have come to their end."""
        self.open([it.scope for it in self.closed.values() if it.until is not None and it.until <= now])

    def acknowledge(self, process: str, versions: set[int], busy: list[tuple[Key, str | None]],
                    live_since: datetime, now: datetime) -> list[ClosedScope]:  # fmt: skip
        """Note what a process said; return what is drained by that. ``busy`` are the letters that run."""
        live = {name for name, beat in self.live.items() if beat >= live_since}
        drained: list[ClosedScope] = []
        for closed in self.closed.values():
            if closed.version in versions:
                closed.said_by.add(process)
            runs = any(closed.scope.covers(tenant, *key) for key, tenant in busy)
            if closed.state == "draining" and live <= closed.said_by and not runs:
                closed.state, closed.drained_at = "drained", now
                drained.append(closed)
        self.changes += bool(drained)
        return drained

    # -- announcements

    def free_notices(self, now: datetime) -> list[Notice]:
        """Return what may be told, the oldest first."""
        free = [it for it in self.notices if it.until is None or it.until <= now]
        return sorted(free, key=lambda it: it.at)

    def tell(self, notice: Notice, key: str, now: datetime, lease: float) -> None:
        """Let somebody tell of something; its key is always the same."""
        assert notice.key in {None, key}
        assert all(it.key != key for it in self.notices if it is not notice)
        notice.key, notice.until = key, now + timedelta(seconds=lease)
