"""Publishers and workers of a rival that blocks: a thread each."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any, Self

import anyio.to_thread

_IDLE = 0.0005  # seconds between two looks of a worker that has found nothing


class Crew:
    """Threads that publish, and threads that process until all that was published is done.

    Args:
        publishers: how many publish.
        publish: publishes one event, and returns when it is durable.
        workers: how many process.
        process: takes the next event and settles it; returns False when there is none.
    """

    def __init__(
        self, publishers: int, publish: Callable[[], object], workers: int, process: Callable[[], bool]
    ) -> None:
        self._publishers = publishers
        self._publish = publish
        self._workers = workers
        self._process = process
        self._pool = ThreadPoolExecutor(publishers + workers)
        self._lock = Lock()
        self._left = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown()

    async def run(self, operations: int) -> None:
        """Publish and process that many; the threads have nothing to do before and afterwards."""
        await anyio.to_thread.run_sync(self._run, operations)

    def _run(self, operations: int) -> None:
        self._left = operations
        each = operations // self._publishers
        working = [self._pool.submit(self._work) for _ in range(self._workers)]
        publishing = [self._pool.submit(self._publish_some, each) for _ in range(self._publishers)]
        for thread in (*publishing, *working):
            thread.result()

    def _publish_some(self, times: int) -> None:
        for _ in range(times):
            self._publish()

    def _work(self) -> None:
        while self._left > 0:
            if self._process():
                with self._lock:
                    self._left -= 1
            else:
                time.sleep(_IDLE)


def finish(handled: Coroutine[Any, Any, None]) -> None:
    """Run a handler that waits for nothing, as all here do, without an event loop."""
    try:
        handled.send(None)
    except StopIteration:
        return
    raise AssertionError("the handler waits for something")
