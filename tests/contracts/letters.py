"""Dead letters as they really look, for every test that needs one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from eventbus.classify import CATEGORY_OF, ROUTE_OF, Kind
from eventbus.failure import CauseRecord, ErrorRecord
from eventbus.ids import new_id
from eventbus.retry import RetryPolicy
from eventbus_dlq.letter import Attempt, DeadLetter, DeadLetterState, Reason
from eventbus_dlq.store import Process

NOW = datetime(2026, 3, 14, 9, 26, 53, 589793, tzinfo=UTC)
"""The moment at which the tests play."""


def after(seconds: float) -> datetime:
    """Return the moment ``seconds`` after :data:`NOW`."""
    return NOW + timedelta(seconds=seconds)


def build_error(kind: Kind = Kind.TIMEOUT, **overrides: Any) -> ErrorRecord:
    """Return the record of an HTTP call that took too long."""
    values: dict[str, Any] = {
        "type": "httpx.ReadTimeout",
        "message": "POST https://pay.example/charges: no answer within 5 s",
        "traceback": '  File "shop/billing.py", line 41, in charge\n    await client.post(url, json=order)\n',
        "code": None,
        "kind": kind,
        "category": CATEGORY_OF[kind],
        "route": ROUTE_OF[kind],
        "causes": (
            CauseRecord("cause", "builtins.TimeoutError", "timed out", '  File "ssl.py", line 1132\n'),
        ),
    }
    return ErrorRecord(**{**values, **overrides})


def build_attempt(number: int = 1, **overrides: Any) -> Attempt:
    """Return a failed run of five seconds, a minute after the one before."""
    began = after(60 * (number - 1))
    values: dict[str, Any] = {
        "number": number,
        "started_at": began,
        "ended_at": began + timedelta(seconds=5),
        "error": build_error(),
    }
    return Attempt(**{**values, **overrides})


def build_letter(**overrides: Any) -> DeadLetter:
    """Return a letter that failed once and is due in a minute, of an event of its own."""
    event_id = overrides.get("event_id") or new_id()
    values: dict[str, Any] = {
        "id": new_id(),
        "event_id": event_id,
        "event_name": "OrderPlaced",
        "event_version": 1,
        "payload_json": b'{"order_id":1017,"total":"249.90"}',
        "occurred_at": after(-5),
        "handler_id": "billing.charge",
        "tenant": "acme",
        "user_id": "u-381",
        "correlation_id": event_id,
        "causation_id": None,
        "source": "shop.checkout",
        "ordering_key": None,
        "priority": 5,
        "headers": {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
        "tags": ("billing", "eu"),
        "annotations": {"charge_id": "ch_3QK"},
        "redelivery": RetryPolicy(attempts=5, delay=60, multiplier=5, max_delay=3600),
        "state": DeadLetterState.PENDING,
        "reason": None,
        "attempts": 1,
        "retries": 0,
        "crashes": 0,
        "retry_at": after(60),
        "created_at": NOW,
        "updated_at": NOW,
        "last_attempt_at": NOW,
        "fingerprint": "b41d0f6c9a7e2853",
        "error": build_error(),
        "history": (build_attempt(),),
    }
    return DeadLetter(**{**values, **overrides})


_LOOKS: dict[DeadLetterState, dict[str, Any]] = {
    DeadLetterState.ACCEPTED: {
        "attempts": 0, "history": (), "retry_at": None, "last_attempt_at": None, "error": None,
        "fingerprint": "", "annotations": {},
    },
    DeadLetterState.RUNNING: {
        "token": 1, "lease_owner": "worker-1", "lease_until": after(30), "retry_at": None,
    },
    DeadLetterState.PENDING: {},
    DeadLetterState.EXHAUSTED: {"reason": Reason.ATTEMPTS, "retry_at": None},
    DeadLetterState.PARKED: {"reason": Reason.SEQUENCE, "retry_at": None},
    DeadLetterState.RESOLVED: {"retry_at": None},
    DeadLetterState.DISCARDED: {"retry_at": None, "acted_by": "ann", "note": "test order"},
    DeadLetterState.ARCHIVED: {"retry_at": None},
}  # fmt: skip


def build_letter_in(state: DeadLetterState, **overrides: Any) -> DeadLetter:
    """Return a letter that looks as one does in ``state``."""
    return build_letter(state=state, **{**_LOOKS[state], **overrides})


def build_delivery(ordering_key: str | None = None, **overrides: Any) -> DeadLetter:
    """Return a delivery that was accepted and has not run, of an event of its own."""
    return build_letter_in(DeadLetterState.ACCEPTED, ordering_key=ordering_key, **overrides)


def build_process(**overrides: Any) -> Process:
    """Return a process that has started just now."""
    values: dict[str, Any] = {
        "id": new_id(),
        "name": "shop",
        "host": "web-3",
        "pid": 4711,
        "started_at": NOW,
        "beat_at": NOW,
        "handlers": ("billing.charge", "stock.reserve"),
    }
    return Process(**{**values, **overrides})
