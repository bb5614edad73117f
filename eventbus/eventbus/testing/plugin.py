"""Fixtures that pytest finds by itself once eventbus is installed.

===================  =====================================================================
fixture              gives
===================  =====================================================================
``fake_clock``       a :class:`~eventbus.testing.FakeClock` of the test's own
``event_recorder``   a function that records a bus until the test ends: ``event_recorder(bus)``
===================  =====================================================================

Nothing is done for tests that ask for neither.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from eventbus.testing import FakeClock, Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from eventbus.bus import EventBus


@pytest.fixture
def fake_clock() -> FakeClock:
    """Return a clock that stands still until the test turns it."""
    return FakeClock()


@pytest.fixture
def event_recorder() -> Iterator[Callable[[EventBus], Recorder]]:
    """Return a function that records a bus until the test ends."""
    with ExitStack() as recorders:
        yield lambda bus: recorders.enter_context(Recorder(bus))
