"""``eventbus publish`` as people and scripts meet it."""

from __future__ import annotations

import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from eventbus import EventBus
from eventbus_adapters.cli import publish as command
from eventbus_adapters.cli.app import app
from eventbus_adapters.cli.feed import Tally
from eventbus_dlq import DeadLetterQueue

RUN = [sys.executable, "-c", "from eventbus_adapters.cli import main; main()"]


def orders(*ids: int, fails: bool = False) -> str:
    return "".join(
        json.dumps({"event": "order.placed", "data": {"order_id": order, "fails": fails}}) + "\n"
        for order in ids
    )


def test_a_file_is_published_and_summed_up(shop: Path) -> None:
    (shop / "orders.ndjson").write_text(orders(1, 2) + orders(3, fails=True))
    result = CliRunner().invoke(app, ["publish", "shop:bus", "orders.ndjson"])
    assert result.exit_code == 0, result.output
    assert result.stdout == "3 events published; 1 failed deliveries kept as dead letters; 0 bad lines\n"
    assert result.stderr == ""
    assert {order for order, _ in sys.modules["shop"].seen} == {1, 2, 3}


def test_bad_lines_are_told_on_standard_error_and_make_the_exit_code_1(shop: Path) -> None:
    (shop / "orders.ndjson").write_text(orders(1) + "{\n" + orders(2))
    result = CliRunner().invoke(app, ["publish", "shop:bus", "orders.ndjson"])
    assert result.exit_code == 1
    assert result.stderr.startswith("line 2: not JSON")
    assert result.stdout.startswith("2 events published")


def test_a_failure_that_nothing_keeps_makes_the_exit_code_1(shop: Path) -> None:
    source = (shop / "shop.py").read_text().replace("EventBus(dlq=", "EventBus() if True else EventBus(dlq=")
    (shop / "careless.py").write_text(source)
    (shop / "orders.ndjson").write_text(orders(1, fails=True))
    result = CliRunner().invoke(app, ["publish", "careless:bus", "orders.ndjson"])
    assert result.exit_code == 1
    assert "1 failed deliveries NOT kept" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere:bus", "shop.py"], "no module 'nowhere'"),
        (["shop:number", "shop.py"], "not an EventBus"),
        (["shop:bus", "missing"], "missing cannot be opened: No such file or directory"),
        (["shop:bus", "."], ". is a directory"),
        (["shop:bus", "shop.py", "--concurrency", "0"], "--concurrency"),
    ],
)
def test_what_cannot_be_begun_has_exit_code_2(shop: Path, arguments: list[str], says: str) -> None:
    result = CliRunner().invoke(app, ["publish", *arguments])
    assert result.exit_code == 2
    assert says in result.stderr
    assert "Traceback" not in result.stderr


def test_the_application_s_own_traceback_is_shown(shop: Path) -> None:
    (shop / "broken.py").write_text("def start():\n    return 1 / 0\n\nstart()\n")
    result = CliRunner().invoke(app, ["publish", "broken:bus", "shop.py"])
    assert result.exit_code == 2
    assert "line 2, in start" in result.stderr
    assert "importing broken raised ZeroDivisionError" in result.stderr


def test_a_store_that_cannot_be_opened_has_exit_code_2(shop: Path) -> None:
    (shop / "shop.db").mkdir()
    (shop / "orders.ndjson").write_text(orders(1))
    result = CliRunner().invoke(app, ["publish", "shop:bus", "orders.ndjson"])
    assert result.exit_code == 2
    assert "cannot be started" in result.stderr


def test_the_exit_codes_are_in_the_help() -> None:
    result = CliRunner().invoke(app, ["publish", "--help"])
    assert result.exit_code == 0
    assert "Exit codes: 0" in result.stdout


def run(*arguments: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*RUN, *arguments], input=stdin, capture_output=True, timeout=60, check=False)


