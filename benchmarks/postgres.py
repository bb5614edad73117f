"""The server of the PostgreSQL benchmarks: a private one that really syncs.

It has PostgreSQL's own defaults: ``fsync``, ``full_page_writes``, ``synchronous_commit`` and autovacuum are
on, for everybody who uses it. Its files lie where they outlive a restart, because a folder of temporary
files may be memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.postgres_server import PrivateServer

from benchmarks.harness import CannotMeasureError

_OUTLIVES_A_RESTART = Path("/var/tmp")  # and is short enough for the path of a socket
_DEFAULTS = {
    "fsync": "on",
    "full_page_writes": "on",
    "autovacuum": "on",
    "shared_buffers": "128MB",
    "wal_level": "replica",
    "max_wal_senders": "10",
}


@contextmanager
def server() -> Iterator[PrivateServer]:
    """Start a server, and leave nothing of it behind."""
    try:
        started = PrivateServer(beside=_OUTLIVES_A_RESTART if _OUTLIVES_A_RESTART.is_dir() else None)
    except RuntimeError as error:
        raise CannotMeasureError(str(error)) from error
    try:
        started.settings = dict(_DEFAULTS)
        started.start()
        yield started
    finally:
        started.remove()
