"""A scatter plot in characters, for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Mark:
    """A point and the one character that stands for it."""

    x: float
    y: float
    sign: str


def scatter(marks: Sequence[Mark], width: int, height: int, x_label: str, y_label: str) -> list[tuple[str, str]]:
    """Rows of a plot that is `width` characters wide and `height` high: what stands beside the axes, and the plot.

    Both axes are linear. Where marks fall on one place, the last is shown. The y axis' label is the first row, the x
    axis' ticks and label the last two.
    """
    marks = [mark for mark in marks if math.isfinite(mark.x) and math.isfinite(mark.y)]
    if not marks:
        return []
    (left, right), (low, high) = _range([mark.x for mark in marks]), _range([mark.y for mark in marks])
    ticks = {
        0: _tick(high),
        height // 2: _tick(high - (high - low) * (height // 2) / (height - 1)),
        height - 1: _tick(low),
    }
    margin = max(map(len, ticks.values()))
    columns = width - margin - 2
    cells = [[" "] * columns for _ in range(height)]
    for mark in marks:
        row = round((high - mark.y) / (high - low) * (height - 1))
        cells[row][round((mark.x - left) / (right - left) * (columns - 1))] = mark.sign
    rows = [(y_label, "")]
    rows += [(f"{ticks.get(row, ''):>{margin}} |", "".join(cells[row])) for row in range(height)]
    middle, last = _tick((left + right) / 2), _tick(right)
    foot = _tick(left).ljust(columns // 2 - len(middle) // 2) + middle
    pad = " " * (margin + 2)
    return [*rows, (pad + foot.ljust(columns - len(last)) + last, ""), (pad + x_label.center(columns).rstrip(), "")]


def _range(values: Sequence[float]) -> tuple[float, float]:
    """From the least to the greatest, with a little air; never empty."""
    low, high = min(values), max(values)
    air = (high - low) * 0.04 or max(abs(low) * 0.1, 0.01)
    return low - air, high + air


def _tick(value: float) -> str:
    return f"{value:.3g}" if abs(value) >= 10 else f"{value:.2f}"
