"""The settings of a bus that are more than a number."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

Concurrency: TypeAlias = Literal["concurrent", "serial"]
Overflow: TypeAlias = Literal["wait", "raise"]


class QueueSettings(NamedTuple):
    """How ``enqueue`` behaves.

    Attributes:
        size: how many accepted events may wait.
        overflow: what happens when it is full: ``wait`` or ``raise``.
        workers: how many events are delivered at a time.
    """

    size: int
    overflow: Overflow
    workers: int


def check_settings(concurrency: str, queue: QueueSettings, *, shutdown_grace: float, history: int) -> None:
    """Refuse settings that make no sense.

    Raises:
        ValueError: names the setting and what it may be.
    """
    if concurrency not in ("concurrent", "serial"):
        raise ValueError(f"concurrency={concurrency!r} must be 'concurrent' or 'serial'")
    if queue.overflow not in ("wait", "raise"):
        raise ValueError(f"overflow={queue.overflow!r} must be 'wait' or 'raise'")
    if queue.size < 1:
        raise ValueError(f"queue_size={queue.size!r} must be 1 or more")
    if queue.workers < 1:
        raise ValueError(f"enqueue_concurrency={queue.workers!r} must be 1 or more")
    if not shutdown_grace >= 0:
        raise ValueError(f"shutdown_grace={shutdown_grace!r} must be a number of seconds, 0 or more")
    if history < 0:
        raise ValueError(f"history={history!r} must be 0 or more")
