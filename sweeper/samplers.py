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


def build(search: Search, number: int, place: int, *, constrained: bool) -> BaseSampler:
    """A sampler for coordinate `place` of one proposal: sweep's seed, trial's number and place decide its stream.

    What it has learned it reads from the study, so a sampler built anew after a crash goes on exactly.
    gp and nsga2 draw all coordinates together, so their joint stream does not depend on the place.
    """
    joint, own = (_seed(search.seed, number), _seed(search.seed, number, place + 1))
    startup = max(4, min(10, search.trials // 4))
    constraints = _violations if constrained else None
    match search.sampler:
        case "tpe":
            return TPESampler(seed=own, n_startup_trials=startup, constraints_func=constraints)
        case "gp":
            alone = RandomSampler(own)
            return GPSampler(
                seed=joint, independent_sampler=alone, n_startup_trials=startup, constraints_func=constraints
            )
        case "nsga2":
            population = search.population or 50
            return NSGAIISampler(seed=joint, population_size=population, constraints_func=constraints)
        case _:
            return RandomSampler(seed=own)


def _seed(*what: int) -> int:
    return int(np.random.SeedSequence(what).generate_state(1)[0])


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
