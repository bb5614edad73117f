"""Reading a request: query parameters and JSON bodies, bounded, checked and named when wrong."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from eventbus_routes.problems import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

    from eventbus_routes.questions import Question

MAX_BODY = 65_536
"""The longest request body, in bytes."""
MAX_PARAMETERS = 200
"""How many query parameters a request may have."""

Q = TypeVar("Q", bound="Question")


def read_parameters(request: Request, model: type[Q]) -> Q:
    """Return the query parameters as ``model``; a repeated one is a list of its values.

    Raises:
        Problem: 400 with every fault, for unknown parameters and for values that are wrong.
    """
    pairs = request.query_params.multi_items()
    if len(pairs) > MAX_PARAMETERS:
        raise Problem(400, f"{len(pairs)} query parameters are given, at most {MAX_PARAMETERS} are read")
    values: dict[str, str | list[str]] = {}
    for name, value in pairs:
        before = values.get(name)
        if before is None:
            values[name] = value
        elif isinstance(before, list):
            before.append(value)
        else:
            values[name] = [before, value]
    return _checked(model, values, status=400, where="query")


async def read_body(request: Request, model: type[Q]) -> Q:
    """Return the JSON body as ``model``; an empty body is an empty object.

    Raises:
        Problem: 413 when it is longer than :data:`MAX_BODY`, 415 when it is not called JSON, 400 when
            it is not JSON, 422 with every fault when it does not fit the model.
    """
    content = await _bounded_body(request)
    if not content:
        return _checked(model, {}, status=422, where="body")
    _check_content_type(request)
    return _checked(model, _parse(content), status=422, where="body")


async def refuse_body(request: Request) -> None:
    """Raise Problem (400) when the request has a body although its route takes none."""
    if await _bounded_body(request):
        raise Problem(400, "this request takes no body")


async def _bounded_body(request: Request) -> bytes:
    too_long = Problem(413, f"the body is too long; at most {MAX_BODY} bytes are read")
    # Refusing by the announced length spares reading what would be thrown away.
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and len(announced.lstrip("0")) > len(str(MAX_BODY)):
        raise too_long
    content = bytearray()
    try:
        async with aclosing(request.stream()) as chunks:
            async for chunk in chunks:
                content += chunk
                if len(content) > MAX_BODY:
                    raise too_long
    except ClientDisconnect:
        raise Problem(400, "the client went away before its request was complete") from None
    return bytes(content)


def _check_content_type(request: Request) -> None:
    given = request.headers.get("content-type", "")
    media_type, _, parameters = given.partition(";")
    if media_type.strip().lower() != "application/json":
        raise Problem(415, f"the body must be application/json, not {given[:80]!r}")
    charset = parameters.partition("charset=")[2].strip().strip('"').lower()
    if charset not in ("", "utf-8"):
        raise Problem(415, f"the body must be in UTF-8, not in {charset[:80]!r}")
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise Problem(415, f"the body must not be encoded as {encoding[:80]!r}")


def _parse(content: bytes) -> Any:
    try:
        return json.loads(
            content.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_without_duplicates
        )
    except RecursionError:
        raise Problem(400, "the body is nested too deeply") from None
    except ValueError as error:
        raise Problem(400, f"the body is not JSON: {error}") from None


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("an object has a name twice")
    return values


def _checked(model: type[Q], values: Any, *, status: int, where: str) -> Q:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = [_fault(fault["loc"], fault["type"], fault["msg"], where) for fault in error.errors()]
    summary = "; ".join(f"{fault['name']}: {fault['detail']}" for fault in faults[:3])
    subject = "query parameters" if where == "query" else "body"
    raise Problem(
        status, f"the {subject} cannot be accepted: {summary}", kind="invalid-request", errors=faults
    )


def _fault(location: Sequence[int | str], kind: str, message: str, where: str) -> dict[str, str]:
    name = ".".join(str(part)[:80] for part in location) or where
    if kind == "extra_forbidden":
        message = "is not known here"
    return {"where": where, "name": name, "detail": message.removeprefix("Value error, ")}
