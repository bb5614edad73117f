"""eventbus_dlq: dead letters, what may be done with them, and where they are kept.

    bus = EventBus(dlq=DeadLetterQueue(MemoryStore()))

``MemoryStore`` is for tests; ``eventbus_adapters.sql.SqlStore`` keeps letters for good.
"""

from eventbus.failure import CauseRecord, ErrorRecord
from eventbus_dlq.control_store import Announcement, Configuration, ControlStore, Schedule
from eventbus_dlq.errors import (
    DeadLetterNotFound,
    InvalidCursor,
    InvalidSession,
    InvalidTransition,
    LeaseHeld,
    LeaseLost,
    NotSandboxed,
    PayloadRedacted,
    PermissionDenied,
    SpoolUnavailable,
    StoreLocked,
    StoreUnavailable,
)
from eventbus_dlq.letter import Attempt, DeadLetter, DeadLetterState, DeadLetterSummary, Reason, Verb
from eventbus_dlq.memory import MemoryStore
from eventbus_dlq.operations import Operation
from eventbus_dlq.processing import Processed
from eventbus_dlq.query import DeadLetterQuery, Page
from eventbus_dlq.queue import DEFAULT_REDELIVERY, DeadLetterQueue
from eventbus_dlq.replay import HandlerMissing, ReplayOutcome
from eventbus_dlq.stats import Recovery, Stats
from eventbus_dlq.store import (
    Claim,
    DeadLetterStore,
    Kept,
    Lease,
    Leased,
    Process,
    SequenceKey,
    SessionStore,
    Settlement,
    Spooled,
)

__all__ = [
    "DEFAULT_REDELIVERY",
    "Announcement",
    "Attempt",
    "CauseRecord",
    "Claim",
    "Configuration",
    "ControlStore",
    "DeadLetter",
    "DeadLetterNotFound",
    "DeadLetterQuery",
    "DeadLetterQueue",
    "DeadLetterState",
    "DeadLetterStore",
    "DeadLetterSummary",
    "ErrorRecord",
    "HandlerMissing",
    "InvalidCursor",
    "InvalidSession",
    "InvalidTransition",
    "Kept",
    "Lease",
    "LeaseHeld",
    "LeaseLost",
    "Leased",
    "MemoryStore",
    "NotSandboxed",
    "Operation",
    "Page",
    "PayloadRedacted",
    "PermissionDenied",
    "Process",
    "Processed",
    "Reason",
    "Recovery",
    "ReplayOutcome",
    "Schedule",
    "SequenceKey",
    "SessionStore",
    "Settlement",
    "SpoolUnavailable",
    "Spooled",
    "Stats",
    "StoreLocked",
    "StoreUnavailable",
    "Verb",
]
