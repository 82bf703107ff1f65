"""What every figure shares: colours that colour-blind people tell apart, symbols and dashes."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

INK, MUTED, GRID = "#222222", "#6B6B6B", "#E3E3E3"  # on white

# Okabe and Ito, "Color Universal Design" (2008), without yellow, which is lost on white.
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = "blue", "vermillion", "green", "purple", "orange", "sky"
NEUTRAL, FAINT = "neutral", "faint"  # what belongs to no method
Dash = Literal["solid", "dash", "dot", "dashdot"]
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
    """How one method is drawn, in colour and in grey. `colour` is a hue's name; a theme says what that is.

    `strength` is the opacity of what has both in common with another.
    """

    colour: str
    symbol: Symbol
    dash: Dash = "solid"
    strength: float = 1.0


STAR, CROSS, CIRCLE = Symbol("star", "*"), Symbol("x", "X"), Symbol("circle", "o")
SQUARE, TRIANGLE, DIAMOND = Symbol("square", "s"), Symbol("triangle-up", "^"), Symbol("diamond", "D")
PENTAGON, HEXAGON, OCTAGON = Symbol("pentagon", "p"), Symbol("hexagon", "h"), Symbol("octagon", "8")
DOWN, LEFT, RIGHT = Symbol("triangle-down", "v"), Symbol("triangle-left", "<"), Symbol("triangle-right", ">")
PLUS, TALL, BOWTIE = Symbol("cross", "P"), Symbol("diamond-tall", "d"), Symbol("bowtie", "H")
PLAIN = Look(NEUTRAL, CIRCLE)

# The one place that says how a method looks: in reports, pictures, comparisons and MLflow.
METHOD_LOOKS: Mapping[str, Look] = {
    "fairlora": Look(BLUE, CIRCLE),
    "lora": Look(VERMILLION, SQUARE, "dash"),
    "fairfft": Look(GREEN, TRIANGLE, "dashdot"),
    "fft": Look(PURPLE, DIAMOND, "dot"),
    "lora-groupdro": Look(ORANGE, PENTAGON),
    "fft-groupdro": Look(SKY, HEXAGON, "dash"),
    "lora-reweight": Look(GREEN, DOWN),
    "fft-reweight": Look(PURPLE, LEFT, "dash"),
    "lora-balanced": Look(VERMILLION, RIGHT, "dot"),
    "fft-balanced": Look(BLUE, BOWTIE, "dashdot"),
    "lora-dfr": Look(ORANGE, TALL, "dashdot"),
    "fft-dfr": Look(SKY, PLUS, "dot"),
    "probe": Look(NEUTRAL, OCTAGON, "dash"),
}
_DASHES: tuple[Dash, ...] = ("solid", "dash", "dashdot", "dot")
_HUES = (ORANGE, SKY, GREEN, PURPLE, VERMILLION, BLUE, NEUTRAL)
_TAKEN = {(look.colour, look.symbol) for look in METHOD_LOOKS.values()}
_SPARE = tuple(
    Look(_HUES[i % 7], symbol, _DASHES[i % 4])
    for i, symbol in enumerate([PENTAGON, HEXAGON, DOWN, LEFT, RIGHT, OCTAGON, PLUS, TALL, BOWTIE] * 7)
    if (_HUES[i % 7], symbol) not in _TAKEN
)


def looks(names: Sequence[str], methods: Mapping[str, str] | None = None) -> dict[str, Look]:
    """A look for each name, which is a method, or a point or line whose method is in `methods`.

    A method that is not in the table, as one of a plug-in, has a look by its name, the same in every figure unless
    two of them meet. The second of two names of one method is paler.
    """
    own: dict[str, Look] = {}
    found: dict[str, Look] = {}
    for name in dict.fromkeys(names):
        method = (methods or {}).get(name, name)
        paler = own.get(method)
        look = METHOD_LOOKS.get(method) or _stranger(method, own.values())
        own[method] = replace(paler, strength=0.55 * paler.strength) if paler else look
        found[name] = own[method]
    return found


def _stranger(name: str, taken: Iterable[Look]) -> Look:
    """By its name; the next that is free where another has it."""
    start = zlib.crc32(name.encode()) % len(_SPARE)
    turned, used = _SPARE[start:] + _SPARE[:start], set(taken)
    return next((look for look in turned if look not in used), turned[0])


def line_looks(names: Sequence[str]) -> dict[str, Look]:
    """A look for each of what is no method: groups, for example. The first seven differ in colour."""
    return {name: replace(_SPARE[i % len(_SPARE)], colour=_HUES[i % 7]) for i, name in enumerate(names)}


def mark(method: str) -> tuple[str, str]:
    """Colour on white (`#rrggbb`) and shape of a method, for other programs: `("#0072B2", "circle")`."""
    look = looks([method])[method]
    return LIGHT.colour(look.colour), look.symbol.plotly
