"""Counters and latency histograms: plain attributes on the hot path, added up when somebody looks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

BUCKETS = 64
"""Latency buckets: bucket n holds durations below 2**n nanoseconds, which is 292 years for the last."""

MAX_EVENT_NAMES = 1_000
OTHER_EVENTS = "(other)"
"""Where a handler's numbers go when it has seen ``MAX_EVENT_NAMES`` names: names may be endless."""


class Counters:
    """The numbers of one handler for one event, counted where the deliveries run."""

    __slots__ = (
        "accepted",
        "failed",
        "interrupted",
        "latency",
        "latency_sum_ns",
        "parked",
        "retried",
        "skipped",
        "started",
        "timed_out",
    )

    def __init__(self) -> None:
        self.started = 0
        self.failed = 0
        self.interrupted = 0
        self.skipped = 0
        self.retried = 0
        self.timed_out = 0
        self.accepted = 0
        self.parked = 0
        self.latency_sum_ns = 0
        self.latency = [0] * BUCKETS

    @property
    def delivered(self) -> int:
        """How many succeeded: all that finished but did not fail."""
        return sum(self.latency) - self.failed

    def observe(self, duration_ns: int) -> None:
        """Count one finished delivery in the histogram."""
        self.latency_sum_ns += duration_ns
        self.latency[duration_ns.bit_length()] += 1


@dataclass(frozen=True, slots=True)
class Latency:
    """How long deliveries took.

    Attributes:
        count: how many finished, failed ones included.
        sum: seconds of all together.
        buckets: (upper bound in seconds, how many took less), cumulative, empty ones at the ends left out.
    """

    count: int
    sum: float
    buckets: tuple[tuple[float, int], ...]

    def quantile(self, fraction: float) -> float:
        """Return an upper bound, in seconds, of the duration that ``fraction`` of deliveries stayed below.

        Precise to a factor of two, as wide as a bucket; 0.0 when nothing finished.
        """
        wanted = fraction * self.count
        return next((bound for bound, count in self.buckets if count >= wanted), 0.0)


@dataclass(frozen=True, slots=True)
class HandlerMetrics:
    """The numbers of one handler at one moment.

    Attributes:
        published: deliveries begun, skipped ones included.
        delivered: deliveries that succeeded.
        failed: deliveries that failed for good in this process.
        interrupted: deliveries cut short by a cancellation or a shutdown.
        skipped: deliveries that ``when`` or ``once`` kept from running.
        retried: in-process attempts after the first.
        timed_out: attempts that exceeded their timeout.
        accepted: deliveries stored for a worker: durable ones, those published in a transaction, and those
            that had to wait for their turn in an order.
        parked: the same, where they were held back: by an operator, by their handler's circuit, or by an
            earlier delivery of their ordering key that had failed.
        in_flight: deliveries that run right now.
        latency: how long finished deliveries took, in-process retries included.
        by_event: the same, split by event name; empty in the parts.
    """

    published: int
    delivered: int
    failed: int
    interrupted: int
    skipped: int
    retried: int
    timed_out: int
    accepted: int
    parked: int
    in_flight: int
    latency: Latency
    by_event: Mapping[str, HandlerMetrics] = field(default_factory=dict[str, "HandlerMetrics"])


class Metrics:
    """The numbers of one bus."""

    def __init__(self) -> None:
        self._counters: dict[str, dict[str, Counters]] = {}
        self.published = 0
        self.unhandled = 0

    def counters(self, handler_id: str, event_name: str) -> Counters:
        """Return the counters of a handler for an event, the same ones each time."""
        by_event = self._counters.setdefault(handler_id, {})
        if event_name not in by_event and len(by_event) >= MAX_EVENT_NAMES:
            event_name = OTHER_EVENTS
        counters = by_event.get(event_name)
        if counters is None:
            counters = by_event[event_name] = Counters()
        return counters

    def forget(self, handler_id: str) -> None:
        """Show a handler no more: it was unsubscribed, and ids may be endless."""
        self._counters.pop(handler_id, None)

    def snapshot(self) -> Mapping[str, HandlerMetrics]:
        """Return the numbers of every handler that has had a delivery or a subscription, by its id."""
        return {
            handler_id: _metrics(list(by_event.values()), by_event)
            for handler_id, by_event in sorted(self._counters.items())
        }


def _metrics(parts: list[Counters], by_event: Mapping[str, Counters]) -> HandlerMetrics:
    def total(name: str) -> int:
        return sum(getattr(part, name) for part in parts)

    started, ended = total("started"), total("delivered") + total("failed") + total("interrupted")
    return HandlerMetrics(
        published=started + total("skipped"),
        delivered=total("delivered"),
        failed=total("failed"),
        interrupted=total("interrupted"),
        skipped=total("skipped"),
        retried=total("retried"),
        timed_out=total("timed_out"),
        accepted=total("accepted"),
        parked=total("parked"),
        in_flight=started - ended,
        latency=_latency(parts),
        by_event={name: _metrics([part], {}) for name, part in sorted(by_event.items())},
    )


def _latency(parts: list[Counters]) -> Latency:
    merged = [sum(counts) for counts in zip(*(part.latency for part in parts), strict=True)]
    buckets: list[tuple[float, int]] = []
    below = 0
    count = sum(merged)
    for exponent, number in enumerate(merged):
        below += number
        if below:
            buckets.append((2**exponent / 1e9, below))
        if below == count:
            break
    return Latency(count, sum(part.latency_sum_ns for part in parts) / 1e9, tuple(buckets))
