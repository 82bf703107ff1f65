"""What a picture says, as plain data. Each figure makes a Chart of its numbers; the inks draw any Chart.

A page's own script draws it (`script` hands it over), `screen` with plotly in a notebook, `paper` with matplotlib.
Coordinates are data; lengths are pixels of the canvas, on which labels were placed with a font of 11 pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dashboards.ink.style import PLAIN, Look

SCREEN, COLUMN, WIDE = (640.0, 430.0), (330.0, 240.0), (700.0, 240.0)


@dataclass(frozen=True)
class Scale:
    """One axis: its title, its ends and its ticks (None, none: whatever fits), and names where it counts things."""

    title: str = ""
    low: float | None = None
    high: float | None = None
    log: bool = False
    ticks: tuple[float, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Series:
    """Points, a line, steps or bars that share a name, a look and a line in the legend.

    `bars` of several series stand side by side around their x; `bins` are `width` (data) wide, centred on their x, the
    later over the earlier, and begin at `base` (0). `error` is the half-length of vertical bars, `x_error` of
    horizontal ones; nan draws none. `hover` says of each point what the screen shows under the cursor. `key=False`
    stays out of the legend.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    draw: Literal["points", "line", "steps", "bars", "bins"] = "points"
    look: Look = PLAIN
    base: Sequence[float] = ()
    width: float = 1.0
    error: Sequence[float] = ()
    x_error: Sequence[float] = ()
    hover: Sequence[str] = ()
    size: float = 8.0
    opacity: float = 1.0
    ringed: bool = False
    thick: float = 1.6
    key: bool = True

    @property
    def alpha(self) -> float:
        """Its opacity, and that of its look."""
        return self.opacity * self.look.strength


@dataclass(frozen=True)
class Band:
    """The area between two curves over the same x."""

    name: str
    x: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    look: Look = PLAIN
    steps: bool = False


@dataclass(frozen=True)
class ReferenceLine:
    """A straight line across: a bound, or a value to compare with."""

    axis: Literal["x", "y"]
    value: float
    text: str = ""
    look: Look = PLAIN


@dataclass(frozen=True)
class Label:
    """A text, its point (data), and how far from it the text's centre stands (pixels, y upwards)."""

    text: str
    x: float
    y: float
    dx: float
    dy: float


@dataclass(frozen=True)
class Panel:
    """One pair of axes and what is drawn between them, in this order: bands, reference lines, series, labels."""

    x: Scale
    y: Scale
    series: tuple[Series, ...] = ()
    bands: tuple[Band, ...] = ()
    reference_lines: tuple[ReferenceLine, ...] = ()
    labels: tuple[Label, ...] = ()
    title: str = ""


@dataclass(frozen=True)
class Chart:
    """Panels side by side under one legend, and a caption. `canvas` is the drawing area of all panels (pixels).

    They stand in `rows` of equally many, the first row first.
    """

    panels: tuple[Panel, ...]
    caption: str = ""
    canvas: tuple[float, float] = SCREEN
    rows: int = 1

    @property
    def columns(self) -> int:
        """Panels in each row."""
        return -(-len(self.panels) // self.rows)

    @property
    def panel(self) -> tuple[float, float]:
        """Width and height of one panel (pixels)."""
        return self.canvas[0] / self.columns, self.canvas[1] / self.rows

    @property
    def keys(self) -> tuple[Series, ...]:
        """One series for each line of the legend, in the order of drawing."""
        named = {s.name: s for panel in self.panels for s in panel.series if s.key and s.name}
        return tuple(named.values())


def slant(names: Sequence[str], width: float) -> int:
    """By how many degrees the names must be turned to stand side by side in `width` pixels: 0, 35 or 90."""
    if sum(longest(name) + 2 for name in names) * 6 <= width:
        return 0
    return 35 if width / len(names) > 24 else 90


def upright(name: str) -> str:
    """A name on one line of at most 28 letters, as it is written when it is turned by 90 degrees."""
    first, *more = name.split("\n")
    rest = "".join(f", {line}" for line in more)
    room = 28 - len(rest)
    return (first if len(first) <= room else f"{first[: room - 1]}…") + rest


def longest(name: str) -> int:
    """The letters of its longest line."""
    return max(map(len, name.split("\n")))
