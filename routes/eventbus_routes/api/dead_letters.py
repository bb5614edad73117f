"""Dead letters one by one: the list, a letter, and the verbs for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from eventbus.snapshots import message_of, type_name
from eventbus_dlq.errors import DeadLetterNotFound
from eventbus_dlq.letter import STATE_AFTER, DeadLetterState, Verb
from eventbus_routes.access import Permission
from eventbus_routes.detached import run_detached
from eventbus_routes.documents import Document, NoContent
from eventbus_routes.guard import Action, Call
from eventbus_routes.questions import Listing, Nothing, VerbBody
from eventbus_routes.schemas import ReplayResult, ShownFailure, ShownPage, VerbResult, letter_document
from eventbus_routes.texts import MAX_TEXT, is_storable

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from starlette.responses import Response

    from eventbus_dlq.letter import DeadLetter
    from eventbus_dlq.replay import ReplayOutcome


async def list_letters(call: Call[Listing, Nothing]) -> Response:
    """List summaries, newest first, in keyset pages."""
    asked = call.parameters
    query = asked.as_query().within(call.principal.tenants)
    page = await call.dlq.dead_letters(query, limit=asked.limit, cursor=asked.cursor)
    return Document(ShownPage.of(page))


async def show_letter(call: Call[Nothing, Nothing]) -> Response:
    """Show one letter, whole; payload, headers and annotations only to whoever may reveal."""
    letter = await _letter(call)
    return Document(letter_document(letter, reveal=call.principal.may(Permission.REVEAL)))


async def replay_letter(call: Call[Nothing, VerbBody]) -> Response:
    """Send one letter back to the handler that failed.

    The run belongs to the bus, so that a client that goes away does not cancel it. What takes longer
    than the router waits is answered with 202 and the place where to look.
    """
    letter_id = await _own_id(call)

    async def replay() -> ReplayOutcome:
        return await call.dlq.replay(letter_id, by=call.principal.name, note=call.body.note)

    outcome = await run_detached(call.admin.bus, replay, wait=call.admin.replay_wait)
    result = _result(call, letter_id, outcome)
    if result.state != DeadLetterState.RUNNING:
        return Document(result)
    place = call.link(f"/api/dead-letters/{quote(letter_id, safe='')}")
    return Document(result, 202, {"location": place})


def _result(call: Call[Any, Any], letter_id: str, outcome: ReplayOutcome | None) -> ReplayResult:
    if outcome is None:
        return ReplayResult(dead_letter_id=letter_id, state=DeadLetterState.RUNNING)
    error = outcome.error if call.principal.may(Permission.READ) else None
    return ReplayResult(
        dead_letter_id=letter_id,
        state=outcome.state,
        attempts=outcome.attempts,
        error=None if error is None else ShownFailure(type=type_name(error), message=message_of(error)),
    )


async def resolve_letter(call: Call[Nothing, VerbBody]) -> Response:
    """Close a letter as done."""
    return await _change(call, call.dlq.resolve, Verb.RESOLVE)


async def discard_letter(call: Call[Nothing, VerbBody]) -> Response:
    """Close a letter as given up."""
    return await _change(call, call.dlq.discard, Verb.DISCARD)


async def delete_letter(call: Call[Nothing, Nothing]) -> Response:
    """Remove a letter for good."""
    await call.dlq.delete(await _own_id(call))
    return NoContent()


class _Change(Protocol):
    def __call__(self, dead_letter_id: str, /, *, by: str | None, note: str | None) -> Awaitable[object]: ...


async def _change(call: Call[Nothing, VerbBody], change: _Change, verb: Verb) -> Response:
    letter_id = await _own_id(call)
    name, note = call.principal.name, call.body.note
    await change(letter_id, by=name, note=note)
    return Document(VerbResult(dead_letter_id=letter_id, state=STATE_AFTER[verb], acted_by=name, note=note))


async def _own_id(call: Call[Any, Any]) -> str:
    """Return the id in the path; a letter's tenant never changes, so what is checked here stays so."""
    if call.principal.tenants is not None:
        return (await _letter(call)).id
    return _id(call)


async def _letter(call: Call[Any, Any]) -> DeadLetter:
    letter = await call.dlq.dead_letter(_id(call))
    if not call.principal.sees(letter.tenant):
        # The same words as for what does not exist: nobody may learn which of the two it is.
        raise DeadLetterNotFound(letter.id)
    return letter


def _id(call: Call[Any, Any]) -> str:
    letter_id = call.path["id"]
    if len(letter_id) > MAX_TEXT or not is_storable(letter_id):
        raise DeadLetterNotFound(letter_id[:MAX_TEXT])
    return letter_id


RESOURCES: dict[str, dict[str, Action]] = {
    "/api/dead-letters": {
        "GET": Action(run=list_letters, permission=Permission.READ, parameters=Listing),
    },
    "/api/dead-letters/{id}": {
        "GET": Action(run=show_letter, permission=Permission.READ),
        "DELETE": Action(run=delete_letter, permission=Permission.DELETE),
    },
    "/api/dead-letters/{id}/replay": {
        "POST": Action(run=replay_letter, permission=Permission.REPLAY, body=VerbBody),
    },
    "/api/dead-letters/{id}/resolve": {
        "POST": Action(run=resolve_letter, permission=Permission.TRIAGE, body=VerbBody),
    },
    "/api/dead-letters/{id}/discard": {
        "POST": Action(run=discard_letter, permission=Permission.TRIAGE, body=VerbBody),
    },
}
"""The paths of this file, with what each method does and needs."""
