"""What is shown in numbers: the statistics of the dead letters and the metrics of the bus."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from eventbus_routes.schemas import Shown

if TYPE_CHECKING:
    from eventbus.metrics import Metrics
    from eventbus_dlq.stats import Stats


class ShownRecovery(Shown):
    """How many failures came home."""

    total: int
    pending: int
    recovered: int
    abandoned: int


class ShownScope(Shown):
    """Which deliveries are meant; null means any."""

    tenant: str | None
    event: str | None
    handler: str | None


class ShownStats(Shown):
    """The dead letters in numbers: see ``eventbus_dlq.Stats``.

    Attributes:
        without_tenant: how many letters have no tenant; ``by_tenant`` has the others.
    """

    total: int
    by_state: dict[str, int]
    by_event: dict[str, int]
    by_handler: dict[str, int]
    by_tenant: dict[str, int]
    without_tenant: int
    by_kind: dict[str, int]
    by_category: dict[str, int]
    by_route: dict[str, int]
    last_24h: int
    average_attempts: float
    average_age: float
    due: int
    oldest_open: datetime | None
    newest_open: datetime | None
    recovery: ShownRecovery
    paused: tuple[ShownScope, ...]
    draining: tuple[ShownScope, ...]

    @classmethod
    def of(cls, stats: Stats) -> ShownStats:
        """Return what is shown of ``stats``."""
        return cls(
            total=stats.total,
            by_state=dict(stats.by_state),
            by_event=dict(stats.by_event),
            by_handler=dict(stats.by_handler),
            # JSON has no null among names, and a tenant may well be called "null".
            by_tenant={tenant: count for tenant, count in stats.by_tenant.items() if tenant is not None},
            without_tenant=stats.by_tenant.get(None, 0),
            by_kind=dict(stats.by_kind),
            by_category=dict(stats.by_category),
            by_route=dict(stats.by_route),
            last_24h=stats.last_24h,
            average_attempts=stats.average_attempts,
            average_age=stats.average_age,
            due=stats.due,
            oldest_open=stats.oldest_open,
            newest_open=stats.newest_open,
            recovery=ShownRecovery.model_validate(stats.recovery),
            paused=tuple(ShownScope.model_validate(it) for it in stats.paused),
            draining=tuple(ShownScope.model_validate(it) for it in stats.draining),
        )


class ShownLatency(Shown):
    """How long deliveries took.

    Attributes:
        count: how many finished, failed ones included.
        sum: seconds of all together.
        buckets: pairs of an upper bound in seconds and how many took less, cumulative.
    """

    count: int
    sum: float
    buckets: tuple[tuple[float, int], ...]


class ShownCounts(Shown):
    """The numbers of deliveries."""

    published: int
    delivered: int
    failed: int
    interrupted: int
    skipped: int
    retried: int
    timed_out: int
    in_flight: int
    latency: ShownLatency


class ShownHandler(ShownCounts):
    """The numbers of one handler, and the same split by event."""

    by_event: dict[str, ShownCounts]


class ShownMetrics(Shown):
    """The numbers of one process's bus since it was made.

    Attributes:
        published: events that were published.
        unhandled: events that no handler wanted.
        handlers: the numbers of each handler, by its id.
    """

    published: int
    unhandled: int
    handlers: dict[str, ShownHandler]

    @classmethod
    def of(cls, metrics: Metrics) -> ShownMetrics:
        """Return what is shown of ``metrics`` at this moment."""
        return cls(
            published=metrics.published,
            unhandled=metrics.unhandled,
            handlers={
                name: ShownHandler.model_validate(numbers) for name, numbers in metrics.snapshot().items()
            },
        )
