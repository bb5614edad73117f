"""The circuit of a handler: it opens when everything fails, probes, and closes again gradually.

The pattern is the circuit breaker of Michael Nygard's "Release It!". Two things are done in a way of our own:

- Only failures of *different* deliveries open a circuit. One delivery that fails again and again may be
  at fault itself; its schedule deals with it, and the others are not held up.
- A circuit that closes again widens as TCP does (slow start, RFC 5681): each success lets more deliveries run
  at a time, each failure half as many, so that one error among many successes does not open it anew.

Everything here is a pure function of readings of a monotonic clock: no I/O, no tasks. Each process has
circuits of its own, and finds out by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeGuard

from eventbus.classify import Category

_MAX_THRESHOLD = 1_000_000
_MAX_WAIT = 86_400.0
_MAX_OUTAGE = 10 * 365 * 86_400.0
_MAX_FACTOR = 1_000_000.0
_EARLY = 1e-6
"""Seconds by which a probe may be early: sums of floats are, and a clock that stands still does not make up
for it."""


class CircuitState(StrEnum):
    """How a handler's deliveries are let through."""

    CLOSED = "closed"
    """Any number may run. Left for ``open`` when as many different deliveries as the policy's ``threshold``
    have failed in a row with transient errors."""

    OPEN = "open"
    """None may begin. Left for ``probing`` by the first that asks once the wait is over."""

    PROBING = "probing"
    """One runs. Left for ``reopening`` when it shows that the other side answers, else for ``open``."""

    REOPENING = "reopening"
    """Some may run at a time: more after each success, fewer after each transient failure. Left for
    ``closed`` when enough may, and for ``open`` when none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitPolicy:
    """When the circuit of a handler opens, when it is tried again, and how fast it closes.

    Attributes:
        threshold: so many different deliveries failing in a row with transient errors open it (1 or more).
        delay: seconds from its opening to the first probe.
        multiplier: how many times as long the wait is after each probe that fails (1 or more).
        max_delay: no wait for a probe is longer, in seconds, whatever the failing side asks for. So long may
            a probe take, too, before another one is let through beside it.
        growth: how many times as many deliveries may run at a time once all of those have succeeded that
            might before: 2 lets 1, 2, 4, 8, ... run (above 1). Each transient failure divides it again.
        full: how many at a time are enough to close the circuit (1 or more): with 32 and a growth of 2
            it takes 31 successes.
        max_outage: seconds for which the failures of an outage are not held against the schedules of
            its deliveries; those that fail later are, so that somebody is told in the end.

    Raises:
        ValueError: for what is no number, or is negative, not finite or absurd: a wait of more than a day,
            or an outage of more than ten years.
    """

    threshold: int = 5
    delay: float = 1.0
    multiplier: float = 2.0
    max_delay: float = 60.0
    growth: float = 2.0
    full: int = 32
    max_outage: float = 86_400.0

    def __post_init__(self) -> None:
        for name, unit in (("threshold", "failures"), ("full", "deliveries")):
            count: object = getattr(self, name)
            if type(count) is not int or not 1 <= count <= _MAX_THRESHOLD:
                raise ValueError(f"{name}={count!r} must be a number of {unit}, 1 to {_MAX_THRESHOLD:,}")
        for name in ("delay", "max_delay"):
            wait: object = getattr(self, name)
            if not (_is_number(wait) and 0 < wait <= _MAX_WAIT):
                raise ValueError(
                    f"{name}={wait!r} must be a number of seconds above 0, at most a day ({_MAX_WAIT:,.0f}); "
                    "circuit=False leaves a handler without a circuit"
                )
        outage: object = self.max_outage
        if not (_is_number(outage) and 0 <= outage <= _MAX_OUTAGE):
            raise ValueError(f"max_outage={outage!r} must be a number of seconds from 0 to ten years")
        if self.delay > self.max_delay:
            raise ValueError(
                f"delay={self.delay!r} is longer than max_delay={self.max_delay!r}, which bounds every wait; "
                "give a smaller delay, or a larger max_delay"
            )
        for name, least in (("multiplier", "1 or more"), ("growth", "above 1")):
            factor: object = getattr(self, name)
            is_enough = _is_number(factor) and (factor > 1 or (factor == 1 and name == "multiplier"))
            if not (is_enough and _is_number(factor) and factor <= _MAX_FACTOR):
                raise ValueError(f"{name}={factor!r} must be a number, {least}, at most {_MAX_FACTOR:,.0f}")

    def wait_after(self, wait: float) -> float:
        """Return the seconds before the next probe, when the one that came after ``wait`` has failed."""
        return min(max(wait * self.multiplier, self.delay), self.max_delay)


def check_circuit(value: object, place: str) -> None:
    """Refuse what cannot be a subscription's ``circuit=``.

    Raises:
        ValueError: it is neither a policy, nor None, nor False.
    """
    if value is not None and value is not False and not isinstance(value, CircuitPolicy):
        raise ValueError(
            f"circuit={value!r} of {place} must be a CircuitPolicy, None for the default in the worker, or "
            "False for no circuit at all"
        )


class Permit(NamedTuple):
    """Leave for one delivery to run. It is given back once, with how the run ended.

    Attributes:
        opened: how often the circuit had opened when it was given.
        counts: whether the delivery is one of those that may run at a time; it runs once then, without
            further attempts in the process.
    """

    opened: int
    counts: bool


class Circuit:
    """Whether the deliveries of one handler may run: a state machine on readings of a monotonic clock.

    Whoever runs a delivery asks :meth:`begin` for a permit, and gives it to one of :meth:`succeeded`,
    :meth:`failed` and :meth:`cancelled` when the run has ended, in whatever way. A permit that was given
    before the circuit opened last changes nothing any more: how such a run ends tells of the past.

    ``now`` is a reading of a monotonic clock, in seconds, and never goes down.

    Attributes:
        policy: what it goes by.
        state: how deliveries are let through.
        failures: transient failures since the last success.
        since: when it opened first after having been closed; None while it is closed.
    """

    def __init__(self, policy: CircuitPolicy) -> None:
        self.policy = policy
        self.state = CircuitState.CLOSED
        self.failures = 0
        self.since: float | None = None
        self._failing: set[str] = set()
        self._opened = 0
        self._wait = 0.0
        self._due = 0.0
        self._width = 1.0
        self._running = 0
        self._stirred = 0.0
        self._pass = Permit(0, counts=False)

    # -- asking

    def allowance(self, now: float) -> int | None:
        """Return how many deliveries may begin now; None for any number. Asking changes nothing."""
        match self.state:
            case CircuitState.CLOSED:
                return None
            case CircuitState.OPEN:
                return int(now >= self._due - _EARLY)
            case _:
                room = int(self._width) - self._running
                return max(room, int(now >= self._stirred + self.policy.max_delay - _EARLY))

    @property
    def until_open(self) -> int:
        """How many more different deliveries have to fail in a row to open it, as long as it is closed."""
        return self.policy.threshold - len(self._failing)

    def next_probe(self) -> float | None:
        """Return the reading at which one may begin although none may now; None when it is closed."""
        if self.state is CircuitState.CLOSED:
            return None
        return self._due if self.state is CircuitState.OPEN else self._stirred + self.policy.max_delay

    def retry_after(self, now: float, *, turns: int = 0) -> float:
        """Return the seconds after which a delivery is to be tried again that was excused.

        That is the next probe, or, with ``turns``, so many probes later, so that those which have never
        probed come before those that have. It is 0 while the circuit lets deliveries through.
        """
        if self.state is not CircuitState.OPEN:
            return 0.0
        return self._due - now + turns * self.policy.wait_after(self._wait)

    def is_current(self, permit: Permit) -> bool:
        """Tell whether a permit still lets a run begin: the circuit has not opened since it was given."""
        return permit.opened == self._opened

    def excuses(self, now: float) -> bool:
        """Tell whether a transient failure is the outage's, and not held against the delivery's schedule."""
        return self.since is not None and now - self.since <= self.policy.max_outage

    # -- running

    def begin(self, now: float) -> Permit | None:
        """Let a delivery run; return None when it may not."""
        if self.state is CircuitState.CLOSED:
            return self._pass
        if not self.allowance(now):
            return None
        if self.state is CircuitState.OPEN:
            self.state, self._width = CircuitState.PROBING, 1.0
        self._running += 1
        self._stirred = now
        return Permit(self._opened, counts=True)

    def attend(self) -> Permit:
        """Return a permit for a run that somebody has asked for, whatever the circuit says of it."""
        return self._pass

    def succeeded(self, permit: Permit, now: float) -> None:
        """Take note that the other side has answered."""
        if not self.is_current(permit):
            return
        self._give_back(permit, now)
        self.failures = 0
        self._failing.clear()
        if self.state is CircuitState.CLOSED:
            return
        if self.state is not CircuitState.REOPENING:
            self.state, self._width = CircuitState.REOPENING, 1.0
            self._wait = 0.0
        self._width += self.policy.growth - 1
        self._stirred = now
        if self._width >= self.policy.full:
            self.state, self.since = CircuitState.CLOSED, None

    def failed(self, permit: Permit, category: Category, now: float, *, delivery: str) -> bool:
        """Take note of a failure; return whether it is excused, see :meth:`excuses`.

        A permanent error is an answer, and counts as a success. One of an unknown kind says nothing of the
        other side: it ends a probe without success, and changes nothing else.

        Args:
            permit: what the run began with.
            category: whether trying again can help.
            now: when it failed.
            delivery: what tells it from other deliveries.
        """
        if category is Category.PERMANENT:
            self.succeeded(permit, now)
            return False
        if category is not Category.TRANSIENT:
            self._end_unknown(permit, now)
            return False
        excused = self.excuses(now)
        if not self.is_current(permit):
            return excused or self.since is None
        self._give_back(permit, now)
        self.failures += 1
        match self.state:
            case CircuitState.CLOSED:
                self._failing.add(delivery)
                if len(self._failing) >= self.policy.threshold:
                    self.since = now
                    self._open(now, self.policy.delay)
            case CircuitState.PROBING:
                self._open(now, self.policy.wait_after(self._wait))
            case CircuitState.REOPENING:
                self._width /= self.policy.growth
                self._stirred = now
                if self._width < 1:
                    self._open(now, self.policy.delay)
            case CircuitState.OPEN:
                pass
        return excused

    def cancelled(self, permit: Permit, now: float) -> None:
        """Take note that a run has ended and nothing is known of it: another may take its place at once."""
        if not self.is_current(permit):
            return
        self._give_back(permit, now)
        if permit.counts and self.state is CircuitState.PROBING and not self._running:
            self.state, self._due = CircuitState.OPEN, now

    # -- moving

    def _end_unknown(self, permit: Permit, now: float) -> None:
        if not self.is_current(permit):
            return
        self._give_back(permit, now)
        if permit.counts and self.state is CircuitState.PROBING:
            self._open(now, max(self._wait, self.policy.delay))

    def _give_back(self, permit: Permit, now: float) -> None:
        if permit.counts and self.state is not CircuitState.CLOSED:
            self._running -= 1
            self._stirred = now

    def _open(self, now: float, wait: float) -> None:
        self.state = CircuitState.OPEN
        self._opened += 1
        self._pass = Permit(self._opened, counts=False)
        self._running = 0
        self._wait = wait
        self._due = now + wait
        self._failing.clear()


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
