"""Numbers that are undefined: nan in Python, null in JSON, which has neither nan nor infinity."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def to_null(body: Mapping[str, Any]) -> dict[str, Any]:
    """`body` as strict JSON holds it, at any depth: None for a number that is not finite, lists for tuples."""
    return {name: _to_null(value) for name, value in body.items()}


def _to_null(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return to_null(value)
    return [_to_null(item) for item in value] if isinstance(value, (list, tuple)) else value


def to_nan(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of numbers as it was before `to_null`: nan for None. An infinite number comes back as nan too."""
    return {name: math.nan if value is None else value for name, value in row.items()}
