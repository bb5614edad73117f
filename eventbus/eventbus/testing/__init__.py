"""eventbus.testing: a clock that a test turns, and a recorder of what a bus was given and did with it.

pytest finds the fixtures ``fake_clock`` and ``event_recorder`` by itself, see
:mod:`eventbus.testing.plugin`.
"""

from eventbus.testing.clock import FakeClock
from eventbus.testing.recorder import RecordedDelivery, Recorder

__all__ = ["FakeClock", "RecordedDelivery", "Recorder"]
