"""How far the writes of a spool have come: what decides whether later ones queue behind."""

from __future__ import annotations

import threading


class Progress:
    """Counts what is on its way. Every method may be called from any thread.

    A spool is direct, and later writes go to the store themselves, when nothing is being appended, when
    all that was appended is imported, and when no file of a dead process that it found at its start is
    left. One lock decides, so that no write can come between the last import and the first direct write.

    Args:
        inherited: how many files of dead processes were found at the start.
    """

    def __init__(self, inherited: int = 0) -> None:
        self._lock = threading.Lock()
        self._appending = 0
        self._kept = 0
        self._imported = 0
        self._inherited = inherited

    @property
    def is_waiting(self) -> bool:
        """Whether some writes are not in the store yet."""
        with self._lock:
            return self._appending > 0 or self._imported < self._kept or self._inherited > 0

    @property
    def imported_to(self) -> int:
        """Up to which position of the own file everything is in the store."""
        return self._imported

    def appending(self) -> None:
        """Note an append that was handed over."""
        with self._lock:
            self._appending += 1

    def appended(self, appends: int, *, kept: int) -> None:
        """Note that appends have ended, well or not; ``kept`` is the position behind the last record."""
        with self._lock:
            self._appending -= appends
            self._kept = kept

    def imported(self, position: int) -> None:
        """Note up to which position of the own file everything is in the store."""
        with self._lock:
            self._imported = position

    def replaced(self) -> None:
        """Note that the own file is another one, with nothing in it."""
        with self._lock:
            self._kept = self._imported = 0

    def inherited(self, files: int) -> None:
        """Note how many of those files are left."""
        with self._lock:
            self._inherited = files
