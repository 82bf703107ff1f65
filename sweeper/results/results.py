"""What a sweep has found, as tables, and the point to take: read from the study's trials and the fits' folders.

Validation numbers only: nothing here can see the test split, so nothing here can choose by it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from sweeper.front import recommend, stability
from sweeper.front.recommend import Recommendation
from sweeper.front.stability import Measured
from sweeper.results import summary
from sweeper.spec.model import SweepSpec
from sweeper.state.sweep_folder import SweepFolder
from sweeper.trial import State, Trial
from trainables.metrics import Answers


@dataclass(frozen=True)
class FitResult:
    """One fit with an end: one training of a trial's params with one seed. Undefined metrics are nan.

    `stopped`: after how many epochs it was stopped early; it has no metrics then.
    """

    number: int
    seed: int
    values: Mapping[str, float]
    reasons: Mapping[str, str]
    groups: Sequence[Mapping[str, Any]]
    history: Sequence[Mapping[str, Any]]
    provenance: Mapping[str, Any]
    seconds: float
    error: Mapping[str, Any] | None
    stopped: int | None
    answers: Answers | None
    calibration: Sequence[Mapping[str, Any]]

    @classmethod
    def from_json(cls, number: int, seed: int, body: Mapping[str, Any]) -> FitResult:
        """From the body of a fit's result, also of one from before answers and calibration were kept."""
        answers = body.get("answers")
        return cls(
            number=number,
            seed=seed,
            values=_restored(body["values"]),
            reasons=body["reasons"],
            groups=[_restored(row) for row in body["groups"]],
            history=[_restored(row) for row in body["history"]],
            provenance=body["provenance"],
            seconds=body["seconds"],
            error=body["error"],
            stopped=body.get("stopped"),
            answers=None if answers is None else Answers.from_json(answers),
            calibration=body.get("calibration", ()),
        )


def _restored(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: math.nan if value is None else value for name, value in row.items()}


@dataclass(frozen=True)
class Results:
    """A sweep's trials and front at one moment, and what their fits' folders hold."""

    folder: SweepFolder
    spec: SweepSpec
    trials: Sequence[Trial]
    front: Sequence[int]

    @cached_property
    def fits(self) -> list[FitResult]:
        """Every fit that has ended, by trial and seed."""
        return list(self._read())

    def _read(self) -> Iterator[FitResult]:
        for trial in self.trials:
            for seed in self.spec.search.seed_list:
                body = self.folder.fit(trial.number, seed).result()
                if body is not None:
                    yield FitResult.from_json(trial.number, seed, body)

    # --- tables

    @cached_property
    def trials_table(self) -> pd.DataFrame:
        """One row per trial: `summary.table`, every other metric with its `_std`, seconds of all fits, times (ms)."""
        frame = summary.table(self.trials, self.spec, self.front)
        metrics = list(dict.fromkeys(name for trial in self.trials for name in trial.metrics))
        rest = [name for name in metrics if name not in self.spec.objectives]
        more: dict[str, list[Any]] = {name: [t.metrics.get(name, math.nan) for t in self.trials] for name in rest}
        more |= {f"{name}_std": [t.spread.get(name, math.nan) for t in self.trials] for name in rest}
        more["seconds"] = [self._seconds.get(t.number, 0.0) for t in self.trials]
        more["started_ms"] = [t.started_ms for t in self.trials]
        more["ended_ms"] = [t.ended_ms for t in self.trials]
        columns = [name for pair in rest for name in (pair, f"{pair}_std")]
        return frame.join(pd.DataFrame(more, columns=[*columns, "seconds", "started_ms", "ended_ms"]))

    @cached_property
    def _seconds(self) -> dict[int, float]:
        found: dict[int, float] = {}
        for fit in self.fits:
            found[fit.number] = found.get(fit.number, 0.0) + fit.seconds
        return found

    @cached_property
    def fits_table(self) -> pd.DataFrame:
        """One row per fit: number, seed, the trial's params, every metric, seconds, error, flat provenance."""
        params = {trial.number: trial.params for trial in self.trials}
        rows = [
            {"number": fit.number, "seed": fit.seed}
            | dict(params[fit.number])
            | dict(fit.values)
            | {"seconds": fit.seconds, "error": (fit.error or {}).get("reason"), "stopped": fit.stopped}
            | _flat(fit.provenance, "provenance")
            for fit in self.fits
        ]
        return pd.DataFrame(rows) if rows else pd.DataFrame(columns=["number", "seed"])

    @cached_property
    def groups_table(self) -> pd.DataFrame:
        """One row per fit and group: number, seed, kind, name, n, accuracy, loss; of a class also recall and f1."""
        rows = [{"number": fit.number, "seed": fit.seed, **row} for fit in self.fits for row in fit.groups]
        columns = ["number", "seed", "kind", "name", "n", "accuracy", "loss", "recall", "f1"]
        return pd.DataFrame(rows).reindex(columns=columns) if rows else pd.DataFrame(columns=columns)

    @cached_property
    def calibration_table(self) -> pd.DataFrame:
        """One row per fit and bin of confidence that has examples: see `trainables.metrics.calibration.table`."""
        rows = [{"number": fit.number, "seed": fit.seed, **row} for fit in self.fits for row in fit.calibration]
        columns = ["number", "seed", "of", "kind", "name", "bin", "n", "hits", "confidence"]
        return pd.DataFrame(rows, columns=columns)

    @cached_property
    def epochs_table(self) -> pd.DataFrame:
        """One row per fit and epoch, with everything that was logged."""
        rows = [{"number": fit.number, "seed": fit.seed, **row} for fit in self.fits for row in fit.history]
        return pd.DataFrame(rows) if rows else pd.DataFrame(columns=["number", "seed", "epoch"])

    # --- the choice

    def measured(self) -> list[Measured]:
        """The feasible complete trials, fit by fit; one that a seed's result is missing of is left out."""
        by_trial: dict[int, list[FitResult]] = {}
        for fit in self.fits:
            if fit.error is None:
                by_trial.setdefault(fit.number, []).append(fit)
        seeds = len(self.spec.search.seed_list)
        able = [t.number for t in self.trials if t.state is State.COMPLETE and t.feasible]
        return [self._measured(n, by_trial[n]) for n in able if len(by_trial.get(n, ())) == seeds]

    def _measured(self, number: int, fits: Sequence[FitResult]) -> Measured:
        values_SM = np.array([[fit.values[name] for name in self.spec.objectives] for fit in fits])
        return Measured(number, values_SM, tuple(fit.answers for fit in fits))

    def recommendation(
        self, bounds: Mapping[str, float] | None = None, *, resamples: int = stability.RESAMPLES
    ) -> Recommendation | None:
        """The knee of the front, or the best within `bounds`, and how stable that is; None without a front.

        Raises:
            UserError: a bound on what is no objective, or one that no member of the front keeps.
        """
        objectives = self.spec.objectives
        by = recommend.rule(objectives, bounds)
        first = recommend.recommend(self.trials, self.front, objectives, by=by)
        if first is None:
            return None
        sure = stability.judge(self.measured(), objectives, by.choose, resamples=resamples)
        return replace(first, stability=sure)

    def named(self) -> dict[str, int]:
        """`knee`, `most-accurate`, `fairest` -> the trial's number."""
        return recommend.named(self.trials, self.front, self.spec.objectives)


def _flat(body: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in body.items():
        key = f"{prefix}.{name}"
        found |= _flat(value, key) if isinstance(value, Mapping) else {key: _cell(value)}
    return found


def _cell(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
