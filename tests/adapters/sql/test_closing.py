"""What a closed store leaves on the disk."""

from __future__ import annotations

from pathlib import Path

import anyio

from eventbus_adapters.sql import SqlStore
from eventbus_dlq.query import DeadLetterQuery


async def test_one_file_is_left_that_can_be_copied(tmp_path: Path) -> None:
    """The write-ahead log goes with whoever closes last; often, since that was a race between threads."""
    store = SqlStore(f"sqlite:///{tmp_path}/letters.db")
    for _ in range(20):
        await store.open()
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(store.find, DeadLetterQuery.everything())
        await store.close()
        assert [file.name for file in tmp_path.iterdir()] == ["letters.db"]
