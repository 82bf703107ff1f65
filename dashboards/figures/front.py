"""The front: its members with their spread, what they dominate, baselines, bounds and the knee.

First its numbers, which are tested without a picture, then a Chart of them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

from dashboards.ink.chart import SCREEN, Chart, Label, Panel, ReferenceLine, Scale, Series
from dashboards.ink.labels import Box, place
from dashboards.ink.style import CIRCLE, CROSS, FAINT, NEUTRAL, STAR, Look, looks
from dashboards.ink.wording import decimal, direction, readable

Sense = Literal["min", "max"]
Bounds = Mapping[str, tuple[float | None, float | None]]

_KNEE = Look(NEUTRAL, CIRCLE)
FAR = 1.5  # a dominated point further off than this many extents of the front is left to the zoom
MOST_NAMES = 24


@dataclass(frozen=True)
class Axis:
    """One objective: its name, which way is better, and the interval that is shown."""

    name: str
    sense: Sense
    low: float = 0.0
    high: float = 1.0

    @property
    def title(self) -> str:
        """`accuracy (higher is better)`."""
        return direction(self.name, self.sense)

    @property
    def sign(self) -> int:
        """+1 where greater is better, -1 where less is."""
        return 1 if self.sense == "max" else -1

    def share(self, value: float) -> float:
        """Where `value` lies between the ends, 0 to 1."""
        return (value - self.low) / (self.high - self.low)

    def worse(self, a: float, b: float) -> float:
        """The worse of two values."""
        return min(a, b) if self.sense == "max" else max(a, b)

    @property
    def worst(self) -> float:
        """The bad end of what is shown."""
        return self.low if self.sense == "max" else self.high


@dataclass(frozen=True)
class TrialPoint:
    """One complete trial: means over its seeds, and the spread (nan where one seed ran).

    `star`: it stands for its baseline, which may have been tuned by trials of its own.
    """

    number: int
    label: str
    method: str
    x: float
    y: float
    x_std: float
    y_std: float
    feasible: bool
    baseline: str | None
    on_front: bool
    star: bool = False

    @property
    def name(self) -> str:
        """The label, and that it is a baseline where it is one."""
        return f"{self.label} (baseline)" if self.baseline else self.label

    @property
    def strong(self) -> bool:
        """Whether it is what the picture is about."""
        return self.on_front or self.star


@dataclass(frozen=True)
class FrontNumbers:
    """All that a picture of the front says. A baseline may be on the front and is in both lists then."""

    x: Axis
    y: Axis
    front: tuple[TrialPoint, ...]
    dominated: tuple[TrialPoint, ...]
    baselines: tuple[TrialPoint, ...]
    infeasible: tuple[TrialPoint, ...]
    outline: tuple[tuple[float, float], ...]
    labels: tuple[Label, ...]
    caption: str
    canvas: tuple[float, float] = SCREEN
    knee: TrialPoint | None = None
    bounds: Bounds = field(default_factory=dict)
    names: tuple[tuple[TrialPoint, tuple[str, ...]], ...] = ()

    @property
    def points(self) -> tuple[TrialPoint, ...]:
        """Every point once, in the order of drawing: the least important first."""
        loose = tuple(p for p in sorted(self.baselines, key=lambda p: p.star) if not p.on_front and p.feasible)
        return self.infeasible + self.dominated + loose + self.front

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that occur, sorted."""
        return tuple(sorted({p.method for p in self.points}))

    def values(self, point: TrialPoint) -> tuple[str, str]:
        """Its two values under the cursor, where they are read one at a time and more digits have room."""
        x, y = decimal(point.x, point.x_std, digits=4), decimal(point.y, point.y_std, digits=4)
        return f"{self.x.name} {x}", f"{self.y.name} {y}"


