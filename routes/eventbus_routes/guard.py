"""The one check: every request passes through :class:`Guarded`, whatever its path and method.

A stranger learns nothing, not even which paths exist: 401 comes before 404 and 405. Each action
carries the permission it needs as data and cannot be made without one, so no route can forget it.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import quote

from starlette.requests import Request
from starlette.websockets import WebSocketClose

from eventbus_dlq.errors import PermissionDenied
from eventbus_routes.access import AccessPolicy, Permission, Principal
from eventbus_routes.problems import Problem, ProblemDocument, problem_of
from eventbus_routes.questions import Nothing, Question
from eventbus_routes.reading import read_body, read_parameters, refuse_body

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from eventbus import EventBus
    from eventbus_dlq import DeadLetterQueue

P = TypeVar("P", bound=Question)
B = TypeVar("B", bound=Question)


@dataclass(frozen=True, slots=True, kw_only=True)
class Admin:
    """What every action works on.

    Attributes:
        bus: the bus.
        dlq: its dead-letter queue.
        access: who comes in.
        replay_wait: seconds that a request waits for a run before it is answered with 202.
    """

    bus: EventBus
    dlq: DeadLetterQueue
    access: AccessPolicy
    replay_wait: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[P, B]):
    """A request that was let through, read and checked.

    Attributes:
        admin: what it works on.
        principal: who asks.
        path: the variables of the path.
        parameters: the query parameters.
        body: the body.
        mounted_at: the path, as the client sees it, under which the router stands.
    """

    admin: Admin
    principal: Principal
    path: Mapping[str, str]
    parameters: P
    body: B
    mounted_at: str

    @property
    def dlq(self) -> DeadLetterQueue:
        """The dead-letter queue."""
        return self.admin.dlq

    def link(self, path: str) -> str:
        """Return the reference of a path of this router, as the client sees it."""
        return f"{self.mounted_at}{path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """What one method of one path does, and who may do it.

    Attributes:
        run: carries it out.
        permission: what the principal needs.
        unscoped: True when it is only for principals of all tenants.
        parameters: the model of the query parameters.
        body: the model of the JSON body; None when it takes none.
    """

    run: Callable[[Call[Any, Any]], Awaitable[Response]]
    permission: Permission
    unscoped: bool = False
    parameters: type[Question] = Nothing
    body: type[Question] | None = None


class Guarded:
    """One path of the router, as an ASGI application; without actions it is every path not found.

    Attributes:
        actions: what each method does.
    """

    def __init__(self, admin: Admin, actions: Mapping[str, Action] | None = None) -> None:
        self._admin = admin
        self.actions = dict(actions or {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; a websocket is closed."""
        if scope["type"] != "http":
            await WebSocketClose()(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except Exception as error:
            response = ProblemDocument(problem_of(error, request), request)
        if request.method == "HEAD":
            response.body = b""
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        principal = await self._principal(request)
        action = self._action(request.method)
        check(principal, action)
        parameters = read_parameters(request, action.parameters)
        body = await _body_of(request, action)
        call: Call[Any, Any] = Call(
            admin=self._admin,
            principal=principal,
            path=request.path_params,
            parameters=parameters,
            body=body,
            mounted_at=quote(request.scope.get("root_path", "")),
        )
        return await action.run(call)

    async def _principal(self, request: Request) -> Principal:
        answer = self._admin.access(request)
        principal = await answer if inspect.isawaitable(answer) else answer
        if principal is None:
            raise Problem(
                401, "this needs a bearer token that is known here", headers={"www-authenticate": "Bearer"}
            )
        if not isinstance(principal, Principal):  # pyright: ignore[reportUnnecessaryIsInstance] -- a policy without a type checker must not open anything
            raise TypeError(f"the access policy answered with a {type(principal).__name__}, not a Principal")
        return principal

    def _action(self, method: str) -> Action:
        if not self.actions:
            raise Problem(404, "there is nothing at this path")
        action = self.actions.get("GET" if method == "HEAD" else method)
        if action is None:
            allowed = ", ".join(self._methods())
            raise Problem(
                405, f"{method[:20]} is not possible here, only {allowed}", headers={"allow": allowed}
            )
        return action

    def _methods(self) -> list[str]:
        return sorted({*self.actions, *(("HEAD",) if "GET" in self.actions else ())})


def check(principal: Principal, action: Action) -> None:
    """Let the principal pass, or say what is missing.

    Raises:
        PermissionDenied: a permission is missing, or the action is only for all tenants.
    """
    if not principal.may(action.permission):
        raise PermissionDenied(f"{principal.name} has no permission to {action.permission}")
    if action.unscoped and principal.tenants is not None:
        raise PermissionDenied(f"{principal.name} is limited to tenants; this is about all of them")


async def _body_of(request: Request, action: Action) -> Question:
    if action.body is not None:
        return await read_body(request, action.body)
    if request.method not in ("GET", "HEAD"):
        await refuse_body(request)
    return Nothing()
