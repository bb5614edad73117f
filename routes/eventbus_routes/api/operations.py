"""One verb for many letters."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from eventbus_routes.access import Permission
from eventbus_routes.detached import run_detached
from eventbus_routes.documents import Document
from eventbus_routes.guard import Action, Call
from eventbus_routes.questions import Nothing, OperationBody, OperationFilter
from eventbus_routes.schemas import OperationResult

if TYPE_CHECKING:
    from starlette.responses import Response

    from eventbus_dlq.operations import Operation


async def start_operation(call: Call[Nothing, OperationBody]) -> Response:
    """Replay every letter that the query means, within the principal's tenants.

    Like a single replay it belongs to the bus; what takes longer than the router waits is answered
    with 202 and the listing of the same letters.
    """
    asked = call.body
    query = asked.query.as_query().within(call.principal.tenants)

    async def replay() -> Operation:
        return await call.dlq.replay_all(query, by=call.principal.name, note=asked.note)

    operation = await run_detached(call.admin.bus, replay, wait=call.admin.replay_wait)
    if operation is None:
        running = OperationResult(verb=asked.verb, state="running")
        return Document(
            running, 202, {"location": call.link(f"/api/dead-letters{_as_parameters(asked.query)}")}
        )
    return Document(
        OperationResult(
            verb=asked.verb,
            state=operation.state,
            total=operation.total,
            done=operation.done,
            failed=operation.failed,
            skipped=operation.skipped,
        )
    )


def _as_parameters(asked: OperationFilter) -> str:
    values = asked.model_dump(mode="json", exclude_none=True, exclude={"everything"})
    return f"?{urlencode(values, doseq=True)}" if values else ""


RESOURCES: dict[str, dict[str, Action]] = {
    "/api/operations": {
        "POST": Action(run=start_operation, permission=Permission.REPLAY, body=OperationBody),
    },
}
"""The paths of this file, with what each method does and needs."""
