"""A loopback proxy whose network fails on demand."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class FlakyNetwork:
    """Forwards TCP connections to a port on loopback, as long as it pleases.

    Attributes:
        port: where it listens.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._to_target: set[asyncio.StreamWriter] = set()
        self._forgotten: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="flaky-network", daemon=True)
        self._thread.start()
        self._server: asyncio.Server = self._do(self._listen).result(10)
        self.port: int = self._server.sockets[0].getsockname()[1]

    def swallow(self) -> None:
        """Let everything that is sent vanish: connections stay up, and nothing comes through any more."""
        self._do(self._flowing.clear).result(10)

    def flow(self) -> None:
        """Let everything through again, what was held back included."""
        self._do(self._flowing.set).result(10)

    def reset(self) -> None:
        """Break every connection there is, the hard way."""
        self._do(self._break_all).result(10)

    def half_open(self) -> None:
        """Break every connection at its far end alone: the near end hears nothing, of that neither."""
        self._do(self._forget_all).result(10)

    def close(self) -> None:
        """End it."""
        self._do(self._end).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, call: Callable[[], Any]) -> Future[Any]:
        async def called() -> Any:
            result = call()
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(called(), self._loop)

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        self._to_target.add(back)
        with suppress(asyncio.CancelledError):  # this is the end
            await asyncio.gather(self._pump(reader, back), self._answer(there, writer, back))
        self._end_one(writer)
        self._to_target.discard(back)
        self._forgotten.discard(back)

    async def _answer(
        self, there: asyncio.StreamReader, writer: asyncio.StreamWriter, back: asyncio.StreamWriter
    ) -> None:
        """Carry what comes from the target, until one of the two ends it; a forgotten one stays silent."""
        try:
            await self._carry(there, writer)
        finally:
            if back not in self._forgotten:
                self._end_one(writer)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._carry(reader, writer)
        finally:
            self._end_one(writer)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                await self._flowing.wait()
                if writer not in self._forgotten:
                    writer.write(data)
                    await writer.drain()

    def _end_one(self, writer: asyncio.StreamWriter) -> None:
        self._writers.discard(writer)
        writer.close()

    async def _end(self) -> None:
        self._server.close()
        self._break_all()
        serving = asyncio.all_tasks(self._loop) - {asyncio.current_task(self._loop)}
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    def _break_all(self) -> None:
        _reset(self._writers)
        self._writers.clear()

    def _forget_all(self) -> None:
        forgotten = self._to_target & self._writers
        self._forgotten |= forgotten
        self._writers -= forgotten
        _reset(forgotten)


def _reset(writers: Iterable[asyncio.StreamWriter]) -> None:
    for writer in list(writers):
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        writer.transport.abort()
