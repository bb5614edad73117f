"""Errors as problem documents (RFC 9457): which status, and what a client may learn of it."""

from __future__ import annotations

import traceback
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import structlog
from starlette.exceptions import HTTPException

from eventbus.errors import BusClosed, Paused
from eventbus_dlq.errors import (
    DeadLetterNotFound,
    InvalidCursor,
    InvalidTransition,
    LeaseHeld,
    LeaseLost,
    PayloadRedacted,
    PermissionDenied,
    StoreUnavailable,
)
from eventbus_routes.documents import Document

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.requests import Request

_log = structlog.get_logger("eventbus.admin")

_RETRY_SOON = 5
_RETRY_LATER = 60


class Problem(Exception):
    """A refusal that is answered with a problem document.

    Attributes:
        status: the HTTP status.
        detail: what is wrong with this request, and the way out.
        kind: a slug that tells problems of one status apart; None when the status says it all.
        errors: for a malformed request, each fault: where it stands, its name, what is wrong.
        headers: further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        kind: str | None = None,
        errors: Sequence[Mapping[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.kind = kind
        self.errors = tuple(errors)
        self.headers = dict(headers or {})


_REFUSALS: Mapping[type[Exception], tuple[int, str]] = {
    DeadLetterNotFound: (404, "dead-letter-not-found"),
    InvalidCursor: (400, "invalid-cursor"),
    InvalidTransition: (409, "invalid-transition"),
    LeaseHeld: (409, "lease-held"),
    LeaseLost: (409, "lease-lost"),
    Paused: (409, "paused"),
    PayloadRedacted: (409, "payload-redacted"),
    PermissionDenied: (403, "permission-denied"),
}
"""Errors whose text is meant for whoever asked."""


def problem_of(error: Exception, request: Request) -> Problem:
    """Return how ``error`` is told to the client; what is nobody's doing out there goes to the log."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        return Problem(error.status_code, error.detail, headers=error.headers)
    for kind_of_error, (status, kind) in _REFUSALS.items():
        if isinstance(error, kind_of_error):
            return Problem(status, str(error), kind=kind)
    where = {"method": request.method, "path": request.url.path}
    if isinstance(error, BusClosed):
        _log.warning("admin.bus_closed", **where)
        return _unavailable("the event bus is not running", "bus-closed", _RETRY_SOON)
    if isinstance(error, StoreUnavailable):
        # Its text may name files and servers, which the log may know and a tenant may not.
        _log.error("admin.store_unavailable", error=str(error), **where)
        wait = _RETRY_SOON if error.retryable else _RETRY_LATER
        return _unavailable("the dead-letter store is not available", "store-unavailable", wait)
    # As text: a renderer of exc_info may print the frames' variables, and with them the token.
    _log.error("admin.failed", exception="".join(traceback.format_exception(error)), **where)
    return Problem(500, "the request failed unexpectedly; the application's log says why")


def _unavailable(detail: str, kind: str, wait: int) -> Problem:
    return Problem(
        503, f"{detail}; try again in {wait} seconds", kind=kind, headers={"retry-after": str(wait)}
    )


class ProblemDocument(Document):
    """A problem as an answer."""

    media_type = "application/problem+json"

    def __init__(self, problem: Problem, request: Request) -> None:
        """Render ``problem``; ``instance`` is the path that was asked for."""
        content: dict[str, Any] = {
            "type": "about:blank" if problem.kind is None else f"urn:eventbus:problem:{problem.kind}",
            "title": _title(problem.status),
            "status": problem.status,
            "detail": problem.detail,
            "instance": quote(request.scope["path"], errors="replace"),
        }
        if problem.errors:
            content["errors"] = [dict(error) for error in problem.errors]
        super().__init__(content, problem.status, problem.headers)


def _title(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"Status {status}"  # a host may raise one that no standard names
