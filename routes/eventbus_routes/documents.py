"""What goes out: JSON documents that no cache keeps and no browser guesses about."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

GUARDED_HEADERS: Mapping[str, str] = {"cache-control": "no-store", "x-content-type-options": "nosniff"}
"""Headers of every answer."""


class Document(Response):
    """A JSON answer."""

    media_type = "application/json"

    def __init__(
        self,
        content: BaseModel | Mapping[str, Any],
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Render ``content``; models in their JSON form.

        Raises:
            ValueError: a value that JSON cannot hold.
        """
        super().__init__(content, status_code, {**GUARDED_HEADERS, **(headers or {})})

    def render(self, content: BaseModel | Mapping[str, Any]) -> bytes:
        """Return the bytes: plain ASCII, because a stored text may hold what UTF-8 cannot encode."""
        values = content.model_dump(mode="json") if isinstance(content, BaseModel) else content
        return json.dumps(values, allow_nan=False, separators=(",", ":")).encode("ascii")


class NoContent(Response):
    """An answer that has nothing to say (204)."""

    def __init__(self) -> None:
        super().__init__(status_code=204, headers=dict(GUARDED_HEADERS))
