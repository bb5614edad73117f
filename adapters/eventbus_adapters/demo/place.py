"""What this application wants to know about a place, and what it takes for known."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field


def _tidy(text: str) -> str:
    if not text.isprintable() or text != " ".join(text.split()):
        raise ValueError("should have no control characters and no needless spaces")
    return text


Text = Annotated[str, Field(min_length=1), AfterValidator(_tidy)]
"""Something to read: not empty, and as it should be printed."""


class Place(BaseModel):
    """Where an airport is, fit to be used."""

    name: Text
    city: Text
    subdivision: Text
    country: Annotated[str, Field(pattern="^[A-Z]{2}$")]
    latitude: Annotated[float, Field(ge=-90, le=90)]
    longitude: Annotated[float, Field(ge=-180, le=180)]
