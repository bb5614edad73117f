"""Retry policy and backoff: pure functions of the policy, the delivery and the attempt."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import Literal

from eventbus.classify import Category

Backoff = Literal["fixed", "linear", "exponential"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often something is tried, and how long to wait between tries.

    Attributes:
        attempts: how many tries there are. For ``retry=`` that counts the first run (1 means no
            retry); for ``redelivery=`` it counts the runs after the letter was stored.
        backoff: ``fixed`` waits ``delay``, ``linear`` ``delay × n``, ``exponential``
            ``delay × multiplier^(n-1)`` before retry number n.
        delay: seconds before the first retry.
        multiplier: growth of the exponential backoff.
        max_delay: no wait is longer than this, in seconds, jitter included.
        jitter: lengthen each wait by up to half of itself, so that what failed together does not
            return together. The amount is a pure function of delivery and attempt.

    Raises:
        ValueError: for a number that is negative, not finite, or makes no sense.
    """

    attempts: int = 1
    backoff: Backoff = "exponential"
    delay: float = 0.1
    multiplier: float = 2.0
    max_delay: float = 60.0
    jitter: bool = True

    def __post_init__(self) -> None:
        if self.attempts < 0:
            raise ValueError(f"attempts={self.attempts!r} must be 0 or more")
        if self.backoff not in ("fixed", "linear", "exponential"):
            raise ValueError(f"backoff={self.backoff!r} must be 'fixed', 'linear' or 'exponential'")
        for name in ("delay", "max_delay"):
            value: float = getattr(self, name)
            if not math.isfinite(value) or value < 0:
                raise ValueError(f"{name}={value!r} must be a finite number of seconds, 0 or more")
        if not math.isfinite(self.multiplier) or self.multiplier < 1:
            raise ValueError(f"multiplier={self.multiplier!r} must be a finite number, 1 or more")

    def wait_before(self, retry: int, *, seed: str = "") -> float:
        """Return the seconds to wait before retry number ``retry`` (1 is the first).

        ``seed`` is the delivery's id: the same delivery and retry always wait equally long.
        """
        plain = self._plain_wait(retry)
        if self.jitter:
            plain += plain / 2 * _fraction(f"{seed}:{retry}")
        return min(plain, self.max_delay)

    def _plain_wait(self, retry: int) -> float:
        if self.backoff == "fixed":
            return self.delay
        if self.backoff == "linear":
            return self.delay * retry
        try:
            return self.delay * self.multiplier ** (retry - 1)
        except OverflowError:
            return self.max_delay


def _fraction(seed: str) -> float:
    """Map a text to a number in [0, 1): the same text always to the same number."""
    return zlib.crc32(seed.encode("utf-8", "replace")) / 2**32


def should_retry(policy: RetryPolicy, *, attempts_made: int, category: Category) -> bool:
    """Tell whether a failure is worth another attempt: budget left, and not a permanent error."""
    return attempts_made < policy.attempts and category is not Category.PERMANENT
