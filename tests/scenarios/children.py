"""Processes of a shop, from the outside: started, killed, frozen and waited for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ledger import Ledger

HERE = Path(__file__).parent
PATIENCE = 60.0
KILLED = -9


class Child:
    """One process of a shop."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.ledger = Ledger(folder / "ledger")
        self._errors = (folder / "errors.log").open("ab")
        told = {"ledger": str(self.ledger.path), **settings}
        path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "shop.py"), json.dumps(told)],
            env={**os.environ, "PYTHONPATH": path},
            stdout=self._errors,
            stderr=self._errors,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def until(self, what: str, who: str, *, times: int = 1) -> None:
        """Wait until this process has said something so many times."""
        deadline = time.monotonic() + PATIENCE
        while sum(self._is(line, what, who) for line in self.ledger.lines()) < times:
            assert self.process.poll() is None, f"it ended with {self.process.returncode}: {self.errors()}"
            assert time.monotonic() < deadline, f"{who} has not {what} {times} times; {self.errors()}"
            time.sleep(0.01)

    def _is(self, line: Any, what: str, who: str) -> bool:
        return bool(line.pid == self.pid and line.what == what and line.who == who)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def wait(self, patience: float = PATIENCE) -> int:
        """Return the exit code; negative is the signal that killed it."""
        return self.process.wait(patience)

    def errors(self) -> str:
        self._errors.flush()
        return Path(self._errors.name).read_text(errors="replace")[-4000:]
