"""Test numbers of the chosen trials: to be shown, never to choose by.

Nothing that proposes, tells, stops or ranks may import this module; the import contract checks that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from sweeper.results.results import Results
from sweeper.state.atomic import read_json
from sweeper.trial import mean_and_spread

HeldOut = Mapping[int, Mapping[str, tuple[float, float]]]  # trial number -> metric -> mean and spread over the seeds
MEND = "Delete it: the next resume measures it again."


def read(results: Results) -> dict[int, dict[str, tuple[float, float]]]:
    """Mean and spread of every test metric over the seeds, by trial number; only where every seed was measured."""
    by_number = {}
    for number, trial in results.by_number.items():
        paths = [results.folder.held_out(number, seed) for seed in trial.seed_list]
        if all(path.exists() for path in paths):
            means, spread = mean_and_spread([read_json(path, MEND)["values"] for path in paths])
            by_number[number] = {name: (means[name], spread.get(name, math.nan)) for name in means}
    return by_number


def drop(
    chosen: Mapping[str, float], measured: Mapping[str, tuple[float, float]] | None, objectives: Mapping[str, str]
) -> str:
    """A sentence on the test numbers of a point that was chosen by validation: each objective and its change.

    A drop is expected: the point was chosen because it looked good on validation.
    """
    if measured is None:
        return "Not measured on the test split yet."
    parts = []
    for name, sense in objectives.items():
        change = measured[name][0] - chosen[name]
        verdict = "better" if (change > 0) == (sense == "max") else "worse"
        parts.append(f"{name} {measured[name][0]:.3f} ({abs(change):.3f} {verdict} than on validation)")
    return f"On the test split, seen only after the choice: {', '.join(parts)}."


Bodies = dict[tuple[int, int], dict[str, Any]]


def bodies(results: Results) -> Bodies:
    """Everything that was measured on the test split, by trial number and seed."""
    paths = {(t.number, seed): results.folder.held_out(t.number, seed) for t in results.trials for seed in t.seed_list}
    return {key: read_json(path) for key, path in paths.items() if path.exists()}


def count(results: Results) -> int:
    """How many fits of the sweep were measured on the test split."""
    return sum(1 for _ in (results.folder.path / "held-out").rglob("*.json"))
