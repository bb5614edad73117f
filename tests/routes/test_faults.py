"""When what stands behind the router fails: a problem that says so, and nothing of the inside."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest
from admin_shop import Client, Shop, assert_problem, client_of
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from eventbus import BusClosed, Paused
from eventbus_dlq import LeaseLost, StoreUnavailable
from eventbus_routes import Principal
from eventbus_routes.detached import run_detached

LETTERS = "/api/dead-letters"
ROUTES = [
    ("GET", LETTERS),
    ("GET", f"{LETTERS}/x"),
    ("DELETE", f"{LETTERS}/x"),
    ("POST", f"{LETTERS}/x/replay"),
    ("POST", f"{LETTERS}/x/resolve"),
    ("GET", "/api/stats"),
]


def break_store(shop: Shop, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    async def broken(*arguments: object, **options: object) -> None:
        raise error

    for name in ("find", "get", "delete", "claim", "change", "stats"):
        monkeypatch.setattr(shop.store, name, broken)


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize(("retryable", "wait"), [(True, "5"), (False, "60")])
async def test_a_store_that_is_away_is_a_503_with_the_time_to_wait(
    shop: Shop,
    admin: Client,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    method: str,
    path: str,
    retryable: bool,
    wait: str,
) -> None:
    """The log knows which file it is; the client does not need to."""
    error = StoreUnavailable("/srv/shop/failures.db is locked", retryable=retryable)
    break_store(shop, monkeypatch, error)
    response = await admin(method, path)
    assert_problem(response, 503, says=f"try again in {wait} seconds", kind="store-unavailable")
    assert response.headers["retry-after"] == wait
    assert "/srv" not in response.text
    assert "/srv/shop/failures.db is locked" in "".join(capsys.readouterr())


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_an_unexpected_error_is_a_500_without_the_inside(
    shop: Shop,
    admin: Client,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    method: str,
    path: str,
) -> None:
    break_store(shop, monkeypatch, ZeroDivisionError("inside"))
    response = await admin(method, path)
    assert_problem(response, 500)
    assert "inside" not in response.text
    log = "".join(capsys.readouterr())
    assert "ZeroDivisionError: inside" in log
    assert "Bearer" not in log


@pytest.mark.parametrize(
    ("error", "kind"),
    [(Paused("billing.charge is paused by ann: audit"), "paused"), (LeaseLost("taken over"), "lease-lost")],
)
async def test_a_refusal_of_the_bus_is_a_conflict_in_its_own_words(
    shop: Shop, admin: Client, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: str
) -> None:
    break_store(shop, monkeypatch, error)
    assert_problem(await admin("POST", f"{LETTERS}/x/replay"), 409, says=str(error), kind=kind)


async def test_a_bus_that_is_stopped_replays_nothing() -> None:
    shop = Shop()
    async with shop.bus:
        letter_id = await shop.fail()
    async with client_of(shop.app()) as admin:
        response = await admin("POST", f"{LETTERS}/{letter_id}/replay")
        assert_problem(response, 503, says="not running", kind="bus-closed")
        assert response.headers["retry-after"] == "5"


@pytest.mark.parametrize("status", [429, 499])
async def test_a_refusal_of_the_host_keeps_its_status(shop: Shop, status: int) -> None:
    def refuses(connection: HTTPConnection) -> Principal | None:
        raise HTTPException(status, "slow down", {"retry-after": "3"})

    async with client_of(shop.app(access=refuses)) as client:
        response = await client("GET", "/api/stats")
        assert_problem(response, status, says="slow down")
        assert response.headers["retry-after"] == "3"


async def test_detached_work_that_fails_when_nobody_waits_is_logged(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    go_on, ended = anyio.Event(), anyio.Event()

    async def work() -> None:
        await go_on.wait()
        ended.set()
        raise RuntimeError("nobody heard it")

    assert await run_detached(shop.bus, work, wait=0.0) is None
    go_on.set()
    await ended.wait()
    await shop.bus.stop()
    assert "nobody heard it" in "".join(capsys.readouterr())


async def test_detached_work_that_the_bus_cancels_is_an_error_to_who_waits() -> None:
    """A bus that has to cut work short must not look like a success to the request."""

    async def work() -> str:
        bus.tasks.cancel_scope.cancel()
        await anyio.sleep_forever()
        return "never"

    class StoppingBus:
        def spawn(self, run: Callable[[], Awaitable[None]]) -> None:
            self.tasks.start_soon(run)

    bus = StoppingBus()

    async def request() -> None:
        with pytest.raises(BusClosed, match="before the work had ended"):
            await run_detached(bus, work, wait=60.0)  # type: ignore[arg-type]

    async with anyio.create_task_group() as requests, anyio.create_task_group() as bus.tasks:
        requests.start_soon(request)
        await anyio.sleep_forever()
