"""A claimed letter, as a store hands it out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventbus_dlq.making import maker
from eventbus_dlq.store import Claim, Lease

if TYPE_CHECKING:
    from eventbus_dlq.letter import DeadLetter

_make_claim = maker(Claim)


def claim_of(letter: DeadLetter) -> Claim:
    """Return the claim of a letter that is running, under the token that it has."""
    return _make_claim(letter=letter, lease=Lease(letter.id, letter.token))
