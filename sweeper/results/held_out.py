"""Test numbers of the chosen: read for showing, never for choosing.

Nothing that proposes, tells, stops or ranks may import this module; a test holds that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sweeper.spec.model import SweepSpec
from sweeper.state.sweep_folder import SweepFolder, read_json
from sweeper.trial import Trial, mean_and_spread

MEND = "Delete it: the next resume measures it again."


def read(folder: SweepFolder, spec: SweepSpec, trials: Sequence[Trial]) -> dict[int, dict[str, tuple[float, float]]]:
    """Mean and spread of every test metric over the seeds, by trial number; only where every seed was measured."""
    found = {}
    for trial in trials:
        paths = [folder.held_out(trial.number, seed) for seed in spec.search.seed_list]
        if all(path.exists() for path in paths):
            means, spread = mean_and_spread([read_json(path, MEND)["values"] for path in paths])
            found[trial.number] = {name: (means[name], spread.get(name, math.nan)) for name in means}
    return found


def drop(
    chosen: Mapping[str, float], measured: Mapping[str, tuple[float, float]] | None, objectives: Mapping[str, str]
) -> str:
    """What the test split says of a point that validation chose: each objective, and how far it fell or rose.

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


def bodies(folder: SweepFolder, spec: SweepSpec, trials: Sequence[Trial]) -> Bodies:
    """Everything that was measured on the test split, by trial number and seed."""
    paths = {(t.number, seed): folder.held_out(t.number, seed) for t in trials for seed in spec.search.seed_list}
    return {key: read_json(path) for key, path in paths.items() if path.exists()}
