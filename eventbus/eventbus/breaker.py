"""The circuit of one handler of a bus: on the bus's clock, telling when it opens and closes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from eventbus.circuit import Circuit, CircuitState
from eventbus.log import Log

if TYPE_CHECKING:
    from collections.abc import Callable

    from eventbus.circuit import CircuitPolicy, Permit
    from eventbus.failure import ErrorRecord
    from eventbus.ports import Clock
    from eventbus.telemetry import Telemetry

_log = Log()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitStatus:
    """How a handler's circuit stands in this process.

    Attributes:
        state: how its deliveries are let through.
        failures: transient failures since the last success.
        opened_at: since when it has not been closed (aware UTC); None while it is.
        next_probe_at: when a delivery tries again (aware UTC); None while some may run already.
        error_type: class of the last transient error; empty while there was none.
    """

    state: CircuitState
    failures: int
    opened_at: datetime | None
    next_probe_at: datetime | None
    error_type: str


class Breaker:
    """What a handler's deliveries ask before they run, and tell how they ended; see :class:`Circuit`.

    Args:
        changed: called when its circuit has come into another state.

    Attributes:
        handler_id: the subscription's id.
        is_closed: whether any number of deliveries may run.
    """

    def __init__(
        self,
        handler_id: str,
        policy: CircuitPolicy,
        *,
        clock: Clock,
        telemetry: Telemetry,
        changed: Callable[[Breaker], None],
    ) -> None:
        self.handler_id = handler_id
        self.is_closed = True
        self._circuit = Circuit(policy)
        self._clock = clock
        self._telemetry = telemetry
        self._changed = changed
        self._error_type = ""
        self._told: CircuitState = CircuitState.CLOSED
        self._left = 0.0

    @property
    def until_open(self) -> int:
        """How many more deliveries have to fail in a row to open it, as long as it is closed."""
        return self._circuit.until_open

    @property
    def state(self) -> CircuitState:
        """How deliveries are let through."""
        return self._circuit.state

    def allowance(self) -> int | None:
        """Return how many deliveries may begin now; None for any number."""
        return self._circuit.allowance(self._clock.monotonic())

    def begin(self) -> Permit | None:
        """Let a delivery run; return None when it may not. The permit is given back with the run's end."""
        if self.is_closed:
            return self._circuit.attend()
        permit = self._circuit.begin(self._clock.monotonic())
        self._note()
        return permit

    def attend(self) -> Permit:
        """Return a permit for a run that somebody has asked for, whatever the circuit says of it."""
        return self._circuit.attend()

    def is_current(self, permit: Permit | None) -> bool:
        """Tell whether a permit still lets a run begin."""
        return permit is not None and self._circuit.is_current(permit)

    def succeeded(self, permit: Permit) -> None:
        """Take note that a run has succeeded."""
        if self.is_closed and not self._circuit.failures:
            return
        self._circuit.succeeded(permit, self._clock.monotonic())
        self._note()

    def failed(self, permit: Permit, error: ErrorRecord, *, delivery: str) -> bool:
        """Take note that a run has failed; return whether that is not held against its delivery."""
        category = error.category
        now = self._clock.monotonic()
        before = self._circuit.failures
        excused = self._circuit.failed(permit, category, now, delivery=delivery)
        if self._circuit.failures > before:
            self._error_type = error.type
        self._note()
        return excused

    def cancelled(self, permit: Permit) -> None:
        """Take note that nothing is known of how a run ended: interrupted, lost, or never begun."""
        self._circuit.cancelled(permit, self._clock.monotonic())
        self._note()

    def retry_after(self, *, turns: int = 0) -> float:
        """Return the seconds after which an excused delivery is to be tried again; 0 while it is not open."""
        return self._circuit.retry_after(self._clock.monotonic(), turns=turns)

    def next_probe_at(self) -> datetime | None:
        """Return when a delivery may begin although none may now (aware UTC); None while it is closed."""
        due = self._circuit.next_probe()
        return None if due is None else self._moment(due)

    def status(self) -> CircuitStatus:
        """Return how it stands."""
        circuit = self._circuit
        return CircuitStatus(
            state=circuit.state,
            failures=circuit.failures,
            opened_at=None if circuit.since is None else self._moment(circuit.since),
            next_probe_at=self.next_probe_at() if circuit.state is CircuitState.OPEN else None,
            error_type=self._error_type,
        )

    def _moment(self, reading: float) -> datetime:
        passed = timedelta(seconds=reading - self._clock.monotonic())
        return _EPOCH + timedelta(microseconds=self._clock.time_ns() // 1000) + passed

    def _note(self) -> None:
        """Tell of a new state: in the log only when the circuit leaves the closed one, or is back in it."""
        state = self._circuit.state
        if state is self._told:
            return
        was_closed, self._told = self.is_closed, state
        self.is_closed = state is CircuitState.CLOSED
        failures = self._circuit.failures
        # of the error only its class: what a message says may not be for the log
        if was_closed:
            self._left = self._clock.monotonic()
            _log.warning(
                "circuit.opened",
                handler_id=self.handler_id,
                failures=failures,
                error_type=self._error_type,
                next_probe=self._circuit.policy.delay,
            )
        elif self.is_closed:
            seconds = round(self._clock.monotonic() - self._left, 1)
            _log.warning("circuit.closed", handler_id=self.handler_id, seconds=seconds)
        self._telemetry.emit(
            "circuit.changed",
            handler=self.handler_id,
            state=state,
            failures=failures,
            error_type=self._error_type,
        )
        self._changed(self)