def test_standard_input_is_read_to_its_end(shop: Path) -> None:
    done = run("publish", "shop:bus", stdin=(orders(1, 2) + "nonsense").encode())
    assert done.returncode == 1
    assert done.stdout.startswith(b"2 events published")
    assert done.stderr.startswith(b"line 3: not JSON")


def test_a_closed_standard_input_is_told(shop: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" <&-', "sh", *RUN, "publish", "shop:bus"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert b"standard input" in done.stderr


def test_nobody_to_read_the_output_loses_no_event_and_is_no_failure(shop: Path) -> None:
    (shop / "orders.ndjson").write_text("bad\n" * 3 + orders(*range(20), fails=True))
    readers, writers = zip(os.pipe(), os.pipe(), strict=True)
    for reader in readers:
        os.close(reader)
    done = subprocess.run(
        [*RUN, "publish", "shop:bus", "orders.ndjson"],
        stdout=writers[0],
        stderr=writers[1],
        timeout=60,
        check=False,
    )
    for writer in writers:
        os.close(writer)
    assert done.returncode == 1  # the bad lines
    with closing(sqlite3.connect("shop.db")) as kept:
        assert kept.execute("SELECT count(*) FROM eventbus_dead_letters").fetchone() == (20,)


def test_ctrl_c_finishes_what_is_under_way_and_sums_up(shop: Path) -> None:
    marked = (shop / "shop.py").read_text() + "\n    print('seen', flush=True)\n"
    (shop / "shop.py").write_text(
        marked.replace("\n\nclass Parts:\n    inner = bus\n\n    print", "\n    print")
    )
    process = subprocess.Popen(
        [*RUN, "publish", "shop:bus"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(orders(1).encode())
    process.stdin.flush()
    assert process.stdout.readline() == b"seen\n"
    process.send_signal(signal.SIGINT)
    process.wait(timeout=30)  # its input stays open: only the signal ends it
    out, err = process.communicate()
    assert process.returncode == 130, err
    assert out.startswith(b"1 events published")
    assert out.endswith(b"stopped after line 1\n")
    assert err == b""


async def test_a_bus_that_runs_already_is_used_as_it_is(shop: Path, dlq: DeadLetterQueue) -> None:
    (shop / "pings.ndjson").write_text('{"event": "ping", "data": 1}\n' * 3)
    heard: list[object] = []
    bus = EventBus(dlq=dlq)

    async def hear(data: object) -> None:
        heard.append(data)

    bus.subscribe("ping", hear, id="hear")
    descriptor = os.open("pings.ndjson", os.O_RDONLY)
    try:
        async with bus:
            tally = await command.feed(bus, descriptor, concurrency=2)
            assert bus.running
    finally:
        os.close(descriptor)
    assert tally.published == 3
    assert heard == [1, 1, 1]


def test_a_terminal_gets_a_bar_on_standard_error(shop: Path) -> None:
    (shop / "orders.ndjson").write_text(orders(*range(100)))
    terminal, theirs = pty.openpty()
    done = subprocess.run(
        [*RUN, "publish", "shop:bus", "orders.ndjson"],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
        timeout=60,
        check=False,
    )
    os.close(theirs)
    shown = os.read(terminal, 65_536)
    os.close(terminal)
    assert done.returncode == 0
    assert done.stdout.startswith(b"100 events published")
    assert b"publishing (bytes)" in shown
    assert b"100%" in shown


@pytest.mark.parametrize(
    ("tally", "code", "says"),
    [
        (Tally(published=1), 0, "0 bad lines"),
        (
            Tally(published=1, cut_short=2, stopped=True, last_line=3),
            130,
            "2 events cut short; stopped after line 3",
        ),
        (Tally(error=OSError("gone"), last_line=4), 1, "ended early after line 4: gone"),
        (Tally(lost=5), 1, "5 failed deliveries NOT kept"),
        (Tally(bad=1_000), 1, "1,000 bad lines"),
    ],
)
def test_the_summary_and_the_exit_code_say_how_it_ended(tally: Tally, code: int, says: str) -> None:
    assert command.exit_code(tally) == code
    assert command.summary(tally).endswith(says)
