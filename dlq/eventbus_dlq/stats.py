"""What the dead letters add up to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from eventbus.controls import Scope


@dataclass(frozen=True, slots=True)
class Recovery:
    """How many failures came home.

    Attributes:
        total: letters ever stored and still known.
        pending: letters in an open state.
        recovered: letters that are resolved.
        abandoned: letters that were discarded or archived.
    """

    total: int
    pending: int
    recovered: int
    abandoned: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """The dead letters in numbers.

    Attributes:
        total: how many there are, in any state.
        by_state: how many in each state; states without letters are left out.
        by_event: how many per event name.
        by_handler: how many per handler id.
        by_tenant: how many per tenant; letters without one are under None.
        by_kind: how many per kind of error; letters that have not failed are in none, here and in the
            two that follow.
        by_category: how many per category.
        by_route: how many per route.
        last_24h: how many were stored within the last 24 hours.
        average_attempts: runs per letter, on average; 0.0 when there is none.
        average_age: seconds since they were stored, on average over open ones; 0.0 when there is none.
        due: pending letters whose time has come.
        oldest_open: when the oldest open letter was stored (aware UTC), or None.
        newest_open: when the newest open letter was stored (aware UTC), or None.
        recovery: how many failures came home.
        paused: scopes that are paused.
        draining: scopes that are being drained, or are drained and still closed.
    """

    total: int
    by_state: Mapping[str, int]
    by_event: Mapping[str, int]
    by_handler: Mapping[str, int]
    by_tenant: Mapping[str | None, int]
    by_kind: Mapping[str, int]
    by_category: Mapping[str, int]
    by_route: Mapping[str, int]
    last_24h: int
    average_attempts: float
    average_age: float
    due: int
    oldest_open: datetime | None
    newest_open: datetime | None
    recovery: Recovery
    paused: tuple[Scope, ...] = ()
    draining: tuple[Scope, ...] = ()
