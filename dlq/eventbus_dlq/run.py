"""One claimed letter in the hands of a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import anyio

    from eventbus.breaker import Breaker
    from eventbus.circuit import Permit
    from eventbus_dlq.store import Claim, Settlement


class Run:
    """One claimed letter, from its claim until it is settled.

    Attributes:
        claim: what was claimed.
        scope: what cancels its handler, while that runs.
        settlement: how it is to be recorded; None for a release.
        duration: seconds that the handler took.
        ended: whether it needs recording.
        lost: whether its lease is somebody else's by now.
        refused: how often the store has refused to record it.
        held_up: how often somebody's transaction has kept it from being recorded.
        breaker: the circuit of its handler; None when that has none.
        permit: what the circuit has let it begin with, until it is told how the run has ended.
        excused: whether it has failed because of an outage.
        by_hand: whether a person has asked for it.
    """

    __slots__ = (
        "breaker",
        "by_hand",
        "claim",
        "duration",
        "ended",
        "excused",
        "held_up",
        "lost",
        "permit",
        "refused",
        "scope",
        "settlement",
    )

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.scope: anyio.CancelScope | None = None
        self.settlement: Settlement | None = None
        self.duration = 0.0
        self.ended = False
        self.lost = False
        self.refused = 0
        self.held_up = 0
        self.breaker: Breaker | None = None
        self.permit: Permit | None = None
        self.excused = False
        self.by_hand = False

    @property
    def runs_once(self) -> bool:
        """Whether its handler is to be tried a single time: it probes."""
        return self.permit is not None and self.permit.counts

    def lose(self) -> None:
        """Take note that the lease is lost; cancel the handler."""
        if not self.ended:  # else the store's answer to its settlement says so
            self.lost = True
            if self.scope is not None:
                self.scope.cancel()