def front_numbers(
    trials: pd.DataFrame,
    objectives: Mapping[str, Sense],
    *,
    knee: int | None = None,
    stars: Collection[int] | None = None,
    bounds: Bounds | None = None,
    canvas: tuple[float, float] = SCREEN,
) -> FrontNumbers:
    """The front in its first two objectives.

    `trials` has one row per trial: number, state, label, method, feasible, baseline, on_front, and
    `<objective>`, `<objective>_std` for each objective. Only complete rows become points; the caption
    counts the others. With three objectives or more the front has no outline in the plane.
    `knee` is a trial's number, `stars` those of the trials that stand for their baselines (None: all of them do), the
    other trials of a baseline are faint. `bounds` holds the least and the greatest value that a metric may have.
    Names are placed on `canvas` (pixels): a smaller one has room for fewer.

    Raises:
        ValueError: fewer than two objectives.
    """
    if len(objectives) < 2:
        raise ValueError(f"a front has two objectives or more, not {list(objectives)}")
    (x_name, x_sense), (y_name, y_sense) = list(objectives.items())[:2]
    points = _points(trials, x_name, y_name, stars)
    front = tuple(sorted((p for p in points if p.on_front), key=lambda p: (p.x, p.y, p.number)))
    baselines = tuple(p for p in points if p.baseline)
    loose = [p for p in points if not p.on_front]
    main = [p for p in points if p.strong] or points
    x = Axis(x_name, x_sense, *_extent([(p.x, p.x_std) for p in main], [p.x for p in points]))
    y = Axis(y_name, y_sense, *_extent([(p.y, p.y_std) for p in main], [p.y for p in points]))
    border = outline(front, x, y) if len(objectives) == 2 else ()
    names = _names(front, baselines, knee, points)
    return FrontNumbers(
        x=x,
        y=y,
        front=front,
        dominated=tuple(p for p in loose if p.feasible and not p.baseline),
        baselines=baselines,
        infeasible=tuple(p for p in loose if not p.feasible),
        outline=border,
        labels=_labels(names, points, border, _Frame(x, y, canvas)),
        caption=_caption(trials, points, x, y, tuple(objectives)),
        canvas=canvas,
        knee=next((p for p in points if p.number == knee), None),
        bounds={name: ends for name, ends in (bounds or {}).items() if name in (x_name, y_name)},
        names=names,
    )


def _points(trials: pd.DataFrame, x: str, y: str, stars: Collection[int] | None) -> list[TrialPoint]:
    rows = [row for row in trials.to_dict("records") if row["state"] == "complete"]
    return [_point(row, x, y, stars) for row in rows if math.isfinite(row[x]) and math.isfinite(row[y])]


def _point(row: Mapping[Any, Any], x: str, y: str, stars: Collection[int] | None) -> TrialPoint:
    baseline = row["baseline"] if isinstance(row["baseline"], str) else ""
    return TrialPoint(
        number=int(row["number"]),
        label=str(row["label"]),
        method=str(row["method"]),
        x=float(row[x]),
        y=float(row[y]),
        x_std=float(row[f"{x}_std"]),
        y_std=float(row[f"{y}_std"]),
        feasible=bool(row["feasible"]),
        baseline=baseline or None,
        on_front=bool(row["on_front"]),
        star=bool(baseline) and (stars is None or int(row["number"]) in stars),
    )


def _extent(main: Sequence[tuple[float, float]], others: Sequence[float]) -> tuple[float, float]:
    """The interval that holds the front and the baselines with their spread, and what is not far off."""
    if not main:
        return 0.0, 1.0
    reach = [(value, 0.0 if math.isnan(std) else std) for value, std in main]
    low, high = min(v - s for v, s in reach), max(v + s for v, s in reach)
    far = FAR * (high - low) or math.inf
    near = [v for v in others if low - far <= v <= high + far]
    low, high = min(low, *near), max(high, *near)
    margin = 0.08 * (high - low) or 0.05 * abs(high) or 0.5
    return low - margin, high + margin


def outline(front: Sequence[TrialPoint], x: Axis, y: Axis) -> tuple[tuple[float, float], ...]:
    """The border of what the front dominates: between neighbours, the corner that is worst in both."""
    if not front:
        return ()
    corners: list[tuple[float, float]] = []
    for a, b in itertools.pairwise(front):
        corners += [(a.x, a.y), (x.worse(a.x, b.x), y.worse(a.y, b.y))]
    corners.append((front[-1].x, front[-1].y))
    first, last = corners[0], corners[-1]
    if x.sense == "max":  # left of the front's left end its y is still reached; right of it nothing is
        return ((x.worst, first[1]), *corners, (last[0], y.worst))
    return ((first[0], y.worst), *corners, (x.worst, last[1]))


