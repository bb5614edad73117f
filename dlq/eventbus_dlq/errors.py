"""The errors of the dead-letter queue, all of them below ``eventbus.EventBusError``.

EventBusError
├── StoreUnavailable        the store cannot be opened, read or written
│   └── StoreLocked         another transaction holds the sequences of some of the letters
├── DeadLetterNotFound      no letter has that id
├── LeaseHeld               somebody is running the letter right now
├── LeaseLost               the token is no longer the current one
├── InvalidTransition       the letter's state does not allow the verb
├── InvalidCursor           the cursor was not made by this store for this listing
├── InvalidSession          a session cannot take deliveries in, see ``publish(session=...)``
├── SpoolUnavailable        the spool's folder cannot be used
├── Poison                  what the last error of a letter says that killed the processes that ran it
├── PayloadRedacted         the stored payload is redacted; a replay needs one supplied
├── NotSandboxed            the handler registered no sandbox variant
└── PermissionDenied        the principal may not do that
"""

from __future__ import annotations

from eventbus.errors import EventBusError


class StoreUnavailable(EventBusError):
    """The store cannot be opened, read or written; the message says why and what to do.

    Attributes:
        retryable: True when the same call may succeed in a moment (a lock, a full disk), False
            when it will not without a person (a corrupt file, a read-only one).
    """

    def __init__(self, message: str, *, retryable: bool = True) -> None:
        super().__init__(message)
        self.retryable = retryable


class StoreLocked(StoreUnavailable):
    """Another transaction holds the sequences of some of the letters; nothing was changed.

    It is a write of some process, which ends in a moment, or one of the application's own, which lasts as
    long as that leaves it open. The same call can succeed without these letters, and with them once the
    transaction has ended.

    Attributes:
        dead_letter_ids: those letters.
    """

    def __init__(self, message: str, dead_letter_ids: frozenset[str]) -> None:
        super().__init__(message)
        self.dead_letter_ids = dead_letter_ids


class DeadLetterNotFound(EventBusError, LookupError):
    """No dead letter has that id, or it is not the caller's to see."""

    def __init__(self, dead_letter_id: str) -> None:
        super().__init__(f"there is no dead letter {dead_letter_id!r}")
        self.dead_letter_id = dead_letter_id


class LeaseHeld(EventBusError):
    """The letter is being run right now, by a worker or a replay; try again when it has settled."""


class LeaseLost(EventBusError):
    """The lease ran out and was taken over: nothing was changed, and the result is not recorded."""


class InvalidTransition(EventBusError):
    """The letter's state does not allow the verb; the message names both."""


class InvalidCursor(EventBusError, ValueError):
    """The cursor is not one that this store gave out for this kind of listing."""


class InvalidSession(EventBusError):
    """A session given to ``publish`` cannot take deliveries in; nothing was written."""


class SpoolUnavailable(EventBusError):
    """The spool's folder cannot be written, or is in use by what must not share it."""


class Poison(EventBusError):
    """The processes that ran a letter died, or froze for longer than its lease.

    It is never raised: a letter that becomes ``exhausted/poison`` without an error of its own has it.
    """


class PayloadRedacted(EventBusError):
    """The stored payload is redacted and cannot be run; supply the original with the replay."""


class NotSandboxed(EventBusError):
    """The handler registered no sandbox variant."""


class PermissionDenied(EventBusError):
    """The principal may not do that; the message names the permission that is missing."""
