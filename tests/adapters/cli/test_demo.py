"""``eventbus demo`` as people meet it, on a part of its records."""

from __future__ import annotations

import re
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from eventbus_adapters.cli import demo as command
from eventbus_adapters.cli import leaving, story
from eventbus_adapters.cli.app import app
from eventbus_adapters.demo.application import Application
from eventbus_dlq import StoreUnavailable

RUN = [sys.executable, "-c", "from eventbus_adapters.cli import main; main()", "demo"]


def numbers(row: str, output: str) -> list[int]:
    """Return the numbers in the row of a table."""
    (line,) = [line for line in output.splitlines() if line.startswith(f"│ {row} ")]
    return [int(cell.replace(",", "")) for cell in line.split("│")[2:-1]]


def test_once_shows_what_failed_mends_replays_and_loses_nothing(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["demo", "--once", "--limit", "600", "--folder", str(tmp_path / "new")])
    assert result.exit_code == 0, result.output
    out = result.stdout
    assert "publishing: 120 of 600" in out
    assert "ConnectionRefusedError" in out
    assert "raised in" in out
    assert "payload" in out
    (replayed, resolved) = re.findall(r"Replayed (\d+) .*?: (\d+) resolved, 0 failed again, 0 skipped", out)[
        0
    ]
    assert replayed == resolved != "0"
    deliveries, handled, waiting, lost = numbers("all", out)
    assert (deliveries, lost) == (3_000, 0)
    assert handled + waiting == 3_000
    assert waiting > 0
    assert "Nothing was lost" in out
    with sqlite3.connect(tmp_path / "new" / "airports.db") as own:
        assert own.execute("SELECT count(*) FROM clocks").fetchone() == (600,)
        assert own.execute("SELECT sum(airports) FROM countries").fetchone() == (600,)
    own.close()


def test_what_is_in_neither_database_is_named_and_makes_the_exit_code_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def robbed(console: object, application: Application, query: object) -> None:
        def rob(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM counted")

        await application.database.write(rob)

    monkeypatch.setattr(story, "_mend", robbed)
    result = CliRunner().invoke(app, ["demo", "--once", "--limit", "25", "--folder", str(tmp_path)])
    assert result.exit_code == 1
    assert numbers("countries.count", result.stdout)[-1] == 25
    assert "LOST 25 deliveries: countries.count of" in result.stdout.replace("\n", " ")
    assert "and 5 more" in result.stdout.replace("\n", " ")


def test_records_without_a_failure_need_no_letter_to_be_shown(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["demo", "--once", "--limit", "1", "--folder", str(tmp_path)])
    assert result.exit_code == 0
    assert "Dead letters: none." in result.stdout


@pytest.mark.parametrize("name", ["airports.db", "dead-letters.db"])
def test_a_folder_with_another_run_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    result = CliRunner().invoke(app, ["demo", "--once", "--folder", str(tmp_path)])
    assert result.exit_code == 2
    assert f"{name} is from another run" in result.stderr


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = CliRunner().invoke(app, ["demo", "--once", "--folder", str(tmp_path / "file" / "deeper")])
    assert result.exit_code == 2
    assert "cannot be made" in result.stderr


def test_a_folder_that_no_url_can_name_is_told(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["demo", "--once", "--folder", str(tmp_path / "why?")])
    assert result.exit_code == 2
    assert "has a '?'" in result.stderr


def test_odd_names_of_folders_are_no_obstacle(tmp_path: Path) -> None:
    folder = tmp_path / "100% größe #1 & co"
    result = CliRunner().invoke(app, ["demo", "--once", "--limit", "5", "--folder", str(folder)])
    assert result.exit_code == 0, result.output
    assert {path.name for path in folder.iterdir()} >= {"airports.db", "dead-letters.db"}


def test_a_port_that_is_taken_is_told_before_the_work_begins() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(app, ["demo", "--port", str(port)])
    assert result.exit_code == 2
    assert f"port {port} of 127.0.0.1 cannot be used" in result.stderr
    assert result.stdout == ""


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "find_spec", lambda name: None)
    result = CliRunner().invoke(app, ["demo"])
    assert result.exit_code == 2
    assert "airportsdata, uvicorn" in result.stderr
    assert "pip install 'eventbus[demo]'" in result.stderr


def test_a_machine_without_time_zones_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> object:
        raise command.ZoneInfoNotFoundError(name)

    monkeypatch.setattr(command, "ZoneInfo", unknown)
    result = CliRunner().invoke(app, ["demo", "--once"])
    assert result.exit_code == 2
    assert "pip install tzdata" in result.stderr


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (StoreUnavailable("the disk is full"), 2, "the disk is full"),
        (sqlite3.OperationalError("readonly"), 2, "readonly"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_ends_it_early_is_told_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, says: str
) -> None:
    async def broken(*_: object) -> bool:
        raise error

    monkeypatch.setattr(story, "tell", broken)
    result = CliRunner().invoke(app, ["demo", "--once", "--folder", str(tmp_path)])
    assert result.exit_code == code
    assert says in result.stderr


def test_it_serves_the_admin_until_ctrl_c_and_its_curl_lines_work() -> None:
    process = subprocess.Popen(
        [*RUN, "--port", "0", "--limit", "400"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    curls: list[str] = []
    for line in process.stdout:
        if line.startswith("  curl"):
            curls.append(line)
        if "/api/operations" in line:
            break
    try:
        listing, stats, letter, replay, replay_all = [_request(curl) for curl in curls]
        waiting = listing.json()["items"]
        assert {item["error_type"] for item in waiting} == {"TimeoutError"}
        assert stats.json()["by_state"]["pending"] >= 1
        assert letter.json()["payload"]["zone"].startswith("Indian/")
        assert replay.json()["state"] == "resolved"
        assert replay_all.json()["failed"] == 0
        assert httpx.get(str(stats.url)).status_code == 401
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert out.endswith("Stopped.\n")
    assert err == ""


def _request(curl: str) -> httpx.Response:
    """Send what a line of curl would."""
    words = iter(shlex.split(curl)[1:])
    method, url, headers, body = "GET", "", {}, None
    for word in words:
        if word == "-H":
            name, _, value = next(words).partition(": ")
            headers[name] = value
        elif word == "-X":
            method = next(words)
        elif word == "-d":
            body = next(words)
        elif not word.startswith("-"):
            url = word
    response = httpx.request(method, url, headers=headers, content=body)
    assert response.status_code == 200, response.text
    return response


def test_nobody_to_read_the_output_is_no_traceback(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*RUN, "--once", "--limit", "20", "--folder", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 1
    assert err == ""
