"""The order of one sequence: which letter is its head, and which ones are held back."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING, NamedTuple

from eventbus_dlq.letter import OPEN_STATES, DeadLetter, DeadLetterState
from eventbus_dlq.store import SequenceKey

if TYPE_CHECKING:
    from collections.abc import Collection

_HAVE_FAILED = frozenset({DeadLetterState.PENDING, DeadLetterState.EXHAUSTED, DeadLetterState.PARKED})


class _Place(NamedTuple):
    number: int
    dead_letter_id: str


def sequence_of(letter: DeadLetter) -> SequenceKey | None:
    """Return the sequence that ``letter`` is part of while it is open; None when it has no key."""
    return None if letter.ordering_key is None else SequenceKey(letter.handler_id, letter.ordering_key)


def is_open(letter: DeadLetter) -> bool:
    """Tell whether ``letter`` has its place in a sequence now."""
    return letter.state in OPEN_STATES


def blocks(letter: DeadLetter, before: DeadLetterState | None) -> bool:
    """Tell whether ``letter``, claimed in the state ``before``, holds back what is accepted behind it."""
    if letter.state is DeadLetterState.RUNNING:
        return before is not DeadLetterState.ACCEPTED
    return letter.state in _HAVE_FAILED


class Line:
    """The open letters of one sequence, in the order in which they were stored.

    Attributes:
        head: the id of the one that does not wait; None when there are no letters.
    """

    def __init__(self) -> None:
        self.head: str | None = None
        self._order: list[_Place] = []
        self._place_of: dict[str, _Place] = {}
        self._accepted: dict[str, None] = {}
        self._running: dict[str, None] = {}
        self._blocking: dict[str, None] = {}

    def __contains__(self, dead_letter_id: str) -> bool:
        return dead_letter_id in self._place_of

    def enter(self, number: int, dead_letter_id: str) -> None:
        """Take a letter in at its place; it becomes the head when it is the first and none runs."""
        place = _Place(number, dead_letter_id)
        insort(self._order, place)
        self._place_of[dead_letter_id] = place
        if self.head is None or (self.head not in self._running and place < self._place_of[self.head]):
            self.head = dead_letter_id

    def leave(self, dead_letter_id: str) -> None:
        """Let a letter go; when it was the head, the first of the others becomes it."""
        del self._order[bisect_left(self._order, self._place_of.pop(dead_letter_id))]
        for group in (self._accepted, self._running, self._blocking):
            group.pop(dead_letter_id, None)
        if self.head == dead_letter_id:
            self.head = self._order[0].dead_letter_id if self._order else None

    def note(self, letter: DeadLetter, before: DeadLetterState | None) -> None:
        """Take down the state of a letter of this sequence."""
        _mark(self._accepted, letter.id, letter.state is DeadLetterState.ACCEPTED)
        _mark(self._running, letter.id, letter.state is DeadLetterState.RUNNING)
        _mark(self._blocking, letter.id, blocks(letter, before))

    def held_back(self) -> Collection[str]:
        """Return the ids of the accepted letters that are to be parked, because the sequence is blocked."""
        return [it for it in self._accepted if it != self.head] if self._blocking else ()


def _mark(group: dict[str, None], dead_letter_id: str, belongs: bool) -> None:
    if belongs:
        group[dead_letter_id] = None
    else:
        group.pop(dead_letter_id, None)
