"""Several sweeps on one picture: their fronts in one frame, and how each grew by one reference point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd

from dashboards.figures.front import Axis, FrontNumbers, Sense, TrialPoint, front_numbers, outline
from dashboards.figures.growth import VOLUME
from dashboards.ink.chart import SCREEN, WIDE, Chart, Panel, Scale, Series
from dashboards.ink.style import CIRCLE, FAINT, NEUTRAL, STAR, Dash, Look, looks


def fronts_chart(
    tables: Mapping[str, pd.DataFrame],
    objectives: Mapping[str, Sense],
    *,
    canvas: tuple[float, float] = SCREEN,
) -> Chart:
    """The front of each sweep by its name, as `front_numbers` takes its table; baselines as stars.

    A sweep is a line by its dash, a point has the look of its method.

    Raises:
        ValueError: fewer than two objectives.
    """
    each = {name: front_numbers(table, objectives) for name, table in tables.items()}
    x, y = (_joint([getattr(numbers, which) for numbers in each.values()]) for which in ("x", "y"))
    lines = sweep_looks(list(each))
    series = [part for name, numbers in each.items() for part in _series(name, numbers, x, y, lines[name])]
    methods = looks(sorted({p.method for numbers in each.values() for p in (*numbers.front, *numbers.baselines)}))
    series += [Series(method, (), (), look=look, size=9) for method, look in methods.items()]
    outside = sum(not (0 <= x.share(p.x) <= 1 and 0 <= y.share(p.y) <= 1) for n in each.values() for p in n.front)
    caption = "Lines: the fronts, each sweep its dash; bars: one standard deviation over the seeds; stars: baselines."
    caption += f" {outside} outside the frame." if outside else ""
    panel = Panel(Scale(x.title, x.low, x.high), Scale(y.title, y.low, y.high), tuple(series))
    return Chart((panel,), caption, canvas)


def _joint(axes: Sequence[Axis]) -> Axis:
    """One axis over all."""
    return replace(axes[0], low=min(axis.low for axis in axes), high=max(axis.high for axis in axes))


def sweep_looks(names: Sequence[str]) -> dict[str, Look]:
    """A line for each sweep: its dash tells which, as the colours belong to the methods."""
    dashes: tuple[Dash, ...] = ("solid", "dash", "dot", "dashdot")
    return {name: Look(NEUTRAL if i < 4 else FAINT, CIRCLE, dashes[i % 4]) for i, name in enumerate(names)}


def _series(name: str, numbers: FrontNumbers, x: Axis, y: Axis, look: Look) -> list[Series]:
    border = outline(numbers.front, x, y) if numbers.outline else ()
    line = Series(name, [u for u, _ in border], [v for _, v in border], "line", look, size=0)
    stars = [p for p in numbers.baselines if not p.on_front]
    clouds = []
    for method, own in looks(numbers.methods).items():
        members = [p for p in numbers.front if p.method == method]
        loose = [p for p in stars if p.method == method]
        clouds.append(_cloud(name, members, own, numbers, size=9, ringed=True))
        clouds.append(_cloud(name, loose, replace(own, symbol=STAR), numbers, size=13))
    return [line, *(cloud for cloud in clouds if len(cloud.x))]


def _cloud(
    name: str, points: Sequence[TrialPoint], look: Look, numbers: FrontNumbers, *, size: float, ringed: bool = False
) -> Series:
    return Series(
        name=name,
        x=[p.x for p in points],
        y=[p.y for p in points],
        look=look,
        x_error=[p.x_std for p in points],
        error=[p.y_std for p in points],
        hover=["\n".join([f"{name} #{p.number}", p.name, *numbers.values(p)]) for p in points],
        size=size,
        ringed=ringed,
        key=False,
    )


def growths_chart(growths: Mapping[str, tuple[Sequence[float], Sequence[float]]]) -> Chart:
    """For each sweep its hypervolume after each finished trial, and the device hours until then."""
    styles = sweep_looks(list(growths))
    panels = [
        Panel(
            Scale(title),
            Scale(VOLUME),
            tuple(
                Series(name, hours if by_hours else range(1, len(volumes) + 1), volumes, "steps", styles[name], size=0)
                for name, (volumes, hours) in growths.items()
            ),
        )
        for title, by_hours in (("finished trials", False), ("device hours, all fits together", True))
    ]
    return Chart(tuple(panels), "One reference point for all.", WIDE)
