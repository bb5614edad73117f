"""Where the demo asks for time zones, and the one fault that it switches on and mends."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping

OUTAGE: Mapping[str, OSError] = {
    "Africa": ConnectionRefusedError(111, "time-zone service of Africa: connection refused"),
    "Indian": TimeoutError("time-zone service of the Indian Ocean did not answer within 2 s"),
}
"""What the parts of the world answer while the fault is on, by the first word of a zone's name."""


class TimeZones:
    """A service that knows the rules of every time zone, with one server for each part of the world.

    Attributes:
        outage: the servers that are down, and what they answer.
    """

    def __init__(self, outage: Mapping[str, OSError] = OUTAGE) -> None:
        self.outage = dict(outage)

    def mend(self) -> None:
        """Bring every server up again."""
        self.outage.clear()

    async def find(self, name: str) -> ZoneInfo:
        """Return the rules of a time zone.

        Raises:
            ConnectionError: the server for that part of the world is down.
            TimeoutError: it does not answer.
            ValueError: there is no such zone.
        """
        answer = self.outage.get(name.partition("/")[0])
        if answer is not None:
            raise type(answer)(*answer.args)
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"{name!r} is no time zone that this machine knows") from error
