"""Closed by default: who comes in, what they may do, and what strangers learn (nothing)."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator

import pytest
from admin_shop import MOUNTED_AT, PRINCIPALS, Client, Shop, assert_problem, client_of
from starlette.requests import HTTPConnection
from starlette.routing import Route

from eventbus import EventBus, NoDeadLetterQueue
from eventbus_routes import PERMISSIONS_OF, Permission, Principal, admin_router, bearer_tokens
from eventbus_routes.guard import Action, Guarded

ANN = Principal("ann", role="operator")


def every_action(shop: Shop) -> Iterator[tuple[str, str, Action]]:
    """Yield method, path and action of everything that the router really serves."""
    router = admin_router(shop.bus, access=bearer_tokens(PRINCIPALS))
    for route in router.routes:
        assert isinstance(route, Route)
        assert isinstance(route.endpoint, Guarded), f"{route.path} has no guard"
        assert route.methods is None, f"{route.path} refuses methods before its guard"
        for method, action in route.endpoint.actions.items():
            yield method, route.path.format(id="any"), action


async def test_every_route_refuses_strangers_and_those_with_too_few_rights(shop: Shop, admin: Client) -> None:
    """No token, a wrong one, a known one without the right, and one with every right but that."""
    seen = 0
    for method, path, action in every_action(shop):
        for verb in {method, "HEAD"} if method == "GET" else {method}:
            for token in (None, "wrong", "", "adminx"):
                response = await admin(verb, path, token=token)
                assert response.status_code == 401, (verb, path, token)
                assert response.headers["www-authenticate"] == "Bearer"
            assert (await admin(verb, path, token="powerless")).status_code == 403, (verb, path)
        for permission in Permission:
            response = await admin(method, path, token=f"only-{permission}")
            if permission is action.permission:
                assert response.status_code not in (401, 403, 405, 500), (method, path, permission)
            else:
                assert_problem(response, 403, says=str(action.permission), kind="permission-denied")
        seen += 1
    assert seen == 9


@pytest.mark.parametrize(
    "path", ["", "/", "/api", "/api/nothing", "/api/dead-letters/", "/api/stats/x", "/openapi.json"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "OPTIONS"])
async def test_strangers_cannot_tell_which_paths_exist(admin: Client, method: str, path: str) -> None:
    known = await admin(method, "/api/dead-letters", token=None)
    unknown = await admin(method, path or "/", token=None)
    assert_problem(unknown, 401)
    assert {**known.json(), "instance": ""} == {**unknown.json(), "instance": ""}
    assert known.headers == {**unknown.headers, "content-length": known.headers["content-length"]}
    assert_problem(await admin(method, path or "/"), 404)


async def test_a_method_that_a_path_has_not_is_refused_with_those_it_has(admin: Client) -> None:
    assert_problem(await admin("PUT", "/api/dead-letters", token="wrong"), 401)
    response = await admin("PUT", "/api/dead-letters/x")
    assert_problem(response, 405, says="PUT")
    assert response.headers["allow"] == "DELETE, GET, HEAD"
    assert (await admin("HEAD", "/api/operations")).headers["allow"] == "POST"


async def test_the_routes_are_guarded_even_when_mounted_without_the_router(shop: Shop) -> None:
    """Somebody may hand over ``router.routes`` instead of the router: still closed."""
    from starlette.applications import Starlette

    app = Starlette(routes=admin_router(shop.bus, access=bearer_tokens(PRINCIPALS)).routes)
    async with client_of(app, prefix="") as client:
        assert_problem(await client("GET", "/api/stats", token=None), 401)
        assert_problem(await client("PUT", "/api/stats", token=None), 401)
        assert (await client("GET", "/api/stats")).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        "admin",
        "Basic admin",
        "Bearer",
        "Bearer ",
        "Beareradmin",
        "Bearer admin admin",
        "Bearer sha256:" + hashlib.sha256(b"admin").hexdigest(),
        "Bearer ädmin".encode("latin-1"),
    ],
)
async def test_what_is_not_a_known_bearer_token_is_refused(admin: Client, header: str | bytes) -> None:
    response = await admin("GET", "/api/stats", token=None, headers={"authorization": header})
    assert_problem(response, 401)
    assert "admin" not in response.json()["detail"]


async def test_the_scheme_is_read_in_any_case(admin: Client) -> None:
    response = await admin("GET", "/api/stats", token=None, headers={"authorization": "bEARER   admin"})
    assert response.status_code == 200


def connection(*authorization: bytes) -> HTTPConnection:
    return HTTPConnection({"type": "http", "headers": [(b"authorization", value) for value in authorization]})


def test_two_authorization_headers_are_none() -> None:
    access = bearer_tokens({"one": ANN})
    assert access(connection(b"Bearer one")) is ANN
    assert access(connection(b"Bearer one", b"Bearer one")) is None


def test_a_token_may_be_given_by_its_hash_and_several_are_valid_at_once() -> None:
    """That is how one rotates: old and new side by side, then without the old one."""
    hashed = "sha256:" + hashlib.sha256(b"new").hexdigest().upper()
    access = bearer_tokens({"old": ANN, hashed: ANN})
    assert access(connection(b"Bearer old")) is access(connection(b"Bearer new")) is ANN
    assert access(connection(b"Bearer " + hashed.encode())) is None


@pytest.mark.parametrize(
    ("token", "says"),
    [
        ("", "is empty"),
        ("sha256:" + hashlib.sha256(b"").hexdigest(), "is empty"),
        ("top secret", "visible ASCII"),
        ("geheimnisß", "visible ASCII"),
        ("sha256:c0ffee", "64 hexadecimal digits"),
        ("sha256:" + "zz" * 32, "64 hexadecimal digits"),
        ("sha256:", "64 hexadecimal digits"),
    ],
)
def test_a_malformed_token_is_refused_without_being_shown(token: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as refusal:
        bearer_tokens({"good": ANN, token: ANN})
    text = str(refusal.value)
    assert "number 2" in text
    assert "'ann'" in text
    assert not token.removeprefix("sha256:") or token.removeprefix("sha256:") not in text


def test_a_token_stands_for_one_principal_and_nothing_else() -> None:
    hashed = "sha256:" + hashlib.sha256(b"secret").hexdigest()
    with pytest.raises(ValueError, match="the same as one before"):
        bearer_tokens({"secret": ANN, hashed: ANN})
    with pytest.raises(TypeError, match="number 1 stands for a str, not a Principal"):
        bearer_tokens({"secret": "ann"})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="no token"):
        bearer_tokens({})


def test_a_policy_does_not_show_its_tokens() -> None:
    access = bearer_tokens({"secret": ANN})
    assert "secret" not in repr(access)
    assert "ann" in repr(access)


def test_roles_are_sets_of_permissions() -> None:
    assert {str(permission) for permission in PERMISSIONS_OF["viewer"]} == {"read"}
    assert {str(permission) for permission in PERMISSIONS_OF["operator"]} == {
        "read",
        "reveal",
        "replay",
        "triage",
        "control",
    }
    assert PERMISSIONS_OF["admin"] == frozenset(Permission)
    custom = Principal("sol", role="viewer", permissions=[Permission.DELETE, "audit"])
    assert custom.permissions == {Permission.READ, Permission.DELETE, Permission.AUDIT}
    assert Principal("sol").permissions == frozenset()


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"name": ""}, ValueError, "needs a name"),
        ({"name": "a", "role": "owner"}, ValueError, "viewer, operator, admin"),
        ({"name": "a", "permissions": "read"}, TypeError, "is a text"),
        ({"name": "a", "permissions": {"fly"}}, ValueError, "'fly'.*read, reveal"),
        ({"name": "a", "tenants": "acme"}, TypeError, "is a text"),
        ({"name": "a", "tenants": {None}}, ValueError, "tenants=None means all"),
        ({"name": "a", "tenants": {""}}, ValueError, "not empty"),
    ],
)
def test_a_principal_that_makes_no_sense_is_refused(
    arguments: dict[str, object], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        Principal(**arguments)  # type: ignore[arg-type]


def test_there_is_no_admin_without_an_access_policy() -> None:
    shop = Shop()
    with pytest.raises(TypeError, match="access"):
        admin_router(shop.bus)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="access policy"):
        admin_router(shop.bus, access=None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        admin_router(shop.bus, bearer_tokens({"x": ANN}))  # type: ignore[misc]


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
def test_a_wait_that_makes_no_sense_is_refused(seconds: float) -> None:
    shop = Shop()
    with pytest.raises(ValueError, match="replay_wait"):
        admin_router(shop.bus, access=bearer_tokens({"x": ANN}), replay_wait=seconds)


def test_a_bus_without_dead_letters_has_no_admin() -> None:
    with pytest.raises(NoDeadLetterQueue):
        admin_router(EventBus(), access=bearer_tokens({"x": ANN}))


async def test_a_policy_may_be_async_and_look_at_anything_of_the_connection(shop: Shop) -> None:
    async def by_header(connection: HTTPConnection) -> Principal | None:
        return ANN if connection.headers.get("x-user") == "ann" else None

    async with client_of(shop.app(access=by_header)) as client:
        assert (await client("GET", "/api/stats", token=None, headers={"x-user": "ann"})).status_code == 200
        assert_problem(await client("GET", "/api/stats", headers={"x-user": "bob"}), 401)


async def test_a_broken_policy_lets_nobody_in(shop: Shop) -> None:
    def raises(connection: HTTPConnection) -> Principal | None:
        raise RuntimeError("directory is down")

    for policy in (raises, lambda connection: True):
        async with client_of(shop.app(access=policy)) as client:
            response = await client("GET", "/api/stats")
            assert_problem(response, 500)
            assert "directory" not in response.text


async def test_cookies_open_nothing(admin: Client) -> None:
    response = await admin("GET", "/api/stats", token=None, headers={"cookie": "token=admin; session=admin"})
    assert_problem(response, 401)


async def test_tokens_are_not_logged_even_when_everything_fails(
    shop: Shop, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def raises(connection: HTTPConnection) -> Principal | None:
        raise RuntimeError("directory is down")

    with caplog.at_level(logging.DEBUG):
        async with client_of(shop.app(access=raises)) as client:
            await client("GET", "/api/stats", token="very-secret-token")
    output = "".join(capsys.readouterr()) + caplog.text
    assert "directory is down" in output
    assert "very-secret-token" not in output


async def test_a_websocket_is_closed_without_a_word(shop: Shop) -> None:
    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": f"{MOUNTED_AT}/api/stats", "headers": [], "query_string": b""}
    await shop.app()(scope, receive, send)  # type: ignore[arg-type]
    assert [message["type"] for message in sent] == ["websocket.close"]
