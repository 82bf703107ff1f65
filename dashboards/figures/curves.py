"""A metric against rank or lambda, one line per method: the shape of FairLoRA, figures 2, 5, 9 and 10."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dashboards.ink.chart import WIDE, Chart, Panel, ReferenceLine, Scale, Series
from dashboards.ink.style import Look, looks
from dashboards.ink.wording import direction, readable

FEW = 8  # up to so many values of a parameter each is a point of the line; more are put into bins
BINS = 5


@dataclass(frozen=True)
class MethodCurve:
    """One method and metric: each trial's own value, and the line through them with its spread."""

    method: str
    metric: str
    trials: tuple[tuple[float, float, str], ...]
    x: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    binned: bool = False


@dataclass(frozen=True)
class CurveNumbers:
    """`level` holds the mean of the methods that do not have the parameter, by metric and method."""

    parameter: str
    metrics: Mapping[str, str]
    curves: tuple[MethodCurve, ...]
    level: Mapping[tuple[str, str], float]
    log: bool


def curve_numbers(trials: pd.DataFrame, parameter: str, metrics: Mapping[str, str]) -> CurveNumbers:
    """From the complete rows of `trials` (state, label, method, the parameter, each metric and its `_std`).

    Where a method was tried at few values, a point of its line is the mean over the trials there, and
    its bar their standard deviation (of one trial: over its seeds). Where a search took many, the
    trials are put into bins of equal number.
    """
    known = trials[(trials["state"] == "complete")]
    curves, level = [], {}
    for metric in metrics:
        for method, rows in known.dropna(subset=[metric]).groupby("method"):
            with_it = rows.dropna(subset=[parameter]) if parameter in rows else rows.iloc[:0]
            if len(with_it):
                curves.append(_curve(with_it, str(method), parameter, metric))
            else:
                level[metric, str(method)] = float(rows[metric].mean())
    values = [x for curve in curves for x, _, _ in curve.trials]
    log = bool(values) and min(values) > 0 and max(values) / min(values) >= 8
    return CurveNumbers(parameter, dict(metrics), tuple(curves), level, log)


def _curve(rows: pd.DataFrame, method: str, parameter: str, metric: str) -> MethodCurve:
    rows = rows.sort_values(parameter)
    values = rows[parameter].astype(float)
    binned = values.nunique() > FEW
    bins = np.array_split(np.arange(len(rows)), BINS) if binned else [
        np.flatnonzero(values.to_numpy() == value) for value in values.unique()
    ]  # fmt: skip
    parts = [rows.iloc[at] for at in bins]
    return MethodCurve(
        method,
        metric,
        tuple(zip(values, rows[metric].astype(float), rows["label"].astype(str), strict=True)),
        tuple(_middle(part[parameter].astype(float)) for part in parts),
        tuple(float(part[metric].mean()) for part in parts),
        tuple(_spread(part, metric) for part in parts),
        binned,
    )


def _middle(values: pd.Series) -> float:
    """The geometric mean where it exists: these parameters are searched on a logarithmic scale."""
    return float(np.exp(np.log(values).mean())) if (values > 0).all() else float(values.mean())


def _spread(part: pd.DataFrame, metric: str) -> float:
    if len(part) > 1:
        return float(part[metric].std(ddof=1))
    return float(part[f"{metric}_std"].iloc[0]) if f"{metric}_std" in part else math.nan


def curve_chart(numbers: CurveNumbers) -> Chart:
    """One panel for each metric; methods without the parameter are lines straight across."""
    methods = sorted({curve.method for curve in numbers.curves} | {method for _, method in numbers.level})
    styles = looks(methods)
    panels = []
    for metric, sense in numbers.metrics.items():
        levels = [
            ReferenceLine("y", value, method, styles[method])
            for (m, method), value in numbers.level.items()
            if m == metric
        ]
        series = [
            part for curve in numbers.curves if curve.metric == metric for part in _series(curve, styles[curve.method])
        ]
        across = Scale(readable(numbers.parameter), log=numbers.log, ticks=_ticks(numbers))
        panels.append(Panel(across, Scale(direction(metric, sense)), tuple(series), reference_lines=tuple(levels)))
    return Chart(tuple(panels), _caption(numbers), WIDE if len(panels) > 1 else (640.0, 300.0))


def _ticks(numbers: CurveNumbers) -> tuple[float, ...]:
    """Powers of two for what spans less than three decades, as ranks are written; powers of ten otherwise."""
    values = [x for curve in numbers.curves for x, _, _ in curve.trials]
    if not numbers.log:
        return ()
    base = 2 if max(values) / min(values) < 1000 else 10
    low, high = math.floor(math.log(min(values), base) + 1e-9), math.ceil(math.log(max(values), base) - 1e-9)
    return tuple(float(base) ** power for power in range(low, high + 1))


def _series(curve: MethodCurve, look: Look) -> Sequence[Series]:
    xs, ys, names = zip(*curve.trials, strict=True)
    hover = [f"{name}\n{curve.metric} {y:.4f}" for name, y in zip(names, ys, strict=True)]
    faint = Series(curve.method, xs, ys, look=look, hover=hover, size=6, opacity=0.35, key=False)
    means = [f"{curve.method}, mean {y:.4f}" for y in curve.mean]
    line = Series(curve.method, curve.x, curve.mean, "line", look, error=curve.std, hover=means, size=7)
    return [faint, line] if curve.binned else [line]


def _caption(numbers: CurveNumbers) -> str:
    binned = any(curve.binned for curve in numbers.curves)
    how = (
        "Lines: means over bins of equally many trials, bars their standard deviation; faint: the trials."
        if binned
        else "Points: means over the trials with this value, bars their standard deviation (of one trial: over seeds)."
    )
    across = " Dashed: the mean of a method that has no such parameter." if numbers.level else ""
    return f"{how}{across} Trials of a search also differ in their other parameters."
