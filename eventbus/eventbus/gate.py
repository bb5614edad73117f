"""The gate: which deliveries may not begin, because an operator has closed their scope.

It is this process's copy of what is in the store. A delivery asks it when it begins, so it is made to be
asked. While nothing is closed, that is the truth of a dict. Else it is a look into two sets for the tenant:
in one are those that are closed altogether, in the other, which every route has of its own, those that are
closed for its event or its handler. All are changed in place, so that who asks often keeps them at hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakValueDictionary

from eventbus.controls import Control, Scope

if TYPE_CHECKING:
    from eventbus.ports import Clock

_Place: TypeAlias = tuple[str | None, str | None]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Way:
    """What is closed for deliveries of one event to one handler, beside the tenants that are altogether.

    Both sets follow what is closed for as long as somebody keeps this. They do not know of ``until``: where
    something is found, :meth:`Gate.closed_by` says whether it still holds.

    Attributes:
        tenants: for whom it is closed.
        everybody: the scopes with which it is closed whosever event it is.
    """

    __slots__ = ("__weakref__", "everybody", "tenants")

    def __init__(self) -> None:
        self.tenants: set[str] = set()
        self.everybody: set[Scope] = set()


class Gate:
    """Knows the scopes that are closed. Falsy while there are none.

    Args:
        clock: tells whether a control has come to its ``until``.

    Attributes:
        closed: the controls by scope; always the same dict.
        tenants: those of whom every delivery is held back; always the same set.
    """

    def __init__(self, clock: Clock) -> None:
        self.closed: dict[Scope, Control] = {}
        self.tenants: set[str] = set()
        self._clock = clock
        self._scopes: Mapping[_Place, Iterable[Scope]] = {}
        self._ways: WeakValueDictionary[tuple[str, str], Way] = WeakValueDictionary()

    def __bool__(self) -> bool:
        return bool(self.closed)

    def set(self, controls: Iterable[Control]) -> None:
        """Close the scopes of these controls, and no others."""
        closed = {control.scope: control for control in controls}
        scopes: dict[_Place, list[Scope]] = {}
        for scope in closed:
            scopes.setdefault((scope.event, scope.handler), []).append(scope)
        self._scopes = scopes
        self.closed.clear()
        self.closed.update(closed)
        self.tenants.clear()
        self.tenants.update(it.tenant for it in scopes.get((None, None), ()) if it.tenant is not None)
        for (event, handler), way in self._ways.items():
            self._fill(way, event, handler)

    def closed_by(self, tenant: str | None, event: str, handler: str) -> Control | None:
        """Return the control that closes a delivery; of several the one that came first."""
        if not self.closed:
            return None
        now = _EPOCH + timedelta(microseconds=self._clock.time_ns() // 1_000)
        tenants = (None,) if tenant is None else (None, tenant)
        scopes = [Scope(of, name, by) for of in tenants for name in (None, event) for by in (None, handler)]
        closing = [it for scope in scopes if (it := self.closed.get(scope)) is not None and it.is_closed(now)]
        return min(closing, key=lambda control: (control.since, control.version), default=None)

    def way(self, event: str, handler: str) -> Way:
        """Return what is closed for deliveries of an event to a handler, kept up to date."""
        way = self._ways.get((event, handler))
        if way is None:
            way = self._ways[event, handler] = Way()
            self._fill(way, event, handler)
        return way

    def _fill(self, way: Way, event: str, handler: str) -> None:
        way.tenants.clear()
        way.everybody.clear()
        for place in ((event, None), (None, handler), (event, handler)):
            for scope in self._scopes.get(place, ()):
                if scope.tenant is None:
                    way.everybody.add(scope)
                else:
                    way.tenants.add(scope.tenant)
        if Scope() in self.closed:
            way.everybody.add(Scope())
