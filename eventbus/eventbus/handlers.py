"""How a handler is called: decided once, when it is subscribed."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, get_args

from eventbus.envelope import Envelope

Handler: TypeAlias = Callable[..., Any]
"""Takes the event, and the envelope if it wants it; an async function, or a plain one for a thread."""


@dataclass(frozen=True, slots=True)
class Binding:
    """What was found out about a handler.

    Attributes:
        handler: the callable itself.
        wants_envelope: whether it takes the envelope as its second argument.
        is_async: whether calling it gives something to await; else it runs in a worker thread.
    """

    handler: Handler
    wants_envelope: bool
    is_async: bool

    def call(self, payload: Any, envelope: Envelope) -> Any:
        """Call the handler the way it wants to be called."""
        return self.handler(payload, envelope) if self.wants_envelope else self.handler(payload)


def bind(handler: Handler) -> Binding:
    """Find out how ``handler`` is to be called.

    Raises:
        TypeError: it is not callable, or takes neither one nor two positional arguments.
    """
    if not callable(handler):
        raise TypeError(f"handler {handler!r} is not callable")
    return Binding(handler, _wants_envelope(handler), _is_async(handler))


def _wants_envelope(handler: Handler) -> bool:
    try:
        parameters = list(inspect.signature(handler).parameters.values())
    except ValueError:  # a builtin that does not tell its signature
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    starred = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    required = [p for p in positional if p.default is p.empty]
    needs_keywords = any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in parameters)
    if needs_keywords or len(required) > 2 or not (positional or starred):
        raise TypeError(
            f"handler {describe(handler)} must take (event) or (event, envelope), its signature is "
            f"{inspect.signature(handler)}"
        )
    return len(required) == 2 or (len(positional) >= 2 and _is_envelope(positional[1]))


def _is_envelope(parameter: inspect.Parameter) -> bool:
    annotation = parameter.annotation
    if isinstance(annotation, str):  # written in quotes, or under ``from __future__ import annotations``
        typed = _ENVELOPE_NAME.search(annotation) is not None
    else:
        typed = annotation is Envelope or Envelope in get_args(annotation)
    return parameter.name == "envelope" or typed


_ENVELOPE_NAME = re.compile(r"\bEnvelope\b")


def _is_async(handler: Handler) -> bool:
    while isinstance(handler, functools.partial):
        handler = handler.func
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
        getattr(handler, "__call__", None)  # noqa: B004 - whether it is async, not whether it exists
    )


def default_id(handler: Handler) -> str | None:
    """Return ``module.qualname``, or None for what has no name of its own across restarts."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    named: Any = handler if hasattr(handler, "__qualname__") else type(handler)
    return f"{named.__module__}.{named.__qualname__}"


def is_stable(handler_id: str) -> bool:
    """Tell whether a default id means the same handler after a restart: no lambda, no local function."""
    return "<lambda>" not in handler_id and "<locals>" not in handler_id


def describe(handler: Handler) -> str:
    """Return the handler's name and where it stands, for an error message."""
    function = inspect.unwrap(handler)
    while isinstance(function, functools.partial):
        function = function.func
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None)
    name = default_id(handler) or repr(handler)
    if code is None:
        return name
    return f"{name} ({code.co_filename.rsplit('/', 1)[-1]}:{code.co_firstlineno})"


async def finish(result: Awaitable[Any] | Any) -> None:
    """Await what a plain function returned, if it is to be awaited."""
    if inspect.isawaitable(result):
        await result
