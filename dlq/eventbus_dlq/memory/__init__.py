"""The reference store: what ``eventbus_dlq.store`` promises, in plain Python.

``store`` and ``control_store`` are the face: a lock, and one call for each method. ``rows`` keeps the letters
and finds them again, ``sequences`` keeps their order, ``taking_in`` and ``running`` hold the verbs that come
before a run and around it, ``listing`` what a listing shows, ``processes`` who runs. ``controls`` keeps what
operators have set, ``parking`` what follows from it for a letter, ``announcements`` what is to be told.
"""

from eventbus_dlq.memory.store import MemoryStore

__all__ = ["MemoryStore"]
