"""Adding attempts to a history as it is stored, without reading it."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from eventbus_adapters.sql.encoding import LAST, error_json, failure_of, history_json
from eventbus_adapters.sql.plain import error_of_values
from eventbus_dlq.letter import MAX_HISTORY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventbus.failure import ErrorRecord
    from eventbus_dlq.letter import Attempt

NOTHING = b"[]"

# Neither can be part of a text: there, quotation marks come behind a backslash.
_BEGIN = b'{"number":'
_LIKE_THE_LAST = f'"error":"{LAST}"'.encode()


def added(
    history: object, failure: tuple[Any, ...], attempts: Sequence[Attempt], error: ErrorRecord
) -> bytes | None:
    """Return a stored history with more attempts, of a letter whose own error becomes ``error``.

    Args:
        history: as it is stored.
        failure: how the letter had failed before: its columns as ``failure_of`` gives them.
        attempts: the ones that are added.
        error: the one that they are told to be like, where they are.

    Returns:
        None when it is too long for all of it to be kept, or not as the store writes it.
    """
    if type(history) is not bytes or not (history.startswith(b"[") and history.endswith(b"]")):
        return None
    if history.count(_BEGIN) + len(attempts) > MAX_HISTORY:
        return None
    more = history_json(attempts, error)
    if history == NOTHING:
        return more
    if _LIKE_THE_LAST in history and failure != failure_of(error):
        before = _error_json(failure)
        if before is None:
            return None
        history = history.replace(_LIKE_THE_LAST, b'"error":' + before)
    return history if more == NOTHING else history[:-1] + b"," + more[1:]


@lru_cache(maxsize=64)
def _error_json(failure: tuple[Any, ...]) -> bytes | None:
    error = error_of_values(failure)
    return None if error is None else error_json(error).encode()
