"""Serving the admin of a bus over HTTP, on a socket that is open already."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from eventbus_routes import Principal, admin_router, bearer_tokens

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Generator

    from eventbus import EventBus

MOUNTED = "/admin/events"
"""Where the admin stands."""
_LAST_WORDS = 5  # seconds that open connections have to end


class _Server(uvicorn.Server):
    """A server that leaves signals to its caller: uvicorn raises them again when it has stopped."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def admin_app(bus: EventBus, token: str) -> Starlette:
    """Return an application with the admin of ``bus``, open to an operator with ``token``."""
    access = bearer_tokens({token: Principal("demo", role="operator")})
    return Starlette(routes=[Mount(MOUNTED, app=admin_router(bus, access=access))])


async def serve(
    bus: EventBus, listener: socket.socket, *, token: str, started: Callable[[str], object]
) -> None:
    """Serve the admin of a running bus until Ctrl-C or SIGTERM.

    Args:
        bus: started and stopped by the caller.
        listener: bound and listening.
        token: of the one who may come in.
        started: told the path of the admin once the signals are being listened to.
    """
    config = uvicorn.Config(
        admin_app(bus, token),
        lifespan="off",
        log_level="warning",
        timeout_graceful_shutdown=_LAST_WORDS,
    )
    server = _Server(config)

    async def stop_on_signal() -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            started(MOUNTED)
            async for _ in signals:
                server.should_exit = True

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stop_on_signal)
        await server.serve(sockets=[listener])
        tasks.cancel_scope.cancel()
