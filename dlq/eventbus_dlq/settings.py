"""The settings of a dead-letter queue, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeGuard

from eventbus.retry import check_policy

if TYPE_CHECKING:
    from eventbus.retry import RetryPolicy


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """What a ``DeadLetterQueue`` was made with; each is explained there.

    Raises:
        ValueError: for a setting that makes no sense.
    """

    worker: bool
    lease: float
    max_crashes: int
    redelivery: RetryPolicy
    poll: float
    max_payload: int
    capture_timeout: float
    stall_limit: float
    keep_succeeded: bool
    concurrency: int

    def __post_init__(self) -> None:
        for name in ("lease", "poll", "stall_limit"):
            value: object = getattr(self, name)
            if not (_is_number(value) and value > 0):
                raise ValueError(f"{name}={value!r} must be a number of seconds above 0")
        timeout: object = self.capture_timeout
        if not (_is_number(timeout) and timeout >= 0):
            raise ValueError(f"capture_timeout={timeout!r} must be a number of seconds, 0 or more")
        check_policy("redelivery", self.redelivery)
        for name, unit in (
            ("max_crashes", "crashes"),
            ("concurrency", "deliveries"),
            ("max_payload", "bytes"),
        ):
            count: object = getattr(self, name)
            if type(count) is not int or count < 1:
                raise ValueError(f"{name}={count!r} must be a number of {unit}, 1 or more")
        for name in ("worker", "keep_succeeded"):
            flag: object = getattr(self, name)
            if type(flag) is not bool:
                raise ValueError(f"{name}={flag!r} must be True or False")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
