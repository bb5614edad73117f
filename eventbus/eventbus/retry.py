"""Retry policy and backoff: pure functions of the policy, the delivery and the attempt."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal, TypeGuard

from eventbus.classify import Category

Backoff = Literal["fixed", "linear", "exponential"]

MAX_ATTEMPTS = 1_000_000
"""No policy asks for more tries."""

MAX_WAIT = 10 * 365 * 86_400.0
"""No policy waits longer, in seconds: ten years."""

_MAX_MULTIPLIER = 1_000_000.0


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
        ValueError: for what is no number, or is negative, not finite, or absurd: more than a million tries,
            a wait of more than ten years.
    """

    attempts: int = 1
    backoff: Backoff = "exponential"
    delay: float = 0.1
    multiplier: float = 2.0
    max_delay: float = 60.0
    jitter: bool = True

    def __post_init__(self) -> None:
        attempts: object = self.attempts
        if type(attempts) is not int or not 0 <= attempts <= MAX_ATTEMPTS:
            raise ValueError(f"attempts={attempts!r} must be an int from 0 to {MAX_ATTEMPTS:,}")
        if self.backoff not in ("fixed", "linear", "exponential"):
            raise ValueError(f"backoff={self.backoff!r} must be 'fixed', 'linear' or 'exponential'")
        for name in ("delay", "max_delay"):
            value: object = getattr(self, name)
            if not (_is_number(value) and 0 <= value <= MAX_WAIT):
                raise ValueError(f"{name}={value!r} must be a number of seconds, from 0 to ten years")
        multiplier: object = self.multiplier
        if not (_is_number(multiplier) and 1 <= multiplier <= _MAX_MULTIPLIER):
            raise ValueError(f"multiplier={multiplier!r} must be a number from 1 to {_MAX_MULTIPLIER:,.0f}")
        jitter: object = self.jitter
        if type(jitter) is not bool:
            raise ValueError(f"jitter={jitter!r} must be True or False")

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


_GOVERNS = {
    "retry": "the attempts within this process; redelivery= is the schedule of what is stored",
    "redelivery": "the schedule of stored failures; retry= is for the attempts within the process",
}


def check_policy(name: Literal["retry", "redelivery"], value: object) -> None:
    """Refuse what is no policy, and say what the argument of this name is for.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, RetryPolicy):
        raise ValueError(f"{name}={value!r} must be a RetryPolicy, for {_GOVERNS[name]}")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)  # nan is in no range


def _fraction(seed: str) -> float:
    """Map a text to a number in [0, 1): the same text always to the same number."""
    return zlib.crc32(seed.encode("utf-8", "replace")) / 2**32


def should_retry(policy: RetryPolicy, *, attempts_made: int, category: Category) -> bool:
    """Tell whether a failure is worth another attempt: budget left, and not a permanent error."""
    return attempts_made < policy.attempts and category is not Category.PERMANENT