@dataclass(frozen=True)
class _Frame:
    """From data to pixels."""

    x: Axis
    y: Axis
    canvas: tuple[float, float]

    def pixel(self, x: float, y: float) -> tuple[float, float]:
        return self.x.share(x) * self.canvas[0], self.y.share(y) * self.canvas[1]

    def between(self, a: tuple[float, float], b: tuple[float, float]) -> Box:
        """The box of a horizontal or vertical stroke."""
        (u, v), (s, t) = self.pixel(*a), self.pixel(*b)
        return Box(min(u, s) - 1, min(v, t) - 1, max(u, s) + 1, max(v, t) + 1)


def _names(
    front: Sequence[TrialPoint], baselines: Sequence[TrialPoint], knee: int | None, points: Sequence[TrialPoint]
) -> tuple[tuple[TrialPoint, tuple[str, ...]], ...]:
    """Who has a name, in the order of importance, and what it may be called, the best first.

    The knee, the baselines, and the front's ends before its middle; `MOST_NAMES` of them, since more find no room.
    """
    chosen = [p for p in points if p.number == knee]
    rest = [p for p in front if not p.star and p.number != knee]
    stars = [p for p in baselines if p.star and p.number != knee]
    named = [*chosen, *stars, *rest[:1], *rest[1:][-1:], *rest[1:-1]][:MOST_NAMES]
    return tuple((p, (f"{p.name}, the knee" if p.number == knee else p.name, p.name, f"#{p.number}")) for p in named)


def _labels(
    names: Sequence[tuple[TrialPoint, tuple[str, ...]]],
    points: Sequence[TrialPoint],
    border: Sequence[tuple[float, float]],
    frame: _Frame,
) -> tuple[Label, ...]:
    """The names where they have room, a number where that alone has it."""
    named = [p for p, _ in names]
    obstacles = [*_bars(named, frame), *(frame.between(a, b) for a, b in itertools.pairwise(border))]
    centres = [frame.pixel(p.x, p.y) for p in points]
    places = place(
        [frame.pixel(p.x, p.y) for p in named],
        [texts for _, texts in names],
        obstacles=obstacles,
        marks=[Box(u - 6, v - 6, u + 6, v + 6) for u, v in centres],
        size=frame.canvas,
        towards=(float(frame.x.sign), float(frame.y.sign)),  # the better side of a front is empty
    )
    return tuple(
        Label(spot.text, point.x, point.y, spot.dx, spot.dy)
        for point, spot in zip(named, places, strict=True)
        if spot is not None
    )


def _bars(points: Sequence[TrialPoint], frame: _Frame) -> list[Box]:
    boxes = []
    for p in points:
        if not math.isnan(p.x_std):
            boxes.append(frame.between((p.x - p.x_std, p.y), (p.x + p.x_std, p.y)))
        if not math.isnan(p.y_std):
            boxes.append(frame.between((p.x, p.y - p.y_std), (p.x, p.y + p.y_std)))
    return boxes


def _caption(trials: pd.DataFrame, points: Sequence[TrialPoint], x: Axis, y: Axis, objectives: tuple[str, ...]) -> str:
    states = ", ".join(f"{count} {state}" for state, count in trials["state"].value_counts().items())
    plural = "trial" if len(trials) == 1 else "trials"
    parts = [f"{len(trials)} {plural} ({states})."] if len(trials) else ["No trials yet."]
    if any(not math.isnan(p.x_std) or not math.isnan(p.y_std) for p in points):
        parts.append("Bars: one standard deviation over the seeds.")
    outside = sum(not (0 <= x.share(p.x) <= 1 and 0 <= y.share(p.y) <= 1) for p in points)
    if outside:
        parts.append(f"{outside} outside the frame.")
    if len(objectives) > 2:
        parts.append(f"The front is in {len(objectives)} objectives; {', '.join(objectives[2:])} not drawn.")
    return " ".join(parts)


# --- as a Chart


