"""Who may do what: permissions, roles, principals, and what an access policy is."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from starlette.requests import HTTPConnection


class Permission(StrEnum):
    """One thing that a principal may do."""

    READ = "read"
    """See lists, letters with their errors, and statistics."""
    REVEAL = "reveal"
    """See payloads, headers and annotations."""
    REPLAY = "replay"
    """Run a stored delivery again."""
    EDIT = "edit"
    """Change what a replay runs with."""
    TRIAGE = "triage"
    """Decide about letters without running them: resolve, discard and their like."""
    DELETE = "delete"
    """Remove letters for good."""
    CONTROL = "control"
    """Pause, resume and drain."""
    AUDIT = "audit"
    """See who did what."""


Role: TypeAlias = Literal["viewer", "operator", "admin"]
"""A name for a usual set of permissions."""

PERMISSIONS_OF: Mapping[Role, frozenset[Permission]] = MappingProxyType(
    {
        "viewer": frozenset({Permission.READ}),
        "operator": frozenset(
            {
                Permission.READ,
                Permission.REVEAL,
                Permission.REPLAY,
                Permission.TRIAGE,
                Permission.CONTROL,
            }
        ),
        "admin": frozenset(Permission),
    }
)
"""What each role may do."""


@dataclass(frozen=True, slots=True, init=False)
class Principal:
    """Somebody who was let in.

    Attributes:
        name: who it is; recorded as ``acted_by`` on the letters that are changed.
        permissions: what they may do.
        tenants: whose letters they see and touch; None is everybody's, and an empty set nobody's.
            Letters without a tenant are for None only.
    """

    name: str
    permissions: frozenset[Permission]
    tenants: frozenset[str] | None

    def __init__(
        self,
        name: str,
        *,
        role: Role | None = None,
        permissions: Iterable[Permission | str] = (),
        tenants: Iterable[str] | None = None,
    ) -> None:
        """Make a principal who may do what ``role`` may, and ``permissions`` besides.

        Raises:
            TypeError: ``permissions`` or ``tenants`` is a bare text instead of a set of texts.
            ValueError: an empty name or tenant, an unknown role or permission.
        """
        if not name:
            raise ValueError("a principal needs a name: it is recorded with everything they change")
        if role is not None and role not in PERMISSIONS_OF:
            raise ValueError(f"role={role!r} is unknown; the roles are: {', '.join(PERMISSIONS_OF)}")
        granted = PERMISSIONS_OF[role] if role is not None else frozenset[Permission]()
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "permissions", granted | _checked_permissions(permissions))
        object.__setattr__(self, "tenants", _checked_tenants(tenants))

    def may(self, permission: Permission) -> bool:
        """Tell whether the principal has ``permission``."""
        return permission in self.permissions

    def sees(self, tenant: str | None) -> bool:
        """Tell whether letters of ``tenant`` (None: letters without one) are the principal's to see."""
        return self.tenants is None or tenant in self.tenants


AccessPolicy: TypeAlias = "Callable[[HTTPConnection], Principal | Awaitable[Principal | None] | None]"
"""Turns a connection into the principal behind it, or into None for a stranger. May be async.

Called once per request, before anything else is looked at. What it raises becomes a 500: closed.
"""


def _checked_permissions(permissions: Iterable[Permission | str]) -> frozenset[Permission]:
    if isinstance(permissions, str):
        raise TypeError(f"permissions={permissions!r} is a text; give a set of permissions")
    known = ", ".join(Permission)
    try:
        return frozenset(Permission(permission) for permission in permissions)
    except ValueError as error:
        raise ValueError(f"{error}; the permissions are: {known}") from None


def _checked_tenants(tenants: Iterable[str] | None) -> frozenset[str] | None:
    if tenants is None:
        return None
    if isinstance(tenants, str):
        raise TypeError(f"tenants={tenants!r} is a text; give a set, such as {{{tenants!r}}}")
    own = frozenset(tenants)
    # None among them would quietly open the letters without a tenant.
    if not all(isinstance(tenant, str) and tenant for tenant in own):  # pyright: ignore[reportUnnecessaryIsInstance] -- callers without a type checker
        raise ValueError(f"tenants={set(own)!r} must be texts that are not empty; tenants=None means all")
    return own
