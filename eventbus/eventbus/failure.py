"""A failure as it is kept: never a live exception, always bounded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    import anyio

    from eventbus.classify import Category, Kind, Route
    from eventbus.envelope import Envelope

Relation = Literal["cause", "context", "member"]


class CauseRecord(NamedTuple):
    """One more exception behind an error.

    Attributes:
        relation: ``cause`` (raised from), ``context`` (while handling), ``member`` (of a group).
        type: qualified name of the class.
        message: its text, bounded.
        traceback: its frames, bounded.
    """

    relation: Relation
    type: str
    message: str
    traceback: str


class ErrorRecord(NamedTuple):
    """What is kept of an exception.

    Attributes:
        type: qualified name of the class, such as ``httpx.ReadTimeout``.
        message: its text, at most 8,192 characters, without the inputs that validation and SQL
            errors carry in theirs.
        traceback: formatted frames, outermost first, at most 32,768 characters.
        code: SQLSTATE, HTTP status or errno as text, when the exception carries one.
        kind: what went wrong.
        category: whether trying again can help.
        route: what to do about it.
        causes: the chain behind it: causes, contexts, members of a group; at most 16.
    """

    type: str
    message: str
    traceback: str
    code: str | None
    kind: Kind
    category: Category
    route: Route
    causes: tuple[CauseRecord, ...] = ()


class AttemptRecord(NamedTuple):
    """One run of a handler that failed.

    Attributes:
        number: counts from 1 within the delivery.
        started_ns: when it began, nanoseconds since the epoch.
        ended_ns: when it ended, nanoseconds since the epoch.
        error: why it failed.
    """

    number: int
    started_ns: int
    ended_ns: int
    error: ErrorRecord


FailureReason = Literal["failed", "interrupted"]


class Failure(NamedTuple):
    """A delivery that did not succeed, as the bus hands it to the dead-letter queue.

    Attributes:
        envelope: the event.
        payload: its encoded payload (JSON), or None when it could not be encoded any more.
        handler_id: whose delivery it was.
        reason: ``failed``, or ``interrupted`` when the publisher was cancelled or the bus stopped.
        error: the last error.
        attempts: every run that failed, oldest first; empty when it was interrupted before one did.
        priority: 1 (high) to 10 (low).
        tags: the subscription's tags and the event's.
        fingerprint: groups failures of one origin.
        annotations: what the handler noted.
        retry_after: seconds the failing side asked us to wait, or None.
        thread_done: set when the handler's abandoned thread has returned; None when none runs.
        ordering_key: deliveries of the handler with this key run in order; None for no order.
    """

    envelope: Envelope
    payload: bytes | None
    handler_id: str
    reason: FailureReason
    error: ErrorRecord
    attempts: tuple[AttemptRecord, ...]
    priority: int
    tags: tuple[str, ...]
    fingerprint: str
    annotations: Mapping[str, Any]
    retry_after: float | None = None
    thread_done: anyio.Event | None = None
    ordering_key: str | None = None
