"""Access by bearer token (RFC 6750), for people with curl and for other services."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

from eventbus_routes.access import Principal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import HTTPConnection

_HASHED = "sha256:"
_DIGEST_BYTES = hashlib.sha256().digest_size
_DIGEST_OF_NOTHING = hashlib.sha256(b"").digest()


class BearerTokens:
    """The access policy that :func:`bearer_tokens` makes: knows digests, forgets tokens."""

    __slots__ = ("_entries",)

    def __init__(self, entries: tuple[tuple[bytes, Principal], ...]) -> None:
        self._entries = entries

    def __call__(self, connection: HTTPConnection) -> Principal | None:
        """Return the principal whose token the connection presents, or None."""
        token = _presented_token(connection)
        if token is None:
            return None
        digest = hashlib.sha256(token).digest()
        found: Principal | None = None
        for known, principal in self._entries:
            # No early end: how long it takes must not tell which entry matched, or that none did.
            if hmac.compare_digest(known, digest):
                found = principal
        return found

    def __repr__(self) -> str:
        return f"<BearerTokens of {', '.join(principal.name for _, principal in self._entries)}>"


def bearer_tokens(tokens: Mapping[str, Principal]) -> BearerTokens:
    """Return an access policy that knows its principals by ``Authorization: Bearer <token>``.

    Args:
        tokens: a principal for each token. A key is the token itself, or ``sha256:`` and the 64
            hexadecimal digits of its SHA-256, so that no secret needs to stand in a configuration.
            Several tokens may mean the same principal: that is how they are rotated. Use tokens of
            32 random bytes or more (``secrets.token_urlsafe()``).

    Raises:
        TypeError: a value is not a Principal.
        ValueError: no token at all; a token that is empty, given twice, or cannot be sent in a
            header; a malformed SHA-256. Messages name the entry by its place and never show it.
    """
    if not tokens:
        raise ValueError("bearer_tokens() was given no token, so that nobody could ever come in")
    entries: dict[bytes, Principal] = {}
    for place, (token, principal) in enumerate(tokens.items(), start=1):
        if not isinstance(principal, Principal):  # pyright: ignore[reportUnnecessaryIsInstance] -- callers without a type checker
            raise TypeError(f"token number {place} stands for a {type(principal).__name__}, not a Principal")
        entry = f"token number {place} (of {principal.name!r})"
        digest = _digest(token, entry)
        if digest in entries:
            raise ValueError(f"{entry} is the same as one before it; every token has one principal")
        entries[digest] = principal
    return BearerTokens(tuple(entries.items()))


def _digest(token: str, entry: str) -> bytes:
    if token.startswith(_HASHED):
        digest = _from_hex(token.removeprefix(_HASHED))
        if len(digest) != _DIGEST_BYTES:
            raise ValueError(f"{entry} must have 64 hexadecimal digits after 'sha256:'")
    else:
        if not all("!" <= character <= "~" for character in token):
            raise ValueError(f"{entry} must be of visible ASCII characters, or it cannot be sent in a header")
        digest = hashlib.sha256(token.encode()).digest()
    if digest == _DIGEST_OF_NOTHING:
        raise ValueError(f"{entry} is empty; make one with secrets.token_urlsafe()")
    return digest


def _from_hex(digits: str) -> bytes:
    try:
        return bytes.fromhex(digits)
    except ValueError:
        return b""


def _presented_token(connection: HTTPConnection) -> bytes | None:
    values = connection.headers.getlist("authorization")
    if len(values) != 1:
        return None
    scheme, _, token = values[0].partition(" ")
    token = token.strip(" ")
    if scheme.lower() != "bearer" or not token:
        return None
    return token.encode("latin-1")
