"""What may be asked: the models of query parameters and request bodies."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from eventbus_dlq.letter import DeadLetterState
from eventbus_dlq.query import DeadLetterQuery
from eventbus_routes.texts import Cursor, Moment, Note, Text, whole_number

_MAX_VALUES = 100


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


_TextSet = Annotated[list[Text], Field(min_length=1, max_length=_MAX_VALUES), BeforeValidator(_as_list)]
_StateSet = Annotated[
    list[DeadLetterState], Field(min_length=1, max_length=_MAX_VALUES), BeforeValidator(_as_list)
]


def _as_said(value: object) -> object:
    # 1 equals True, but nobody who writes it has said the word.
    if value is True or value is None:
        return value
    raise ValueError("must be true, or left out")


class Question(BaseModel):
    """Base of what a client may say: what is not named is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Nothing(Question):
    """No query parameters, or a body without fields."""


class LetterFilter(Question):
    """Which dead letters are meant. Fields are combined with AND; several values mean any of them.

    Attributes:
        state: the states.
        event: names of events.
        handler: ids of handlers.
        tenant: tenants.
        since: stored at this moment or later.
        until: stored before this moment.
    """

    state: _StateSet | None = None
    event: _TextSet | None = None
    handler: _TextSet | None = None
    tenant: _TextSet | None = None
    since: Moment | None = None
    until: Moment | None = None

    def as_query(self) -> DeadLetterQuery:
        """Return the same condition in the terms of the dead-letter queue."""
        return DeadLetterQuery(
            state=self.state,
            event=self.event,
            handler=self.handler,
            tenant=self.tenant,
            since=self.since,
            until=self.until,
        )


class Listing(LetterFilter):
    """One page of a listing.

    Attributes:
        limit: at most so many items.
        cursor: ``next_cursor`` of the page before.
    """

    limit: Annotated[int, BeforeValidator(whole_number), Field(ge=1, le=1_000)] = 50
    cursor: Cursor | None = None


class VerbBody(Question):
    """What may be said with a verb.

    Attributes:
        note: why; kept with the letter.
    """

    note: Note | None = None


class OperationFilter(LetterFilter):
    """Which dead letters an operation takes.

    Attributes:
        everything: True, and no other field, means every letter.
    """

    everything: Annotated[Literal[True] | None, BeforeValidator(_as_said)] = None

    @model_validator(mode="after")
    def _says_what_it_means(self) -> OperationFilter:
        # An unset field and an explicit null both are no condition.
        conditions = [name for name in LetterFilter.model_fields if getattr(self, name) is not None]
        if not conditions and not self.everything:
            raise ValueError('is empty; name a condition, or say {"everything": true}')
        if conditions and self.everything:
            raise ValueError(f"says everything and {conditions[0]} at once; leave one of them out")
        return self

    def as_query(self) -> DeadLetterQuery:
        """Return the same condition in the terms of the dead-letter queue."""
        return DeadLetterQuery.everything() if self.everything else super().as_query()


class OperationBody(Question):
    """A verb for all letters that a query means.

    Attributes:
        verb: what to do to each.
        query: to which.
        note: why; kept with the letters.
    """

    verb: Literal["replay"]
    query: OperationFilter
    note: Note | None = None
