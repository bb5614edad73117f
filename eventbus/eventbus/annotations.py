"""What handlers note about their own work, bounded and as JSON values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pydantic_core

from eventbus.storable import clean

MAX_ANNOTATIONS = 64
MAX_VALUE = 4_096
_MAX_NAME = 128


def bounded_annotations(noted: Mapping[str, Any] | None, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``noted`` with ``values`` added: at most 64 names, 4 KiB of JSON each. Never raises.

    What JSON cannot carry, and what is too large, is kept as the beginning of its ``repr``.
    """
    merged = dict(noted or {})
    for name, value in values.items():
        key = clean(name[:_MAX_NAME])
        if key in merged or len(merged) < MAX_ANNOTATIONS:
            merged[key] = _json_value(value)
    return merged


def _json_value(value: Any) -> Any:
    try:
        encoded = pydantic_core.to_json(value, fallback=_text)
        if len(encoded) <= MAX_VALUE:
            return pydantic_core.from_json(encoded)
    except Exception:
        return _text(value)  # circular, or not text: its repr still says something
    return _text(value)


def _text(value: Any) -> str:
    try:
        return clean(repr(value)[:MAX_VALUE])
    except Exception as broken:
        return f"<its __repr__ raised {type(broken).__name__}>"
