"""A trial, as every room but `state` sees it: one configuration, its outcome, and the reason for that."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from trainables.metrics import under_both_names
from trainables.params import PARAMS
from trainables.undefined import to_nan


class State(StrEnum):
    """Where a trial stands. Only a complete one, trained to its end with every seed, can be on a front."""

    RUNNING = "running"
    COMPLETE = "complete"
    PRUNED = "pruned"
    FAILED = "failed"

    @property
    def finished(self) -> bool:
        """Whether nothing more will happen to the trial."""
        return self is not State.RUNNING


BY_HAND = "asked for by hand"


@dataclass(frozen=True)
class Trial:
    """One configuration. `values` are means over the seeds of the objectives, in the metrics' own units.

    Where seeds are raced, these are without what a seed does to all trials alike: one seed can be compared with five.
    `metrics` and `spread` hold every validation metric: mean and sample standard deviation over the seeds. With one
    seed `spread` is nan: unknown, not zero. `reason` says why the trial failed, `stopped` where it was stopped early;
    in both cases there are no metrics. `asked` says where somebody asked for it, if one did. Times are milliseconds
    since 1970.

    `seed_list` are the seeds of its fits, those that are still to be trained included. Its numbers are means over the
    first `seeds` of them, of which it got the last `further` after it had ended. `by_seed` holds the objectives and
    bounded metrics of each of these, where that was kept.
    """

    number: int
    state: State
    params: Mapping[str, Any]
    values: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    spread: Mapping[str, float] = field(default_factory=dict)
    seeds: int = 0
    seed_list: tuple[int, ...] = ()
    by_seed: Sequence[Mapping[str, float]] = ()
    further: int = 0
    feasible: bool = True
    baseline: str | None = None
    asked: str | None = None
    reason: str | None = None
    stopped: str | None = None
    started_ms: int = 0
    ended_ms: int | None = None

    @property
    def settled(self) -> bool:
        """Whether no fit of it is trained any more, unless somebody asks for one."""
        return self.state.finished and (self.state is not State.COMPLETE or self.seeds >= len(self.seed_list))

    @property
    def by_hand(self) -> bool:
        """Whether a person asked for it while the sweep was there already; it is beside the sweep's budget."""
        return self.asked == BY_HAND

    @property
    def able(self) -> bool:
        """Whether it can be on a front: it is complete and keeps the constraints."""
        return self.state is State.COMPLETE and self.feasible

    @property
    def first_values(self) -> Mapping[str, float]:
        """The plain means of the objectives when it ended, before it got `further` seeds."""
        first = self.by_seed[: self.seeds - self.further]
        return {name: sum(row[name] for row in first) / len(first) for name in self.values} if first else self.values

    def value(self, name: str) -> float:
        """An objective, or another metric, as it is shown; nan where it is unknown."""
        return self.values[name] if name in self.values else self.metrics.get(name, math.nan)

    @property
    def why(self) -> str | None:
        """Why it ended without numbers: it failed or was stopped early; None otherwise."""
        return self.reason or self.stopped

    @property
    def label(self) -> str:
        """A name for people: `fairlora λ=0.31 r=16`."""
        parts = [str(self.params.get("method", "trial"))]
        for name, value in self.params.items():
            if (param := PARAMS.get(name)) and (param.searched or param.symbol):
                number = f"{value:.3g}" if isinstance(value, float) else value
                parts.append(f"{param.symbol or name}={number}")
        return " ".join(parts)


def mean_and_spread(rows: Sequence[Mapping[str, float | None]]) -> tuple[dict[str, float], dict[str, float]]:
    """Mean and sample standard deviation (ddof 1) of each metric over the seeds.

    A metric that is undefined for one seed is undefined for the trial: a mean over fewer seeds would not be comparable.
    """
    defined = [under_both_names(to_nan(row)) for row in rows]  # the seeds of one trial may be of two releases
    means, spreads = {}, {}
    for name in defined[0] if defined else ():
        values = np.array([row.get(name, math.nan) for row in defined], dtype=np.float64)
        means[name] = float(values.mean())
        spreads[name] = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    return means, spreads


def typical(rows: Mapping[int, Mapping[str, float | None]], objectives: Mapping[str, str]) -> int:
    """The seed whose objectives (name: "max" or "min") are nearest to their means over the seeds. `rows` is by seed.

    Each objective is measured in units of its own spread. Choosing the best seed would be choosing by luck, so a tie
    (two seeds always tie) goes to the worse one. A fit with an undefined objective is never the typical one.
    """
    defined = [to_nan(row) for row in rows.values()]
    table = [[row.get(name, math.nan) for name in objectives] for row in defined]
    values_SM = np.array(table, dtype=np.float64).reshape(len(rows), len(objectives))
    spread_M = values_SM.std(axis=0)
    away_SM = (values_SM - values_SM.mean(axis=0)) / np.where(spread_M > 0, spread_M, 1.0)
    better_S = away_SM @ np.array([1.0 if sense == "max" else -1.0 for sense in objectives.values()])
    distance_S = np.nan_to_num(np.round((away_SM**2).sum(axis=1), 9), nan=np.inf)
    nearest_first = np.lexsort((np.nan_to_num(np.round(better_S, 9)), distance_S))
    return list(rows)[int(nearest_first[0])]
