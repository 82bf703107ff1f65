"""The front as a Chart: its members with their spread, what they dominate, baselines, bounds and the knee."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dashboards.figures.numbers import FrontNumbers, Point
from dashboards.ink.chart import Chart, Panel, Rule, Scale, Series
from dashboards.ink.style import CIRCLE, CROSS, FAINT, NEUTRAL, STAR, Look, looks, readable

_KNEE = Look(NEUTRAL, CIRCLE)


def front_chart(numbers: FrontNumbers) -> Chart:
    """Both inks draw it: members of the front and baselines strong, what is dominated faint behind them."""
    panel = Panel(
        x=Scale(numbers.x.title, numbers.x.low, numbers.x.high),
        y=Scale(numbers.y.title, numbers.y.low, numbers.y.high),
        series=(*_outline(numbers), *_keys(numbers), *_clouds(numbers)),
        rules=tuple(_rules(numbers)),
        labels=numbers.labels,
    )
    return Chart((panel,), numbers.caption, numbers.canvas)


def strong(point: Point) -> bool:
    """Whether it is what the picture is about."""
    return point.on_front or point.baseline is not None


def spread(value: float) -> str:
    """` ± 0.0123`, or nothing where it is unknown."""
    return "" if math.isnan(value) else f" ± {value:.4f}"


def _outline(numbers: FrontNumbers) -> list[Series]:
    if not numbers.outline:
        return []
    xs, ys = zip(*numbers.outline, strict=True)
    return [Series("front", xs, ys, "line", Look(NEUTRAL, CIRCLE), size=0, thick=2)]


def _clouds(numbers: FrontNumbers) -> list[Series]:
    """For each method and symbol: the faint points first, so that the strong ones lie upon them."""
    styles = looks(numbers.methods)
    found = []
    for is_strong in (False, True):
        for method, look in styles.items():
            members = [p for p in numbers.points if p.method == method and strong(p) is is_strong]
            for kind in _kinds(members, look):
                found.append(_cloud(kind[1], numbers, method, kind[0], is_strong))
    if numbers.knee is not None:
        k = numbers.knee
        found.append(Series("knee", (k.x,), (k.y,), look=_KNEE, size=22, opacity=0.3, hover=(_hover(k, numbers),)))
    return found


def _kinds(points: Sequence[Point], look: Look) -> list[tuple[Look, list[Point]]]:
    """Points by how they are marked: as a baseline, as one that breaks a bound, ringed or not."""
    found: dict[tuple[str, bool], tuple[Look, list[Point]]] = {}
    for p in points:
        symbol = CROSS if not p.feasible else STAR if p.baseline else look.symbol
        key = (symbol.plotly, p.on_front)
        found.setdefault(key, (Look(look.colour, symbol, look.dash), []))[1].append(p)
    return list(found.values())


def _cloud(points: Sequence[Point], numbers: FrontNumbers, method: str, look: Look, is_strong: bool) -> Series:
    baseline = look.symbol is STAR
    return Series(
        name=method,
        x=[p.x for p in points],
        y=[p.y for p in points],
        look=look,
        x_error=[p.x_std for p in points] if is_strong else (),
        error=[p.y_std for p in points] if is_strong else (),
        hover=[_hover(p, numbers) for p in points],
        size=15 if baseline else 10 if is_strong else 8,
        opacity=1.0 if is_strong else 0.5,
        ringed=points[0].on_front,
        key=False,
    )


def _hover(point: Point, numbers: FrontNumbers) -> str:
    place = "on the front" if point.on_front else "dominated" if point.feasible else "breaks a constraint"
    knee = ", the knee" if numbers.knee is not None and point.number == numbers.knee.number else ""
    return "\n".join(
        [
            point.name,
            f"{numbers.x.name} {point.x:.4f}{spread(point.x_std)}",
            f"{numbers.y.name} {point.y:.4f}{spread(point.y_std)}",
            f"trial {point.number}, {place}{knee}",
        ]
    )


def _keys(numbers: FrontNumbers) -> list[Series]:
    """The legend: name, shape and colour of each method, then of what is marked otherwise."""
    keys = list(looks(numbers.methods).items())
    keys += [("baseline", Look(FAINT, STAR))] if numbers.baselines else []
    keys += [("breaks a constraint", Look(FAINT, CROSS))] if numbers.infeasible else []
    return [Series(name, (), (), look=look, size=9) for name, look in keys]


def _rules(numbers: FrontNumbers) -> list[Rule]:
    """A line at each bound that lies in the frame."""
    found = []
    for which, axis in (("x", numbers.x), ("y", numbers.y)):
        for sign, bound in zip(("≥", "≤"), numbers.bounds.get(axis.name, (None, None)), strict=True):
            if bound is not None and 0 <= axis.share(bound) <= 1:
                text = f"{readable(axis.name)} {sign} {bound:g}"
                found.append(Rule("x" if which == "x" else "y", bound, text, Look(FAINT, CIRCLE)))
    return found
