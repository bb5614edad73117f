"""The last evidence: what the message says, in phrases that state something.

"Invalid timeout value" is not a timeout, a number is not a code, and what stands in quotes is somebody's
value: only a predicate counts ("timed out", "connection refused", "quota exceeded"). Each phrase is asked
only when its word is there, because messages are long and phrases are many.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache

from eventbus.classify.kinds import Kind
from eventbus.classify.phrases import PHRASES

_QUOTED = re.compile(
    r"\"[^\"\n]{0,80}\"|(?<!\w)'[^'\n]{0,80}'(?!\w)|`[^`\n]{0,80}`|"
    "\u2018[^\u2019]{0,80}\u2019|\u201c[^\u201d]{0,80}\u201d"
)
_QUOTES = re.compile("[\"'`\u2018\u201c]")
_TOKEN = re.compile(r"[a-z]+")
_SPACES = re.compile(r"[\s_]+")
_DENIED = re.compile(
    r"\b(?:not|never|without|no|nothing|wasn't|isn't|n't|neither|if|whether|in case|unless|until|"
    r"avoid\w*|prevent\w*)(?: \w+)? ?$"
)

_BY_TRIGGER: dict[str, list[int]] = {}
for _number, _entry in enumerate(PHRASES):
    for _trigger in _entry[1].split():
        _BY_TRIGGER.setdefault(_trigger, []).append(_number)


@lru_cache(maxsize=256)
def kind_of_text(text: str) -> Kind | None:
    """Return what a message states, or None; cached, because failures come in floods of the same.

    The caller bounds its length.
    """
    if not text:
        return None
    text = _plain(text)
    asked = {number for token in _TOKEN.findall(text) for number in _BY_TRIGGER.get(token, ())}
    for number in sorted(asked):
        found = _phrase(number).search(text)
        if found is not None and _DENIED.search(text[max(0, found.start() - 24) : found.start()]) is None:
            return PHRASES[number][0]
    return None


@cache
def _phrase(number: int) -> re.Pattern[str]:
    """Compile a phrase when it is asked first: all of them together would hold up the event loop."""
    return re.compile(rf"\b(?:{PHRASES[number][2]})")


def _plain(text: str) -> str:
    """Return the text in lower case on one line, without what is quoted; identifiers are no words."""
    bare = _QUOTED.sub(" ", text) if _QUOTES.search(text) else text
    bare = re.sub(r"\w*_\w*", "_", bare) if "_" in bare else bare
    return _SPACES.sub(" ", (bare if len(bare.strip()) > 3 else text).lower().replace("\u2019", "'"))
