"""The mountable router: every path with its guard."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from starlette.routing import Route, Router

from eventbus_routes.api import dead_letters, operations, statistics
from eventbus_routes.guard import Admin, Guarded

if TYPE_CHECKING:
    from eventbus import EventBus
    from eventbus_routes.access import AccessPolicy

RESOURCES = {**dead_letters.RESOURCES, **operations.RESOURCES, **statistics.RESOURCES}
"""Every path of the router, with what each method does and needs."""


def admin_router(bus: EventBus, *, access: AccessPolicy, replay_wait: float = 10.0) -> Router:
    """Return the admin of ``bus`` as a router, to be mounted in a Starlette or FastAPI application.

    It stands at any path, ``Mount("/admin/events", app=admin_router(bus, access=...))``, and behind
    any ``root_path``. There is no admin without an access policy, and none that lets a stranger in.

    Args:
        bus: the bus, which the application starts and stops.
        access: turns a connection into the principal behind it, such as :func:`bearer_tokens`.
        replay_wait: seconds that a request waits for a replay before it is answered with 202; the
            replay goes on.

    Raises:
        TypeError: ``access`` is missing or cannot be called.
        ValueError: ``replay_wait`` is negative or not finite.
        NoDeadLetterQueue: the bus was made without ``dlq=``.
    """
    if not callable(access):
        raise TypeError(f"access={access!r} cannot be called; give an access policy such as bearer_tokens()")
    if not math.isfinite(replay_wait) or replay_wait < 0:
        raise ValueError(f"replay_wait={replay_wait!r} must be a finite number of seconds, 0 or more")
    admin = Admin(bus=bus, dlq=bus.dlq, access=access, replay_wait=replay_wait)
    return Router(
        # Without methods= a route takes them all, so that even a refused method meets the guard first.
        routes=[Route(path, Guarded(admin, actions)) for path, actions in RESOURCES.items()],
        default=Guarded(admin),
        redirect_slashes=False,
    )
