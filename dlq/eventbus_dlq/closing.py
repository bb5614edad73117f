"""Which control closes a delivery, and what follows from it: for every store, and pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbus.controls import ControlState, Scope
from eventbus.errors import Paused
from eventbus_dlq.letter import DeadLetterState, Reason

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from datetime import datetime

    from eventbus.controls import Control
    from eventbus_dlq.letter import DeadLetter

HELD_REASONS = frozenset({Reason.PAUSED, Reason.DRAINING})
"""Why a letter is parked that a control has parked."""


def is_held(letter: DeadLetter) -> bool:
    """Tell whether a control has parked ``letter``."""
    return letter.state is DeadLetterState.PARKED and letter.reason in HELD_REASONS


def scopes_of(tenant: str | None, event: str, handler: str) -> Collection[Scope]:
    """Return every scope that a delivery of this tenant, event and handler is in."""
    tenants = (None,) if tenant is None else (None, tenant)
    return [Scope(of, name, by) for of in tenants for name in (None, event) for by in (None, handler)]


def closed_by(controls: Mapping[Scope, Control], letter: DeadLetter, now: datetime) -> Control | None:
    """Return the control that closes ``letter`` at ``now``; of several the one that came first."""
    if not controls:
        return None
    scopes = scopes_of(letter.tenant, letter.event_name, letter.handler_id)
    closing = [it for scope in scopes if (it := controls.get(scope)) is not None and it.is_closed(now)]
    return min(closing, key=lambda it: (it.since, it.version), default=None)


def reason_of(control: Control) -> Reason:
    """Return why a letter is parked that ``control`` closes."""
    return Reason.PAUSED if control.state is ControlState.PAUSED else Reason.DRAINING


def refusal(dead_letter_id: str, control: Control | None) -> Paused:
    """Return why a letter cannot be claimed that ``control`` closes; None: the one that parked it is gone."""
    if control is None:
        return Paused(
            f"dead letter {dead_letter_id} was parked by a control that is open again; "
            "it goes back to its former state within a second or two, try again then"
        )
    return Paused(f"dead letter {dead_letter_id} cannot be run", control)


def closed_scopes(
    controls: Iterable[Control], now: datetime, tenants: Collection[str] | None
) -> tuple[tuple[Scope, ...], tuple[Scope, ...]]:
    """Return the scopes that are paused and those that are drained, or being so, for ``Stats``.

    Of ``tenants``, only those that are theirs; None is everybody's.
    """
    shown = [it for it in controls if it.is_closed(now) and (tenants is None or it.tenant in tenants)]
    paused = tuple(it.scope for it in shown if it.state is ControlState.PAUSED)
    draining = tuple(it.scope for it in shown if it.state is not ControlState.PAUSED)
    return paused, draining
