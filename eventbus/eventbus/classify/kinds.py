"""What a failure can be: its kind, and the category and route that follow from the kind."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """What went wrong, in one word."""

    TIMEOUT = "timeout"
    CONNECTION = "connection"
    RATE_LIMIT = "rate_limit"
    QUOTA_EXCEEDED = "quota_exceeded"
    UNAVAILABLE = "unavailable"
    EXTERNAL_API = "external_api"
    VALIDATION = "validation"
    NOT_FOUND = "not_found"
    PERMISSION = "permission"
    CONFLICT = "conflict"
    CONTENTION = "contention"
    RESOURCE = "resource"
    BUG = "bug"
    UNKNOWN = "unknown"


class Category(StrEnum):
    """Whether trying again can help: it decides about retries."""

    TRANSIENT = "transient"
    PERMANENT = "permanent"
    UNKNOWN = "unknown"


class Route(StrEnum):
    """What to do about it: it decides whom to tell."""

    RECOVERABLE = "recoverable"
    USER_ERROR = "user_error"
    SYSTEM_ERROR = "system_error"
    REVIEW = "review"


CATEGORY_OF: dict[Kind, Category] = {
    Kind.TIMEOUT: Category.TRANSIENT,
    Kind.CONNECTION: Category.TRANSIENT,
    Kind.RATE_LIMIT: Category.TRANSIENT,
    Kind.QUOTA_EXCEEDED: Category.TRANSIENT,
    Kind.UNAVAILABLE: Category.TRANSIENT,
    Kind.EXTERNAL_API: Category.TRANSIENT,
    Kind.CONTENTION: Category.TRANSIENT,
    Kind.RESOURCE: Category.TRANSIENT,
    Kind.VALIDATION: Category.PERMANENT,
    Kind.NOT_FOUND: Category.PERMANENT,
    Kind.PERMISSION: Category.PERMANENT,
    Kind.CONFLICT: Category.PERMANENT,
    Kind.BUG: Category.PERMANENT,
    Kind.UNKNOWN: Category.UNKNOWN,
}

ROUTE_OF: dict[Kind, Route] = {
    Kind.TIMEOUT: Route.RECOVERABLE,
    Kind.CONNECTION: Route.RECOVERABLE,
    Kind.RATE_LIMIT: Route.RECOVERABLE,
    Kind.QUOTA_EXCEEDED: Route.RECOVERABLE,
    Kind.UNAVAILABLE: Route.RECOVERABLE,
    Kind.CONTENTION: Route.RECOVERABLE,
    Kind.VALIDATION: Route.USER_ERROR,
    Kind.NOT_FOUND: Route.USER_ERROR,
    Kind.CONFLICT: Route.USER_ERROR,
    Kind.EXTERNAL_API: Route.SYSTEM_ERROR,
    Kind.PERMISSION: Route.SYSTEM_ERROR,
    Kind.RESOURCE: Route.SYSTEM_ERROR,
    Kind.BUG: Route.SYSTEM_ERROR,
    Kind.UNKNOWN: Route.REVIEW,
}


class Classification(NamedTuple):
    """What a failure is, and what follows from it.

    Attributes:
        kind: what went wrong.
        retry_after: seconds the failing side asked us to wait, or None.
    """

    kind: Kind
    retry_after: float | None = None

    @property
    def category(self) -> Category:
        """Whether trying again can help."""
        return CATEGORY_OF[self.kind]

    @property
    def route(self) -> Route:
        """What to do about it."""
        return ROUTE_OF[self.kind]
