"""Optuna's samplers, seeded so that proposal n is the same whoever asks for it, and how a dimension is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from sweeper.sections import Search
from sweeper.space import Choice, Dimension, Range


def build(search: Search, number: int, *, constrained: bool) -> BaseSampler:
    """A sampler for one proposal: its random stream depends on the sweep's seed and the trial's number alone.

    What it has learned it reads from the study, so a sampler built anew after a crash goes on exactly.
    """
    seed = int(np.random.SeedSequence([search.seed, number]).generate_state(1)[0])
    startup = max(4, min(10, search.trials // 4))
    constraints = _violations if constrained else None
    match search.sampler:
        case "tpe":
            return TPESampler(seed=seed, n_startup_trials=startup, constraints_func=constraints)
        case "gp":
            return GPSampler(seed=seed, n_startup_trials=startup, constraints_func=constraints)
        case "nsga2":
            population = search.population or 50
            return NSGAIISampler(seed=seed, population_size=population, constraints_func=constraints)
        case _:
            return RandomSampler(seed=seed)


def draw(trial: optuna.Trial, name: str, dimension: Dimension) -> Any:
    """One coordinate, both ends of a range included."""
    if isinstance(dimension, Choice):
        return trial.suggest_categorical(name, list(dimension.values))
    assert isinstance(dimension, Range)  # what is fixed is not drawn
    if dimension.integer:
        return trial.suggest_int(name, int(dimension.low), int(dimension.high), log=dimension.log)
    return trial.suggest_float(name, dimension.low, dimension.high, log=dimension.log)


def _violations(row: FrozenTrial) -> Sequence[float]:
    """Optuna's constraints: not above 0 is feasible. A trial without an outcome counts as violating."""
    return [float(v) for v in row.user_attrs.get("outcome", {}).get("violations", [1.0])]