def front_chart(numbers: FrontNumbers) -> Chart:
    """Both inks draw it: members of the front and baselines strong, what is dominated faint behind them."""
    panel = Panel(
        x=Scale(numbers.x.title, numbers.x.low, numbers.x.high),
        y=Scale(numbers.y.title, numbers.y.low, numbers.y.high),
        series=(*_outline(numbers), *_keys(numbers), *_clouds(numbers)),
        reference_lines=tuple(bounds_lines(numbers)),
        labels=numbers.labels,
    )
    return Chart((panel,), numbers.caption, numbers.canvas)


def _outline(numbers: FrontNumbers) -> list[Series]:
    if not numbers.outline:
        return []
    xs, ys = zip(*numbers.outline, strict=True)
    return [Series("front", xs, ys, "line", Look(NEUTRAL, CIRCLE), size=0, thick=2)]


def _clouds(numbers: FrontNumbers) -> list[Series]:
    """For each method and symbol: the faint points first, so that the strong ones lie upon them."""
    styles = looks(numbers.methods)
    series = []
    for is_strong in (False, True):
        for method, look in styles.items():
            members = [p for p in numbers.points if p.method == method and p.strong is is_strong]
            for kind in _kinds(members, look):
                series.append(_cloud(kind[1], numbers, method, kind[0], is_strong))
    if numbers.knee is not None:
        k = numbers.knee
        series.append(Series("knee", (k.x,), (k.y,), look=_KNEE, size=22, opacity=0.3, hover=(_hover(k, numbers),)))
    return series


def _kinds(points: Sequence[TrialPoint], look: Look) -> list[tuple[Look, list[TrialPoint]]]:
    """Points by how they are marked: as a baseline, as one that breaks a bound, ringed or not."""
    kinds: dict[tuple[str, bool], tuple[Look, list[TrialPoint]]] = {}
    for p in points:
        symbol = CROSS if not p.feasible else STAR if p.baseline else look.symbol
        key = (symbol.plotly, p.on_front)
        kinds.setdefault(key, (Look(look.colour, symbol, look.dash), []))[1].append(p)
    return list(kinds.values())


def _cloud(points: Sequence[TrialPoint], numbers: FrontNumbers, method: str, look: Look, is_strong: bool) -> Series:
    is_star = look.symbol is STAR
    return Series(
        name=method,
        x=[p.x for p in points],
        y=[p.y for p in points],
        look=look,
        x_error=[p.x_std for p in points] if is_strong else (),
        error=[p.y_std for p in points] if is_strong else (),
        hover=[_hover(p, numbers) for p in points],
        size=(15 if is_strong else 8) if is_star else 10 if is_strong else 8,
        opacity=1.0 if is_strong else 0.35 if is_star else 0.5,
        ringed=points[0].on_front,
        key=False,
    )


def _hover(point: TrialPoint, numbers: FrontNumbers) -> str:
    place = "on the front" if point.on_front else "dominated" if point.feasible else "breaks a constraint"
    knee = ", the knee" if numbers.knee is not None and point.number == numbers.knee.number else ""
    return "\n".join(
        [
            point.name,
            *numbers.values(point),
            f"trial {point.number}, {place}{knee}",
        ]
    )


def _keys(numbers: FrontNumbers) -> list[Series]:
    """The legend: name, shape and colour of each method, then of what is marked otherwise."""
    keys = list(looks(numbers.methods).items())
    keys += [("baseline", Look(FAINT, STAR))] if numbers.baselines else []
    keys += [("breaks a constraint", Look(FAINT, CROSS))] if numbers.infeasible else []
    return [Series(name, (), (), look=look, size=9) for name, look in keys]


def bounds_lines(numbers: FrontNumbers) -> list[ReferenceLine]:
    """A line at each bound that lies in the frame."""
    lines = []
    for which, axis in (("x", numbers.x), ("y", numbers.y)):
        for sign, bound in zip(("≥", "≤"), numbers.bounds.get(axis.name, (None, None)), strict=True):
            if bound is not None and 0 <= axis.share(bound) <= 1:
                text = f"{readable(axis.name)} {sign} {bound:g}"
                lines.append(ReferenceLine("x" if which == "x" else "y", bound, text, Look(FAINT, CIRCLE)))
    return lines
