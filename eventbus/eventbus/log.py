"""The bus's log: structlog's, and no line that cannot be written ends the work that it tells of."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

import structlog


class Log:
    """Hands lines to structlog's logger ``eventbus``, as the application has configured it.

    What that raises, on a full disk or in a processor of the application's own, is told on stderr.
    """

    def __init__(self) -> None:
        self._log: Any = structlog.get_logger("eventbus")

    def info(self, event: str, **fields: object) -> None:
        """Write a line about something that is as it should be."""
        self._write("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Write a line about something that may need a look."""
        self._write("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Write a line about something that needs a person."""
        self._write("error", event, fields)

    def exception(self, event: str, **fields: object) -> None:
        """Write a line about something that needs a person, with the exception that is being handled."""
        self._write("exception", event, fields)

    def _write(self, level: str, event: str, fields: dict[str, object]) -> None:
        try:
            getattr(self._log, level)(event, **fields)
        except Exception as error:
            with suppress(OSError, ValueError, AttributeError):  # full as well, closed, or not there at all
                sys.stderr.write(f"eventbus: the log line {event!r} could not be written: {error!r}\n")
