"""What every figure shares: colours that colour-blind people tell apart, symbols, names of metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Okabe and Ito, "Color Universal Design" (2008), without yellow, which is lost on white.
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
INK, MUTED, GRID = "#222222", "#6B6B6B", "#E3E3E3"

_SPELLED = {"f1": "F1", "eod": "EOD", "ece": "ECE"}


@dataclass(frozen=True)
class Symbol:
    """One shape under the names of both drawing libraries."""

    plotly: str
    matplotlib: str


@dataclass(frozen=True)
class Look:
    """How one method is drawn, in colour and in grey."""

    colour: str
    symbol: Symbol


STAR, CROSS = Symbol("star", "*"), Symbol("x", "X")
_LOOKS = {
    "fairlora": Look(BLUE, Symbol("circle", "o")),
    "lora": Look(VERMILLION, Symbol("square", "s")),
    "fairfft": Look(GREEN, Symbol("triangle-up", "^")),
    "fft": Look(PURPLE, Symbol("diamond", "D")),
}
_SPARE = (Look(ORANGE, Symbol("pentagon", "p")), Look(SKY, Symbol("hexagon", "h")))


def looks(methods: Sequence[str]) -> dict[str, Look]:
    """A look for each method; the methods of the papers keep theirs in every figure."""
    free = [*_SPARE, *(look for name, look in _LOOKS.items() if name not in methods)]
    strangers = [name for name in methods if name not in _LOOKS]
    given = {name: free[i % len(free)] for i, name in enumerate(strangers)}
    return {name: _LOOKS.get(name) or given[name] for name in methods}


def readable(metric: str) -> str:
    """The metric as prose.

    >>> readable("delta_f1")
    'delta F1'
    """
    return " ".join(_SPELLED.get(word, word) for word in metric.split("_"))
