"""A small shop whose handlers fail until they are mended, with its admin mounted."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
from starlette.applications import Starlette
from starlette.routing import Mount

from eventbus import EventBus, TelemetryEvent
from eventbus_dlq import DeadLetterQueue, DeadLetterStore
from eventbus_dlq.memory import MemoryStore
from eventbus_routes import Permission, Principal, admin_router, bearer_tokens

MOUNTED_AT = "/admin/events"
PRINCIPALS = {
    "admin": Principal("root", role="admin"),
    "operator": Principal("ann", role="operator"),
    "viewer": Principal("vic", role="viewer"),
    "acme": Principal("amy", role="admin", tenants={"acme"}),
    "nobody": Principal("nil", role="admin", tenants=()),
    "replayer": Principal("rob", permissions={"replay"}),
    "powerless": Principal("pat"),
    **{f"only-{permission}": Principal("sol", permissions={permission}) for permission in Permission},
}
"""Who may come in, by token."""


class Shop:
    """Two handlers that fail while ``broken``; ``billing.charge`` also waits while ``closed``."""

    def __init__(self, store: DeadLetterStore | None = None) -> None:
        self.store = store or MemoryStore()
        self.bus = EventBus(dlq=DeadLetterQueue(self.store), observers=[self._observe])
        self.resolved = anyio.Event()
        self.broken = True
        self.charged: list[Any] = []
        self.open = anyio.Event()
        self.open.set()
        self.busy = anyio.Event()
        self.bus.on("order.placed", id="billing.charge")(self._charge)
        self.bus.on("order.shipped", id="mail.send")(self._send)

    def _observe(self, event: TelemetryEvent) -> None:
        if event.name == "dead_letter.resolved":
            self.resolved.set()

    async def _charge(self, order: Any) -> None:
        self.busy.set()
        await self.open.wait()
        if self.broken:
            raise ConnectionError("card terminal is offline")
        self.charged.append(order)

    async def _send(self, order: Any) -> None:
        if self.broken:
            raise ValueError(f"no address for {order['order_id']}")

    async def fail(
        self,
        event: str = "order.placed",
        *,
        tenant: str | None = "acme",
        order_id: int = 1,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Publish an event whose handler fails; return the id of its dead letter."""
        receipt = await self.bus.publish(event, {"order_id": order_id}, tenant=tenant, headers=headers)
        (result,) = receipt.deliveries.values()
        assert result.dead_letter_id is not None
        return result.dead_letter_id

    def app(self, **options: Any) -> Starlette:
        """Return an application with the admin mounted."""
        access = options.pop("access", bearer_tokens(PRINCIPALS))
        router = admin_router(self.bus, access=access, **options)
        return Starlette(routes=[Mount(MOUNTED_AT, app=router)])


class Client:
    """Speaks to an application as somebody."""

    def __init__(self, http: httpx.AsyncClient, prefix: str = MOUNTED_AT) -> None:
        self._http = http
        self._prefix = prefix

    async def __call__(
        self, method: str, path: str, *, token: str | None = "admin", **options: Any
    ) -> httpx.Response:
        """Send one request to a path of the admin."""
        headers = dict(options.pop("headers", {}))
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        return await self._http.request(method, f"{self._prefix}{path}", headers=headers, **options)


@asynccontextmanager
async def client_of(
    app: Any, *, root_path: str = "", prefix: str = MOUNTED_AT
) -> AsyncGenerator[Client, None]:
    """Give a client of ``app``, whose exceptions reach the test instead of becoming a 500."""
    transport = httpx.ASGITransport(app=app, root_path=root_path)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as http:
        yield Client(http, prefix)


def assert_problem(response: httpx.Response, status: int, *, says: str = "", kind: str | None = None) -> None:
    """Check that ``response`` is a problem document in full."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    problem = response.json()
    assert set(problem) - {"errors"} == {"type", "title", "status", "detail", "instance"}
    assert problem["status"] == status
    assert says in problem["detail"]
    if kind is not None:
        assert problem["type"] == f"urn:eventbus:problem:{kind}"
