"""The router stands in any application, at any path, and behind any ``root_path``."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import httpx
import pytest
import uvicorn
from admin_shop import MOUNTED_AT, PRINCIPALS, Shop, assert_problem, client_of
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount, Router

from eventbus_routes import admin_router, bearer_tokens

LETTERS = "/api/dead-letters"


def router_of(shop: Shop) -> Router:
    return admin_router(shop.bus, access=bearer_tokens(PRINCIPALS), replay_wait=0.0)


async def test_it_stands_in_fastapi(shop: Shop) -> None:
    app = FastAPI()
    app.mount("/ops/dead", router_of(shop))

    @app.get("/")
    async def home() -> str:
        return "shop"

    letter_id = await shop.fail()
    async with client_of(app, prefix="/ops/dead") as client:
        assert (await client("GET", LETTERS)).json()["items"][0]["id"] == letter_id
        assert_problem(await client("GET", LETTERS, token=None), 401)
        assert_problem(await client("GET", "/nothing"), 404)
        assert_problem(await client("PUT", LETTERS), 405)
        assert "dead-letters" not in (await client("GET", "/../../openapi.json")).text


@pytest.mark.parametrize(
    ("root_path", "mounted_at"),
    [("", "/admin"), ("/proxy", "/admin"), ("/a/b", ""), ("", "/{shop}/ops")],
)
async def test_links_are_as_the_client_sees_them(shop: Shop, root_path: str, mounted_at: str) -> None:
    """Location and instance start with what stands before the router, whoever put it there."""
    letter_id = await shop.fail()
    shop.open = anyio.Event()  # the replay takes longer than the router waits
    app = Starlette(routes=[Mount(mounted_at, app=router_of(shop))])
    prefix = root_path + mounted_at.replace("{shop}", "ü b")
    seen = root_path + mounted_at.replace("{shop}", "%C3%BC%20b")
    async with client_of(app, root_path=root_path, prefix=prefix) as client:
        response = await client("POST", f"{LETTERS}/{letter_id}/replay")
        assert response.status_code == 202
        assert response.headers["location"] == f"{seen}{LETTERS}/{letter_id}"
        missing = await client("GET", f"{LETTERS}/none")
        assert missing.json()["instance"] == f"{seen}{LETTERS}/none"
    shop.open.set()


async def test_it_is_an_application_of_its_own_too(shop: Shop) -> None:
    """Without a Starlette around it every refusal is still a problem document."""
    async with client_of(router_of(shop), prefix="") as client:
        assert (await client("GET", "/api/stats")).status_code == 200
        assert_problem(await client("PUT", "/api/stats"), 405)
        assert_problem(await client("GET", "/"), 404)
        assert_problem(await client("GET", "/", token=None), 401)


async def test_the_exception_handlers_of_the_host_are_left_alone(shop: Shop) -> None:
    """A problem under the mount is the router's own, a 404 beside it the host's."""

    async def host_says(request: object, error: object) -> None:
        raise AssertionError("the host was asked")

    app = Starlette(
        routes=[Mount(MOUNTED_AT, app=router_of(shop))],
        exception_handlers={401: host_says, 404: host_says, 405: host_says},  # type: ignore[dict-item]
    )
    async with client_of(app) as client:
        assert_problem(await client("GET", "/api/stats", token="wrong"), 401)
        assert_problem(await client("GET", "/api/nothing"), 404)
        assert_problem(await client("PUT", "/api/stats"), 405)


@asynccontextmanager
async def served(app: Starlette) -> AsyncIterator[str]:
    """Serve ``app`` on a free port of the loopback interface; yield its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="on"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listener])
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            server.should_exit = True


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_it_is_served_over_a_real_socket() -> None:
    """From a failure to its replay over HTTP, with the bus started and stopped by the application."""
    shop = Shop()
    app = Starlette(routes=[Mount(MOUNTED_AT, app=router_of_patient(shop))], lifespan=shop.bus.lifespan)
    async with served(app) as address, httpx.AsyncClient(base_url=f"{address}{MOUNTED_AT}") as http:
        assert_problem(await http.get(LETTERS), 401)
        http.headers["authorization"] = "Bearer operator"
        assert (await http.get("/api/stats")).json()["total"] == 0
        letter_id = await shop.fail()
        headed = await http.head(LETTERS)
        assert (headed.status_code, headed.content) == (200, b"")
        shop.broken = False
        result = (await http.post(f"{LETTERS}/{letter_id}/replay")).json()
        assert result["state"] == "resolved"
        assert_problem(await http.delete(f"{LETTERS}/{letter_id}"), 403)
        too_long = await http.post(f"{LETTERS}/{letter_id}/resolve", content=b" " * 70_000)
        assert_problem(too_long, 413)


def router_of_patient(shop: Shop) -> Router:
    return admin_router(shop.bus, access=bearer_tokens(PRINCIPALS))
