"""Which parameters the objectives depend on, by a random forest, and whether the trials can tell at all.

A forest is fitted to the trials, without a fifth of them at a time. A parameter's importance is its share of the
objective's variance, alone and together with the others: Sobol's total effect. It is half of what the squared error on
the trials left out rises by when the parameter's values are shuffled among them, because two independent draws differ
by twice the variance (Gregorutti, Michel and Saint-Pierre 2017, proposition 1). Where the forest predicts no better
than the mean, the importances mean nothing, and it is said so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from dashboards.ink.chart import WIDE, Chart, Panel, Scale, Series
from dashboards.ink.style import CIRCLE, NEUTRAL, Look
from dashboards.ink.wording import readable

LEAST = 10  # trials; fewer are not asked
_FOLDS, _SHUFFLES, _TREES = 5, 5, 60


@dataclass(frozen=True)
class ImportanceNumbers:
    """By objective: each parameter's importance, its standard deviation over the folds, and R² on trials left out."""

    parameters: tuple[str, ...]
    importance: Mapping[str, tuple[float, ...]]
    spread: Mapping[str, tuple[float, ...]]
    predicted: Mapping[str, float]
    trials: int


def importance_numbers(
    trials: pd.DataFrame, parameters: Sequence[str], objectives: Sequence[str], *, seed: int = 0
) -> ImportanceNumbers | None:
    """Of the complete rows of `trials`; None where there are fewer than ten, or nothing varies."""
    known = trials[trials["state"] == "complete"].dropna(subset=list(objectives))
    varied = [name for name in parameters if name in known and known[name].astype(str).nunique() > 1]
    if len(known) < LEAST or not varied:
        return None
    columns = [_features(known[name]) for name in varied]
    by_objective = {name: _importance(columns, known[name].to_numpy(dtype=np.float64), seed) for name in objectives}
    return ImportanceNumbers(
        parameters=tuple(varied),
        importance={name: tuple(f[0].tolist()) for name, f in by_objective.items()},
        spread={name: tuple(f[1].tolist()) for name, f in by_objective.items()},
        predicted={name: f[2] for name, f in by_objective.items()},
        trials=len(known),
    )


def _features(values: pd.Series) -> npt.NDArray[np.float64]:
    """A parameter as columns `[T, F]`: the logarithm where it spans decades, one for each word, one for absence."""
    numbers = pd.to_numeric(values, errors="coerce")
    if numbers.notna().sum() < values.notna().sum():
        return pd.get_dummies(values.astype(str)).to_numpy(dtype=np.float64)
    column = numbers.to_numpy(dtype=np.float64)
    if np.nanmin(column) > 0 and np.nanmax(column) / np.nanmin(column) >= 8:
        column = np.log(column)
    absent = np.isnan(column)
    filled = np.where(absent, np.nanmean(column), column)
    return np.column_stack([filled, absent.astype(np.float64)])


def _importance(
    columns: Sequence[npt.NDArray[np.float64]], target_T: npt.NDArray[np.float64], seed: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], float]:
    """Mean and standard deviation over the folds `[P]`, and R² over all trials left out."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(target_T))
    variance = float(target_T.var()) or math.inf  # an objective that never varies depends on nothing
    worse, error = [], 0.0
    for fold in range(_FOLDS):
        left_out = order[fold::_FOLDS]
        known = np.setdiff1d(order, left_out)
        errors_P1 = _errors(columns, target_T, known, left_out, seed + fold)
        error += errors_P1[-1] * len(left_out)
        worse.append((errors_P1[:-1] - errors_P1[-1]) / 2)
    share_FP = np.array(worse) / variance
    return share_FP.mean(axis=0), share_FP.std(axis=0, ddof=1), 1 - error / len(target_T) / variance


def _errors(
    columns: Sequence[npt.NDArray[np.float64]],
    target_T: npt.NDArray[np.float64],
    known: npt.NDArray[np.int64],
    left_out: npt.NDArray[np.int64],
    seed: int,
) -> npt.NDArray[np.float64]:
    """Mean squared error `[P + 1]` on the trials left out, with each parameter shuffled, and last with none."""
    from sklearn.ensemble import RandomForestRegressor  # takes a second to import

    rng = np.random.default_rng(seed)
    aside, truth = [column[left_out] for column in columns], target_T[left_out]
    dealt = [
        np.hstack([column[rng.permutation(len(truth))] if p == which else column for p, column in enumerate(aside)])
        for which in range(len(columns))
        for _ in range(_SHUFFLES)
    ]
    forest = RandomForestRegressor(_TREES, min_samples_leaf=2, random_state=seed)
    forest.fit(np.hstack(columns)[known], target_T[known])
    cases = np.vstack([*dealt, np.hstack(aside)])  # in one call, because each takes a while to start
    answers = forest.predict(cases).reshape(-1, len(truth))
    errors = ((answers - truth) ** 2).mean(axis=1)
    return np.append(errors[:-1].reshape(len(columns), _SHUFFLES).mean(axis=1), errors[-1])


def importance_chart(numbers: ImportanceNumbers) -> Chart:
    """One group of bars for each parameter, the most important first; one colour for each objective."""
    strength = [max(values[p] for values in numbers.importance.values()) for p in range(len(numbers.parameters))]
    order = sorted(range(len(strength)), key=lambda p: -strength[p])
    styles = {name: Look(NEUTRAL, CIRCLE, strength=0.55**i) for i, name in enumerate(numbers.importance)}
    series = tuple(
        Series(
            readable(name), range(len(order)), [values[p] for p in order], "bars", styles[name],
            error=[numbers.spread[name][p] for p in order],
        )
        for name, values in numbers.importance.items()
    )  # fmt: skip
    names = tuple(readable(numbers.parameters[p]) for p in order)
    panel = Panel(Scale(names=names), Scale("share of the variance"), series)
    return Chart((panel,), _caption(numbers), WIDE)


def _caption(numbers: ImportanceNumbers) -> str:
    predicted = ", ".join(f"{readable(name)} {value:.2f}" for name, value in numbers.predicted.items())
    blind = [readable(name) for name, value in numbers.predicted.items() if value <= 0]
    warning = f" These {numbers.trials} trials cannot say what {' and '.join(blind)} depends on." if blind else ""
    return (
        "Total effects, by how much worse a random forest predicts trials left out when a parameter is shuffled; what "
        f"parameters do together counts for each. Bars: standard deviation over {_FOLDS} folds. R² on trials left out: "
        f"{predicted}.{warning}"
    )
