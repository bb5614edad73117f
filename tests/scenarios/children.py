"""Processes of a shop, from the outside: started, killed, frozen and waited for."""

from __future__ import annotations

import atexit
import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from ledger import Ledger, Line

HERE = Path(__file__).parent
PATIENCE = 60.0
KILLED = -9


class Child:
    """One process of a shop."""

    _all: list[Child] = []

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.ledger = Ledger(folder / "ledger")
        self._said_before = len(self.ledger.lines())
        self._errors = folder / "errors.log"
        self._code: int | None = None
        self.pid = nursery().begin({"ledger": str(self.ledger.path), **settings}, self._errors)
        self._all.append(self)

    @classmethod
    def end_all(cls) -> None:
        """Kill every child that still runs."""
        while cls._all:
            cls._all.pop().kill()

    def lines(self) -> list[Line]:
        """Return what this process has said."""
        return [line for line in self.ledger.lines()[self._said_before :] if line.pid == self.pid]

    def times(self, what: str, who: str) -> int:
        """Return how often this process has said something."""
        return sum(line.what == what and line.who == who for line in self.lines())

    def until(self, what: str, who: str, *, times: int = 1) -> None:
        """Wait until this process has said something so many times."""
        deadline = time.monotonic() + PATIENCE
        while self.times(what, who) < times:
            code = self.ended(0.01)
            assert code is None or self.times(what, who) >= times, f"it ended with {code}: {self.errors()}"
            assert time.monotonic() < deadline, f"{who} has not {what} {times} times; {self.errors()}"

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        self.wait()

    def leave(self) -> None:
        """Ask it, once it is open, to publish nothing any more, and to end."""
        self._signal(signal.SIGTERM)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)
        self.until_frozen()

    def until_frozen(self) -> None:
        """Wait until every thread of this process stands still."""
        deadline = time.monotonic() + PATIENCE
        while any(stat.read_text().rpartition(") ")[2][0] != "T" for stat in self._threads()):
            assert time.monotonic() < deadline, f"it does not stand still: {self.errors()}"
            time.sleep(0.01)

    def _threads(self) -> list[Path]:
        return list(Path(f"/proc/{self.pid}/task").glob("*/stat"))

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def wait(self, patience: float = PATIENCE) -> int:
        """Return the exit code; negative is the signal that killed it."""
        code = self.ended(patience)
        assert code is not None, f"it has not ended within {patience} s: {self.errors()}"
        return code

    def errors(self) -> str:
        """Return the end of what all children have logged."""
        return self._errors.read_text(errors="replace")[-4000:] if self._errors.exists() else ""

    def _signal(self, number: signal.Signals) -> None:
        if self.ended(0.0) is None:
            os.kill(self.pid, number)

    def ended(self, patience: float) -> int | None:
        """Wait for its end; return the exit code, or None when it has not ended."""
        if self._code is None:
            self._code = nursery().ended(self.pid, patience)
        return self._code


class Nursery:
    """The process that forks children, see ``nursery.py``."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "nursery.py")],
            env=unmeasured(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._began: SimpleQueue[int] = SimpleQueue()
        self._codes: dict[int, int] = {}
        self._ending = threading.Condition()
        threading.Thread(target=self._listen, name="nursery", daemon=True).start()

    def begin(self, told: dict[str, Any], output: Path) -> int:
        """Start a shop; return the number of its process."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"told": told, "output": str(output)}).encode() + b"\n")
        self._process.stdin.flush()
        return self._began.get(timeout=PATIENCE)

    def ended(self, pid: int, patience: float) -> int | None:
        """Wait for a process to end; return its exit code, once, or None when it has not ended."""
        with self._ending:
            self._ending.wait_for(lambda: pid in self._codes, patience)
            return self._codes.pop(pid, None)

    def end(self) -> None:
        """End it, and every child."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            what, pid, *code = line.decode().split()
            if what == "began":
                self._began.put(int(pid))
                continue
            with self._ending:
                self._codes[int(pid)] = int(code[0])
                self._ending.notify_all()


@functools.cache
def nursery() -> Nursery:
    """Return the nursery of these tests; it is started by the first that needs it."""
    started = Nursery()
    atexit.register(started.end)
    return started


def unmeasured() -> dict[str, str]:
    """Return the environment of a process whose coverage is not measured: a kill would break it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
