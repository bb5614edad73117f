"""Has everything imported that a shop needs, and forks one for each line of its input.

Python takes most of a second to import it all; this way the processes of a scenario begin at once. It reads
what a shop is told, as JSON, and a file for its output; it writes which process has begun, and how each ends.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import traceback
from typing import Any

from shop_process import open_for_business

import eventbus_adapters.sql.postgres.running  # noqa: F401  # what a shop on PostgreSQL imports


def serve() -> None:
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    children: set[int] = set()
    rest = b""
    while True:
        ready, _, _ = select.select([0, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
        for pid in tuple(children):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                children.remove(pid)
                tell("ended", pid, os.waitstatus_to_exitcode(status))
        if 0 in ready:
            read = os.read(0, 65_536)
            if not read:  # the tests are over
                break
            *lines, rest = (rest + read).split(b"\n")
            for line in lines:
                pid = os.fork() or live(**json.loads(line))
                children.add(pid)
                tell("began", pid)
    for pid in children:
        os.kill(pid, signal.SIGKILL)


def tell(*words: object) -> None:
    os.write(1, " ".join(map(str, words)).encode() + b"\n")


def live(told: dict[str, Any], output: str) -> int:
    """Be a shop, in the child, until it ends; never return."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    written = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(written, 1)
    os.dup2(written, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    code = 1
    try:
        open_for_business(told)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve()
