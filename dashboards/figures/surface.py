"""The attainment surface over seeds: what the same configurations reach with every seed, with half of them, with any.

Fonseca and Fleming 1996: a place of the plane is attained by a set of points if one of them is at least
as good there in both objectives. Here each seed's fits of the front's members are one such set.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from dashboards.figures.front import Sense
from dashboards.ink.chart import Band, Chart, Panel, Scale, Series
from dashboards.ink.style import BLUE, FAINT, NEUTRAL, SQUARE, Dash, Look, looks
from dashboards.ink.wording import direction

XY = tuple[float, float]


@dataclass(frozen=True)
class Level:
    """The border of what at least `seeds` of the seeds attain, in the objectives' own units."""

    seeds: int
    outline: tuple[XY, ...]


@dataclass(frozen=True)
class SurfaceNumbers:
    """The levels, the easiest first, and each fit's own point."""

    objectives: tuple[tuple[str, Sense], tuple[str, Sense]]
    seeds: int
    levels: tuple[Level, ...]
    fits: tuple[tuple[str, float, float], ...]
    frame: tuple[XY, XY]


def surface_numbers(fits: pd.DataFrame, objectives: Mapping[str, Sense], members: Sequence[int]) -> SurfaceNumbers:
    """Of the trials `members`; `fits` has one row per fit: number, seed, method and the objectives.

    Raises:
        ValueError: fewer than two objectives, or no fit of a member.
    """
    if len(objectives) < 2:
        raise ValueError(f"an attainment surface has two objectives or more, not {list(objectives)}")
    first, second = list(objectives.items())[:2]
    names = [first[0], second[0]]
    known = fits[fits["number"].isin(list(members))].dropna(subset=names)
    if known.empty:
        raise ValueError("no fit of a member of the front has both objectives")
    signs = [1.0 if sense == "max" else -1.0 for _, sense in (first, second)]
    sets = [[(signs[0] * x, signs[1] * y) for x, y in zip(g[names[0]], g[names[1]], strict=True)]
            for _, g in known.groupby("seed")]  # fmt: skip
    frame = _frame([place for places in sets for place in places])
    wanted = sorted({1, (len(sets) + 1) // 2 + (len(sets) + 1) % 2, len(sets)})
    levels = [Level(k, _turned(_border(sets, k, frame[0]), signs)) for k in wanted if k <= len(sets)]
    points = zip(known["method"], known[names[0]], known[names[1]], strict=True)
    corners = _turned(frame, signs)
    return SurfaceNumbers(
        (first, second), len(sets), tuple(levels), tuple((str(m), float(x), float(y)) for m, x, y in points),
        (corners[0], corners[1]),
    )  # fmt: skip


def _frame(places: Sequence[XY]) -> tuple[XY, XY]:
    """The worst and the best corner of what is shown; greater is better."""
    lows, highs = zip(*((min(column), max(column)) for column in zip(*places, strict=True)), strict=True)
    margins = [0.12 * (high - low) or 0.05 for low, high in zip(lows, highs, strict=True)]
    return (lows[0] - margins[0], lows[1] - margins[1]), (highs[0] + margins[0], highs[1] + margins[1])


def _border(sets: Sequence[Sequence[XY]], least: int, worst: XY) -> list[XY]:
    """The staircase under which at least `least` sets attain every place; greater is better."""
    steps = [(x, _attained(sets, least, x)) for x in sorted({x for places in sets for x, _ in places})]
    steps = [(x, y) for x, y in steps if math.isfinite(y)]
    if not steps:
        return []
    corners: list[XY] = [(worst[0], steps[0][1])]
    for (x, y), (_, after) in zip(steps, [*steps[1:], (0.0, worst[1])], strict=True):
        corners += [(x, y), (x, after)]
    return corners


def _attained(sets: Sequence[Sequence[XY]], least: int, x: float) -> float:
    """The highest y that `least` sets reach at `x` or beyond; -inf where fewer get there."""
    reached = sorted(max((b for a, b in places if a >= x), default=-math.inf) for places in sets)
    return reached[-least]


def _turned(places: Sequence[XY], signs: Sequence[float]) -> tuple[XY, ...]:
    return tuple((signs[0] * x, signs[1] * y) for x, y in places)


def surface_chart(numbers: SurfaceNumbers) -> Chart:
    """A line for each level, the area between the easiest and the hardest, and the fits as points."""
    dashes: dict[int, Dash] = {1: "dot", numbers.seeds: "dash"}
    lines = [
        Series(
            name=_said(level.seeds, numbers.seeds),
            x=[x for x, _ in level.outline],
            y=[y for _, y in level.outline],
            draw="line",
            look=Look(NEUTRAL, SQUARE, dashes.get(level.seeds, "solid")),
            size=0,
        )
        for level in numbers.levels
        if level.outline
    ]
    styles = looks(sorted({method for method, _, _ in numbers.fits}))
    points = [
        Series(
            name=method,
            x=[x for m, x, _ in numbers.fits if m == method],
            y=[y for m, _, y in numbers.fits if m == method],
            look=look,
            size=7,
            opacity=0.6,
        )
        for method, look in styles.items()
    ]
    (x, x_sense), (y, y_sense) = numbers.objectives
    (left, low), (right, high) = numbers.frame
    panel = Panel(
        Scale(direction(x, x_sense), min(left, right), max(left, right)),
        Scale(direction(y, y_sense), min(low, high), max(low, high)),
        series=(*lines, *points),
        bands=tuple(_between(numbers)),
    )
    caption = (
        f"Each point is one fit of a member of the front ({numbers.seeds} seeds); the members were chosen by their "
        "means over these same seeds. A new seed may fall outside the lines."
    )
    return Chart((panel,), caption)


def _said(seeds: int, of: int) -> str:
    if of == 1:
        return "the one seed"
    return "every seed" if seeds == of else "any seed" if seeds == 1 else f"{seeds} of {of} seeds"


def _between(numbers: SurfaceNumbers) -> list[Band]:
    """The area between the first and the last level."""
    outlines = [level.outline for level in numbers.levels if level.outline]
    if len(outlines) < 2:
        return []
    xs = sorted({x for outline in outlines for x, _ in outline})
    low_y = numbers.frame[0][1]
    ends = [x for pair in itertools.pairwise(xs) for x in pair]
    sides = [_over(outline, xs, low_y) for outline in (outlines[-1], outlines[0])]
    return [Band("", ends, sides[0], sides[1], Look(BLUE if numbers.seeds > 1 else FAINT, SQUARE))]


def _over(outline: Sequence[XY], xs: Sequence[float], worst: float) -> list[float]:
    """The border's height between each two neighbours of `xs`, twice: at the left and at the right end."""
    flat = [(min(a[0], b[0]), max(a[0], b[0]), a[1]) for a, b in itertools.pairwise(outline) if a[0] != b[0]]
    flat.sort()
    starts = [left for left, _, _ in flat]
    heights = []
    for left, right in itertools.pairwise(xs):
        at = bisect.bisect_right(starts, left) - 1
        held = at >= 0 and flat[at][1] >= right
        heights += [flat[at][2] if held else worst] * 2
    return heights
