"""Writes that the store refuses for good, kept for a person to look at."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from eventbus_dlq.spool.file import sync_folder, write_whole

if TYPE_CHECKING:
    from pathlib import Path

REFUSED = ".refused"
"""What the files end in: a JSON object per line, of ``reason``, ``position`` and the ``write`` itself."""


def set_aside(spool: Path, position: int, body: bytes, reason: str) -> Path:
    """Keep the record of a spool file in the file beside it; return where. It is on the disk then.

    Raises:
        OSError: it cannot be written; nothing of it was kept.
    """
    path = spool.with_suffix(REFUSED)
    line = b'{"reason":%s,"position":%d,"write":%s}\n' % (json.dumps(reason).encode(), position, body)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        end = os.fstat(fd).st_size
        try:
            write_whole(fd, line, end)
            os.fsync(fd)
        except OSError:
            os.ftruncate(fd, end)
            raise
    finally:
        os.close(fd)
    sync_folder(path.parent)
    return path
