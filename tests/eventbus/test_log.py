"""A log that cannot be written: a full disk, or a processor of the application's that raises."""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest
import structlog

from eventbus import EventBus
from eventbus.log import Log


@pytest.fixture
def full_disk() -> Iterator[None]:
    def refuse(*_: object) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = structlog.get_config()
    structlog.configure(processors=[refuse])
    yield
    structlog.configure(**before)


@pytest.mark.usefixtures("full_disk")
async def test_a_log_that_cannot_be_written_ends_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    bus = EventBus()
    seen: list[int] = []

    @bus.on("job", id="broken")
    async def broken(event: Any) -> None:
        raise RuntimeError("fails")

    @bus.on("job", id="fine")
    async def fine(event: Any) -> None:
        seen.append(event)

    async with bus:
        receipt = await bus.publish("job", 1)
    assert receipt.failed == ("broken",)
    assert seen == [1]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("eventbus: the log line 'delivery.failed' could not be written: OSError(28")


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize("closed", [True, False])
def test_a_process_without_a_place_to_complain_goes_on(closed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    stream.close()
    monkeypatch.setattr(sys, "stderr", stream if closed else None)
    Log().error("something")


def test_each_level_and_its_fields_reach_structlog() -> None:
    with structlog.testing.capture_logs() as logs:
        log = Log()
        log.info("one", number=1)
        log.warning("two")
        log.error("three")
        try:
            raise ValueError("four")
        except ValueError:
            log.exception("four")
    assert [(it["event"], it["log_level"]) for it in logs] == [
        ("one", "info"),
        ("two", "warning"),
        ("three", "error"),
        ("four", "error"),
    ]
    assert logs[0]["number"] == 1
    assert logs[3]["exc_info"] is True
