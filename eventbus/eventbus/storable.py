"""Text as every store can hold it."""

from __future__ import annotations


def clean(text: str) -> str:
    """Return ``text`` as every store can hold it: NUL and lone surrogates are written as escapes."""
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode()
    return text.replace("\x00", "\\x00")
