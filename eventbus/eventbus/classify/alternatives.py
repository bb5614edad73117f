"""Asking hundreds of alternatives at the start of a word, of which only those are compiled that may fit.

One regular expression of them all takes tens of milliseconds to compile, in which the event loop stands
still. How an alternative opens leaves a few for each word, and those take a fraction of one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache

_PARENTHESES = r"\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)"
_ALTERNATIVE = re.compile(rf"(?:[^()|]|{_PARENTHESES})+")
_OPENING = re.compile(rf"(?:{_PARENTHESES}[?*]|\(\?[!<][^()]*\))*(?:{_PARENTHESES}|[a-z0-9]+\??)")
_LETTERS = re.compile(r"[a-z0-9]+(?=[a-z0-9]\?)|[a-z0-9]{2,}(?!\?)")  # "error" of "errors?"
_WORD = re.compile(r"\b\w+")
_KEY = 2


class Alternatives:
    """Named patterns over words in lower case; at each word the first that fits is taken.

    A pattern is made of alternatives that open with a word of two letters or more, or with parentheses
    holding such words. Parentheses may be three deep.
    """

    def __init__(self, patterns: Iterable[tuple[str, str]]) -> None:
        """Take pairs of a name, which several may share, and a pattern; nothing is compiled yet.

        Raises:
            ValueError: an alternative opens with what no word can be looked up by.
        """
        self._known: list[tuple[str, str]] = []
        self._by_key: dict[str, list[tuple[str, int]]] = {}
        for name, pattern in patterns:
            for alternative in _ALTERNATIVE.findall(pattern):
                self._add(name, alternative)

    def _add(self, name: str, alternative: str) -> None:
        opening = _OPENING.match(alternative)
        openings: list[str] = _LETTERS.findall(opening[0]) if opening else []
        if not openings:
            raise ValueError(f"{alternative!r} must open with a word of two letters or more")
        for letters in openings:
            self._by_key.setdefault(letters[:_KEY], []).append((letters, len(self._known)))
        self._known.append((name, alternative))

    def found_in(self, text: str) -> Iterator[tuple[str, int]]:
        """Give the name and the place of each match, from left to right and without overlaps."""
        end = 0
        for word in _WORD.finditer(text):
            place = word.start()
            if place < end:
                continue
            for number in self._opened_by(word[0]):
                name, alternative = self._known[number]
                found = _compiled(alternative).match(text, place)
                if found is not None:
                    end = found.end()
                    yield name, place
                    break

    def _opened_by(self, word: str) -> list[int]:
        """Return the alternatives that may begin with a word, in their order."""
        known = self._by_key.get(word[:_KEY], ())
        return list(dict.fromkeys(number for letters, number in known if word.startswith(letters)))


@cache
def _compiled(alternative: str) -> re.Pattern[str]:
    return re.compile(rf"(?:{alternative})\b")
