"""Patterns of event names: ``*`` is one dotted segment, ``**`` any number of them, none included.

All patterns live in one tree of segments, so that matching a name costs its own length and not the
number of patterns.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

from eventbus.envelope import check_text
from eventbus.errors import InvalidEvent

T = TypeVar("T")


def is_pattern(text: str) -> bool:
    """Tell whether ``text`` is a pattern and not a plain name."""
    return "*" in text


def check_pattern(pattern: str) -> None:
    """Raise InvalidEvent unless wildcards are whole segments and no segment is empty."""
    check_text("pattern", pattern)
    for segment in pattern.split("."):
        if not segment or ("*" in segment and segment not in ("*", "**")):
            raise InvalidEvent(
                f"pattern {pattern!r}: a segment is a word, '*' (any one segment) or '**' (any number)"
            )


class _Node(Generic[T]):
    __slots__ = ("children", "values")

    def __init__(self) -> None:
        self.children: dict[str, _Node[T]] = {}
        self.values: list[T] = []


class PatternTree(Generic[T]):
    """Values under patterns, found by name."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()

    def add(self, pattern: str, value: T) -> None:
        """Put ``value`` under ``pattern``."""
        node = self._root
        for segment in pattern.split("."):
            node = node.children.setdefault(segment, _Node())
        node.values.append(value)

    def remove(self, pattern: str, value: T) -> None:
        """Take ``value`` away from ``pattern``, and the branches that are empty then."""
        path = [self._root]
        segments = pattern.split(".")
        for segment in segments:
            path.append(path[-1].children[segment])
        path[-1].values.remove(value)
        for parent, segment, node in reversed(list(zip(path, segments, path[1:], strict=False))):
            if node.values or node.children:
                break
            del parent.children[segment]

    def match(self, name: str) -> list[T]:
        """Return every value whose pattern matches ``name``, each pattern once."""
        found: dict[int, _Node[T]] = {}
        for node in _matching(self._root, tuple(name.split(".")), 0, set()):
            found[id(node)] = node
        return [value for node in found.values() for value in node.values]


def _matching(
    node: _Node[T], segments: tuple[str, ...], at: int, seen: set[tuple[int, int]]
) -> Iterator[_Node[T]]:
    if (id(node), at) in seen:  # '**.**' would walk the same ground again and again
        return
    seen.add((id(node), at))
    deep = node.children.get("**")
    if deep is not None:
        for skip in range(at, len(segments) + 1):
            yield from _matching(deep, segments, skip, seen)
    if at == len(segments):
        yield node
        return
    for segment in (segments[at], "*"):
        child = node.children.get(segment)
        if child is not None:
            yield from _matching(child, segments, at + 1, seen)
