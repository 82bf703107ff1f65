"""What every figure shares: colours that colour-blind people tell apart, symbols and dashes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

INK, MUTED, GRID = "#222222", "#6B6B6B", "#E3E3E3"  # on white

# Okabe and Ito, "Color Universal Design" (2008), without yellow, which is lost on white.
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = "blue", "vermillion", "green", "purple", "orange", "sky"
NEUTRAL, FAINT = "neutral", "faint"  # what belongs to no method
SPREAD_OPACITY = 0.45  # of error bars, beside their points: a line beneath them still shows


@dataclass(frozen=True)
class Theme:
    """A background, what is written on it, and the hues on it."""

    name: str
    paper: str
    ink: str
    muted: str
    grid: str
    hues: Mapping[str, str] = field(default_factory=dict)

    def colour(self, hue: str) -> str:
        """The hue on this background, `#rrggbb`."""
        return {NEUTRAL: self.ink, FAINT: self.muted, **self.hues}[hue]


LIGHT = Theme(
    "light",
    paper="#FFFFFF",
    ink=INK,
    muted=MUTED,
    grid=GRID,
    hues={
        BLUE: "#0072B2",
        VERMILLION: "#D55E00",
        GREEN: "#009E73",
        PURPLE: "#CC79A7",
        ORANGE: "#E69F00",
        SKY: "#56B4E9",
    },
)
# The same hues, lighter. tests/dashboards/test_figures.py: both keep one least distance for the colour-blind.
DARK = Theme(
    "dark",
    paper="#15181D",
    ink="#E8E8E8",
    muted="#A0A4AB",
    grid="#31363E",
    hues={
        BLUE: "#4FA3E3",
        VERMILLION: "#FF7F3F",
        GREEN: "#2BC299",
        PURPLE: "#E79CCB",
        ORANGE: "#F0C23B",
        SKY: "#A5DBFF",
    },
)


@dataclass(frozen=True)
class Symbol:
    """One shape under the names of both drawing libraries."""

    plotly: str
    matplotlib: str


@dataclass(frozen=True)
class Look:
    """How one method is drawn, in colour and in grey. `colour` is a hue's name; a theme says what that is."""

    colour: str
    symbol: Symbol
    dash: str = "solid"


STAR, CROSS, CIRCLE = Symbol("star", "*"), Symbol("x", "X"), Symbol("circle", "o")
SQUARE, TRIANGLE, DIAMOND = Symbol("square", "s"), Symbol("triangle-up", "^"), Symbol("diamond", "D")
_OTHERS = tuple(
    Symbol(*names)
    for names in (
        ("pentagon", "p"), ("hexagon", "h"), ("triangle-down", "v"), ("triangle-left", "<"), ("triangle-right", ">"),
        ("octagon", "8"), ("cross", "P"), ("diamond-tall", "d"), ("bowtie", "H"),
    )
)  # fmt: skip
_LOOKS = {
    "fairlora": Look(BLUE, CIRCLE),
    "lora": Look(VERMILLION, SQUARE, "dash"),
    "fairfft": Look(GREEN, TRIANGLE, "dashdot"),
    "fft": Look(PURPLE, DIAMOND, "dot"),
}
_SPARE = tuple(
    Look(hue, symbol, dash)
    for hue, symbol, dash in zip(
        itertools.cycle((ORANGE, SKY, GREEN, PURPLE, VERMILLION, BLUE, NEUTRAL)),
        _OTHERS,
        itertools.cycle(("solid", "dash", "dashdot", "dot")),
        strict=False,
    )
)
PLAIN = Look(NEUTRAL, CIRCLE)


def looks(methods: Sequence[str]) -> dict[str, Look]:
    """A look for each name; the methods of the papers keep theirs in every figure."""
    free = [*_SPARE, *(look for name, look in _LOOKS.items() if name not in methods)]
    strangers = [name for name in methods if name not in _LOOKS]
    given = {name: free[i % len(free)] for i, name in enumerate(strangers)}
    return {name: _LOOKS.get(name) or given[name] for name in methods}
