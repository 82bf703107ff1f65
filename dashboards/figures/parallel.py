"""Parallel coordinates: each trial is a line across its parameters and objectives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from dashboards.ink.chart import WIDE, Chart, Panel, Scale, Series
from dashboards.ink.style import looks
from dashboards.ink.wording import readable


@dataclass(frozen=True)
class Line:
    """One trial: its place on each axis, 0 to 1 (nan where it has no such parameter)."""

    label: str
    method: str
    on_front: bool
    places: tuple[float, ...]


@dataclass(frozen=True)
class ParallelNumbers:
    """The axes' names with their ends, and a line for each complete trial."""

    axes: tuple[str, ...]
    lines: tuple[Line, ...]


def parallel_numbers(trials: pd.DataFrame, parameters: Sequence[str], objectives: Mapping[str, str]) -> ParallelNumbers:
    """Of the complete rows; parameters that never vary are left out, of the others the axis fits the values.

    Objectives are turned so that their better end is up.
    """
    known = trials[trials["state"] == "complete"]
    columns: dict[str, list[float]] = {}
    for name in parameters:
        if name in known and known[name].nunique() > 1:
            title, places = _axis(readable(name), known[name])
            columns[title] = places
    for name, sense in objectives.items():
        title, places = _axis(readable(name), known[name], turned=sense == "min")
        columns[title] = places
    rows = zip(*columns.values(), strict=True)
    lines = [
        Line(str(label), str(method), bool(on), tuple(places))
        for label, method, on, places in zip(known["label"], known["method"], known["on_front"], rows, strict=True)
    ]
    return ParallelNumbers(tuple(columns), tuple(lines))


def _axis(name: str, values: pd.Series, *, turned: bool = False) -> tuple[str, list[float]]:
    """The axis' name with its lower and upper end, and the place of each value."""
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.notna().sum() < values.notna().sum():
        kinds = sorted(map(str, values.dropna().unique()))
        places = [kinds.index(str(v)) / max(1, len(kinds) - 1) if pd.notna(v) else math.nan for v in values]
        return f"{name}\n{kinds[0]} … {kinds[-1]}", places
    low, high = float(numbers.min()), float(numbers.max())
    log = low > 0 and high / low >= 8
    scaled = [_place(float(v), low, high, log) for v in numbers]
    if turned:
        return f"{name}\n{high:.3g} … {low:.3g}", [1 - place for place in scaled]
    return f"{name}\n{low:.3g} … {high:.3g}", scaled


def _place(value: float, low: float, high: float, log: bool) -> float:
    if math.isnan(value) or high == low:
        return math.nan if math.isnan(value) else 0.5
    return math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low)


def parallel_chart(numbers: ParallelNumbers) -> Chart:
    """Members of the front strong, the others faint behind them."""
    styles = looks(sorted({line.method for line in numbers.lines}))
    series = [
        Series(
            line.method,
            range(len(line.places)),
            line.places,
            "line",
            styles[line.method],
            hover=[f"{line.label}\n{axis}" for axis in numbers.axes],
            size=5 if line.on_front else 0,
            opacity=1.0 if line.on_front else 0.3,
            thick=2.0 if line.on_front else 1.0,
            key=first,
        )
        for line, first in _firsts(numbers.lines)
    ]
    panel = Panel(Scale(names=numbers.axes), Scale("low … high", -0.04, 1.04), tuple(series))
    caption = "Strong lines: the front. Objectives are turned so that better is up; the ends stand under each axis."
    return Chart((panel,), f"{caption} A line breaks where the method has no such parameter.", WIDE)


def _firsts(lines: Sequence[Line]) -> list[tuple[Line, bool]]:
    """Faint lines before strong ones; each method's last line, a strong one if it has any, makes its key."""
    ordered = sorted(lines, key=lambda line: line.on_front)
    last = {line.method: index for index, line in enumerate(ordered)}
    return [(line, last[line.method] == index) for index, line in enumerate(ordered)]
