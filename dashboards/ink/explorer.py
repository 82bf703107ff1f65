"""Trials as points beside a table of them, for a page where one looks around: any two numbers as axes, any rows.

`dashboards/document/script/explorer.js` draws it; paper has the chart that stands beside it in a `Picture`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dashboards.ink.chart import ReferenceLine
from dashboards.ink.style import Look

Cell = float | str | None
Place = Literal["", "infeasible", "dominated", "tuned", "baseline", "front", "baseline on the front"]


@dataclass(frozen=True)
class TrialColumn:
    """One column: what a filter calls it, its title, and how it is written.

    `axis`: its numbers can be an axis, a logarithmic one where `log`. `digits` behind the point, 0 for four significant
    ones; `whole` numbers have none. `spread` is the half-length of error bars, row by row.
    """

    name: str
    title: str
    word: bool = False
    axis: bool = False
    log: bool = False
    whole: bool = False
    digits: int = 0
    spread: Sequence[float] = ()


@dataclass(frozen=True)
class Explorer:
    """`places` says of each row how it is drawn; one without a place is in the table alone.

    `x` and `y` are the columns of the first view, `view` its ends, and `far` whether something lies outside. `front` is
    the line in that view, `names` are rows and their names (the second where the first has no room), the most important
    first, `chosen` the row that is ringed. `towards` is the better side of x and of y, +1 or -1.
    """

    columns: tuple[TrialColumn, ...]
    rows: tuple[tuple[Cell, ...], ...]
    places: tuple[Place, ...]
    methods: tuple[str, ...]
    looks: Mapping[str, Look]
    x: int
    y: int
    view: tuple[tuple[float, float], tuple[float, float]]
    front: tuple[tuple[float, float], ...] = ()
    names: tuple[tuple[int, tuple[str, ...]], ...] = ()
    chosen: int | None = None
    towards: tuple[int, int] = (1, 1)
    far: bool = False
    lines: tuple[ReferenceLine, ...] = ()
    hint: str = ""
    height: float = 430.0
