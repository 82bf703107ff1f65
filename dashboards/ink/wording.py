"""How names and numbers are written, on every page, picture and screen."""

from __future__ import annotations

import math
from typing import Any

ARROWS = {"max": "↑", "min": "↓"}
_SPELLED = {"f1": "F1", "eod": "EOD", "ece": "ECE"}


def readable(metric: str) -> str:
    """The metric as prose.

    >>> readable("delta_f1"), readable("delta_f1/skin_tone")
    ('delta F1', 'delta F1 of skin tone')
    """
    return " ".join(_SPELLED.get(word, word) for word in metric.replace("/", "_of_", 1).split("_"))


def direction(metric: str, sense: str) -> str:
    """The metric, and which way is better: `accuracy (higher is better)`."""
    return f"{readable(metric)} ({'higher' if sense == 'max' else 'lower'} is better)"


def heading(metric: str, sense: str) -> str:
    """The same for the head of a column: `accuracy (↑)`."""
    return f"{readable(metric)} ({ARROWS[sense]})"


def decimal(value: float | None, spread: float = math.nan, *, digits: int = 3) -> str:
    """`0.873 ± 0.012`; without the spread where that is unknown, and `–` where the value is undefined."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.{digits}f}" + ("" if math.isnan(spread) else f" ± {spread:.{digits}f}")


def percent(share: float | None, spread: float = math.nan) -> str:
    """A share as the papers print it: `97.35 ± 0.17`."""
    return decimal(None if share is None else 100 * share, 100 * spread, digits=2)


def interval(low: float, high: float) -> str:
    """`0.682 … 0.882`."""
    return f"{low:.3f} … {high:.3f}"


def setting(value: Any) -> str:
    """The value of a parameter: `0.0001234` and `1e+05` to four digits, words as they are, `–` for none."""
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
