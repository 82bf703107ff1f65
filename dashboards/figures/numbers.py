"""The numbers of the front: plain data, made a Chart by `front`, tested without a picture."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

from dashboards.ink.chart import SCREEN, Label
from dashboards.ink.labels import Box, place
from dashboards.ink.style import direction

Sense = Literal["min", "max"]
Bounds = Mapping[str, tuple[float | None, float | None]]

FAR = 1.5  # a dominated point further off than this many extents of the front is left to the zoom


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
class Point:
    """One complete trial: means over its seeds, and the spread (nan where one seed ran)."""

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

    @property
    def name(self) -> str:
        """The label, and that it is a baseline where it is one."""
        return f"{self.label} (baseline)" if self.baseline else self.label


@dataclass(frozen=True)
class FrontNumbers:
    """All that a picture of the front says. A baseline may be on the front and is in both lists then."""

    x: Axis
    y: Axis
    front: tuple[Point, ...]
    dominated: tuple[Point, ...]
    baselines: tuple[Point, ...]
    infeasible: tuple[Point, ...]
    outline: tuple[tuple[float, float], ...]
    labels: tuple[Label, ...]
    caption: str
    canvas: tuple[float, float] = SCREEN
    knee: Point | None = None
    bounds: Bounds = field(default_factory=dict)

    @property
    def points(self) -> tuple[Point, ...]:
        """Every point once, in the order of drawing: the least important first."""
        loose = tuple(p for p in self.baselines if not p.on_front and p.feasible)
        return self.infeasible + self.dominated + loose + self.front

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that occur, sorted."""
        return tuple(sorted({p.method for p in self.points}))


def front_numbers(
    trials: pd.DataFrame,
    objectives: Mapping[str, Sense],
    *,
    knee: int | None = None,
    bounds: Bounds | None = None,
    canvas: tuple[float, float] = SCREEN,
) -> FrontNumbers:
    """The front in its first two objectives.

    `trials` has one row per trial: number, state, label, method, feasible, baseline, on_front, and
    `<objective>`, `<objective>_std` for each objective. Only complete rows become points; the caption
    counts the others. With three objectives or more the front has no outline in the plane.
    `knee` is a trial's number; `bounds` holds the least and the greatest value that a metric may have.
    Names are placed on `canvas` (pixels): a smaller one has room for fewer.

    Raises:
        ValueError: fewer than two objectives.
    """
    if len(objectives) < 2:
        raise ValueError(f"a front has two objectives or more, not {list(objectives)}")
    (x_name, x_sense), (y_name, y_sense) = list(objectives.items())[:2]
    points = _points(trials, x_name, y_name)
    front = tuple(sorted((p for p in points if p.on_front), key=lambda p: (p.x, p.y, p.number)))
    baselines = tuple(p for p in points if p.baseline)
    loose = [p for p in points if not p.on_front]
    main = [*front, *baselines] or points
    x = Axis(x_name, x_sense, *_extent([(p.x, p.x_std) for p in main], [p.x for p in points]))
    y = Axis(y_name, y_sense, *_extent([(p.y, p.y_std) for p in main], [p.y for p in points]))
    border = outline(front, x, y) if len(objectives) == 2 else ()
    return FrontNumbers(
        x=x,
        y=y,
        front=front,
        dominated=tuple(p for p in loose if p.feasible and not p.baseline),
        baselines=baselines,
        infeasible=tuple(p for p in loose if not p.feasible),
        outline=border,
        labels=_labels(points, front, baselines, border, _Frame(x, y, canvas), knee),
        caption=_caption(trials, points, x, y, tuple(objectives)),
        canvas=canvas,
        knee=next((p for p in points if p.number == knee), None),
        bounds={name: ends for name, ends in (bounds or {}).items() if name in (x_name, y_name)},
    )


def _points(trials: pd.DataFrame, x: str, y: str) -> list[Point]:
    rows = [row for row in trials.to_dict("records") if row["state"] == "complete"]
    return [_point(row, x, y) for row in rows if math.isfinite(row[x]) and math.isfinite(row[y])]


def _point(row: Mapping[Any, Any], x: str, y: str) -> Point:
    baseline = row["baseline"]
    return Point(
        number=int(row["number"]),
        label=str(row["label"]),
        method=str(row["method"]),
        x=float(row[x]),
        y=float(row[y]),
        x_std=float(row[f"{x}_std"]),
        y_std=float(row[f"{y}_std"]),
        feasible=bool(row["feasible"]),
        baseline=baseline if isinstance(baseline, str) and baseline else None,
        on_front=bool(row["on_front"]),
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


def outline(front: Sequence[Point], x: Axis, y: Axis) -> tuple[tuple[float, float], ...]:
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


def _labels(
    points: Sequence[Point],
    front: Sequence[Point],
    baselines: Sequence[Point],
    border: Sequence[tuple[float, float]],
    frame: _Frame,
    knee: int | None,
) -> tuple[Label, ...]:
    """Names for the knee, the baselines and the front members, the ends of the front before its middle.

    What finds no room for its name is called by its number, or by nothing.
    """
    chosen = [p for p in points if p.number == knee]
    rest = [p for p in front if not p.baseline and p.number != knee]
    named = [*chosen, *(p for p in baselines if p.number != knee), *rest[:1], *rest[1:][-1:], *rest[1:-1]]
    obstacles = [*_bars(named, frame), *_steps(border, frame)]
    places = place(
        [frame.pixel(p.x, p.y) for p in named],
        [(f"{p.name}, the knee" if p.number == knee else p.name, p.name, f"#{p.number}") for p in named],
        obstacles=obstacles,
        marks=_marks(points, frame),
        size=frame.canvas,
        towards=(float(frame.x.sign), float(frame.y.sign)),  # the better side of a front is empty
    )
    return tuple(
        Label(spot.text, point.x, point.y, spot.dx, spot.dy)
        for point, spot in zip(named, places, strict=True)
        if spot is not None
    )


def _marks(points: Sequence[Point], frame: _Frame) -> list[Box]:
    at = [frame.pixel(p.x, p.y) for p in points]
    return [Box(u - 6, v - 6, u + 6, v + 6) for u, v in at]


def _bars(points: Sequence[Point], frame: _Frame) -> list[Box]:
    boxes = []
    for p in points:
        if not math.isnan(p.x_std):
            boxes.append(frame.between((p.x - p.x_std, p.y), (p.x + p.x_std, p.y)))
        if not math.isnan(p.y_std):
            boxes.append(frame.between((p.x, p.y - p.y_std), (p.x, p.y + p.y_std)))
    return boxes


def _steps(border: Sequence[tuple[float, float]], frame: _Frame) -> list[Box]:
    return [frame.between(a, b) for a, b in itertools.pairwise(border)]


def _caption(trials: pd.DataFrame, points: Sequence[Point], x: Axis, y: Axis, objectives: tuple[str, ...]) -> str:
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
