"""What operators have stopped: scopes, and the controls that close them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple


class Scope(NamedTuple):
    """Which deliveries are meant: those for which everything that is given holds.

    Attributes:
        tenant: whose events; None for everybody's, and for those of nobody.
        event: the event's name; None for every event.
        handler: the handler's id; None for every handler.
    """

    tenant: str | None = None
    event: str | None = None
    handler: str | None = None

    def covers(self, tenant: str | None, event: str, handler: str) -> bool:
        """Tell whether a delivery of this tenant, event and handler is meant."""
        return (
            self.tenant in (None, tenant) and self.event in (None, event) and self.handler in (None, handler)
        )

    def __str__(self) -> str:
        named = [f"{name}={value}" for name, value in self._asdict().items() if value is not None]
        return " ".join(named) or "everything"


class ControlState(StrEnum):
    """How far a control has come. In each of these its scope is closed: nothing in it is begun."""

    PAUSED = "paused"
    """Nothing is begun; what runs goes on."""

    DRAINING = "draining"
    """The same, and the processes say when nothing of theirs runs any more."""

    DRAINED = "drained"
    """Nothing runs any more, in any live process. It stays closed until it is resumed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """A scope that is closed.

    Attributes:
        scope: what is closed.
        state: how far it has come.
        reason: why.
        by: who closed it.
        since: when (aware UTC).
        until: when it opens by itself (aware UTC); None for when somebody resumes it.
        drained_at: when nothing of it ran any more (aware UTC); None while something may, and for a pause.
        version: the version of the configuration with which it came to be as it is, its state aside.
    """

    scope: Scope
    state: ControlState
    reason: str
    by: str
    since: datetime
    until: datetime | None
    drained_at: datetime | None
    version: int

    @property
    def tenant(self) -> str | None:
        """Whose events are held; None for everybody's."""
        return self.scope.tenant

    @property
    def event(self) -> str | None:
        """The events that are held; None for all."""
        return self.scope.event

    @property
    def handler(self) -> str | None:
        """The handler whose deliveries are held; None for all."""
        return self.scope.handler

    def is_closed(self, now: datetime) -> bool:
        """Tell whether the scope is still closed at a moment (aware)."""
        return self.until is None or now < self.until

    def __str__(self) -> str:
        until = f" until {self.until.isoformat()}" if self.until is not None else ""
        return (
            f"{self.scope} is {self.state} since {self.since.isoformat()}{until} by {self.by}: {self.reason}"
        )
