"""Numbers: of the dead letters, and of the bus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbus_routes.access import Permission
from eventbus_routes.documents import Document
from eventbus_routes.figures import ShownMetrics, ShownStats
from eventbus_routes.guard import Action, Call

if TYPE_CHECKING:
    from starlette.responses import Response

    from eventbus_routes.questions import Nothing


async def show_stats(call: Call[Nothing, Nothing]) -> Response:
    """Show what the dead letters of the principal's tenants add up to."""
    return Document(ShownStats.of(await call.dlq.stats(tenants=call.principal.tenants)))


async def show_metrics(call: Call[Nothing, Nothing]) -> Response:
    """Show the counters and histograms of this process's bus, over all tenants."""
    return Document(ShownMetrics.of(call.admin.bus.metrics))


RESOURCES: dict[str, dict[str, Action]] = {
    "/api/stats": {
        "GET": Action(run=show_stats, permission=Permission.READ),
    },
    "/api/metrics": {
        "GET": Action(run=show_metrics, permission=Permission.READ, unscoped=True),
    },
}
"""The paths of this file, with what each method does and needs."""
