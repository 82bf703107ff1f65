"""A metric against rank or lambda, one line per method: the shape of FairLoRA, figures 2, 5, 9 and 10."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from dashboards.ink.chart import WIDE, Chart, Panel, Scale, Series
from dashboards.ink.style import Look, looks
from dashboards.ink.wording import direction, readable, setting

FEW = 8  # up to so many values of a parameter each is a point of the line; more are put into bins
BINS = 5


@dataclass(frozen=True)
class MethodCurve:
    """One method and metric: each trial's own value, and the line through one trial for each value of the parameter.

    `fixed` says at which values of the other parameters the line's trials were made; empty: each is the best there.
    """

    method: str
    metric: str
    trials: tuple[tuple[float, float, str], ...]
    x: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    binned: bool = False
    fixed: str = ""


@dataclass(frozen=True)
class CurveNumbers:
    """`level` holds the best trial of the methods that do not have the parameter, by metric and method."""

    parameter: str
    metrics: Mapping[str, str]
    curves: tuple[MethodCurve, ...]
    level: Mapping[tuple[str, str], float]
    log: bool


def curve_numbers(
    trials: pd.DataFrame, parameter: str, metrics: Mapping[str, str], parameters: Sequence[str] = ()
) -> CurveNumbers:
    """From the complete rows of `trials` (state, label, method, `parameters`, each metric and its `_std`).

    A method's line holds its other `parameters` fixed at those of its best trial, where such trials are there for every
    value of `parameter`. Elsewhere it goes through the best trial of each value (of many values: of each of a few bins
    of equally many trials). Best is by the first of `metrics`. Bars: standard deviation over the seeds.
    """
    known = trials[(trials["state"] == "complete")]
    first, sense = next(iter(metrics.items()))
    others = [name for name in parameters if name not in (parameter, "method") and name in known]
    curves, level = [], {}
    for method, rows in known.dropna(subset=[first]).groupby("method"):
        ranked = rows.sort_values(first, ascending=sense == "min", kind="stable")
        with_it = ranked.dropna(subset=[parameter]) if parameter in ranked else ranked.iloc[:0]
        if len(with_it):
            line, fixed, binned = _line(with_it, parameter, others)
        for metric in metrics:
            if len(with_it):
                curves.append(_curve(with_it, line, str(method), parameter, metric, fixed, binned))
            else:
                level[metric, str(method)] = float(ranked[metric].iloc[0])
    values = [x for curve in curves for x, _, _ in curve.trials]
    log = bool(values) and min(values) > 0 and max(values) / min(values) >= 8
    return CurveNumbers(parameter, dict(metrics), tuple(curves), level, log)


def _line(ranked: pd.DataFrame, parameter: str, others: Sequence[str]) -> tuple[pd.DataFrame, str, bool]:
    """The trials that the line goes through, best first in `ranked`; what they have in common; whether from bins."""
    values = ranked[parameter].nunique()
    varied = [name for name in others if ranked[name].nunique(dropna=False) > 1]
    best = ranked.iloc[0]
    like_best = ranked[(ranked[varied].eq(best[varied]) | (ranked[varied].isna() & best[varied].isna())).all(axis=1)]
    if varied and like_best[parameter].nunique() == values:
        fixed = ", ".join(f"{name} {setting(best[name])}" for name in varied)
        return like_best.drop_duplicates(parameter).sort_values(parameter), fixed, False
    if values <= FEW:
        return ranked.drop_duplicates(parameter).sort_values(parameter), "", False
    bins = pd.Series(np.arange(len(ranked)) * BINS // len(ranked), ranked.sort_values(parameter).index)
    return ranked.assign(bin=bins).drop_duplicates("bin").sort_values(parameter), "", True


def _curve(
    rows: pd.DataFrame, line: pd.DataFrame, method: str, parameter: str, metric: str, fixed: str, binned: bool
) -> MethodCurve:
    spread = line[f"{metric}_std"] if f"{metric}_std" in line else [math.nan] * len(line)
    return MethodCurve(
        method,
        metric,
        tuple(zip(rows[parameter].astype(float), rows[metric].astype(float), rows["label"].astype(str), strict=True)),
        tuple(line[parameter].astype(float)),
        tuple(line[metric].astype(float)),
        tuple(map(float, spread)),
        binned,
        fixed,
    )


def curve_chart(numbers: CurveNumbers, names: Mapping[str, str] | None = None) -> Chart:
    """One panel for each metric; methods without the parameter are lines straight across.

    `names` has the method of lines that are called otherwise, as where several sweeps have the same.
    """
    methods = sorted({curve.method for curve in numbers.curves} | {method for _, method in numbers.level})
    styles = looks(methods, names)
    values = [x for curve in numbers.curves for x, _, _ in curve.trials]
    panels = []
    for metric, sense in numbers.metrics.items():
        levels = [
            Series(method, (min(values), max(values)), (value, value), "line", styles[method], thick=1.2, size=0)
            for (m, method), value in numbers.level.items()
            if m == metric and values
        ]
        series = [
            part for curve in numbers.curves if curve.metric == metric for part in _series(curve, styles[curve.method])
        ]
        across = Scale(readable(numbers.parameter), log=numbers.log, ticks=_ticks(numbers))
        panels.append(Panel(across, Scale(direction(metric, sense)), (*levels, *series)))
    return Chart(tuple(panels), _caption(numbers), WIDE if len(panels) > 1 else (640.0, 300.0))


def _ticks(numbers: CurveNumbers) -> tuple[float, ...]:
    """Powers of two for ranks, from 1 over less than three decades; powers of ten otherwise."""
    values = [x for curve in numbers.curves for x, _, _ in curve.trials]
    if not numbers.log:
        return ()
    base = 2 if min(values) >= 1 and max(values) / min(values) < 1000 else 10
    low, high = math.floor(math.log(min(values), base) + 1e-9), math.ceil(math.log(max(values), base) - 1e-9)
    return tuple(float(base) ** power for power in range(low, high + 1))


def _series(curve: MethodCurve, look: Look) -> Sequence[Series]:
    xs, ys, names = zip(*curve.trials, strict=True)
    hover = [f"{name}\n{curve.metric} {y:.4f}" for name, y in zip(names, ys, strict=True)]
    faint = Series(curve.method, xs, ys, look=look, hover=hover, size=6, opacity=0.35, key=False)
    means = [f"{curve.method} {y:.4f}" for y in curve.mean]
    line = Series(curve.method, curve.x, curve.mean, "line", look, error=curve.std, hover=means, size=7)
    return [faint, line] if len(curve.trials) > len(curve.x) else [line]


def _caption(numbers: CurveNumbers) -> str:
    first = readable(next(iter(numbers.metrics)))
    fixed = {curve.method: curve.fixed for curve in numbers.curves if curve.fixed}
    each = "each bin of equally many trials" if any(curve.binned for curve in numbers.curves) else "each value"
    parts = ["Bars: standard deviation over the seeds; faint: the other trials."]
    if fixed:
        parts.append("At fixed settings: " + "; ".join(f"{method} at {what}" for method, what in fixed.items()) + ".")
    if any(not curve.fixed and len(curve.trials) > len(curve.x) for curve in numbers.curves):
        others = "Other lines" if fixed else "Lines"
        parts.append(f"{others}: the trial of {each} with the best {first}, so where more were tried it looks better.")
    if numbers.level:
        parts.append(f"Level, without marks: a method without this parameter, its trial with the best {first}.")
    return " ".join(parts)
