"""Test numbers of the chosen: read for showing, never for choosing.

Nothing that proposes, tells, stops or ranks may import this module; a test holds that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sweeper.folder import SweepFolder, read_json
from sweeper.spec import SweepSpec
from sweeper.trial import Trial, mean_and_spread


def read(folder: SweepFolder, spec: SweepSpec, trials: Sequence[Trial]) -> dict[int, dict[str, tuple[float, float]]]:
    """Mean and spread of every test metric over the seeds, by trial number; only where every seed was measured."""
    found = {}
    for trial in trials:
        paths = [folder.held_out(trial.number, seed) for seed in spec.search.seed_list]
        if all(path.exists() for path in paths):
            means, spread = mean_and_spread([read_json(path)["values"] for path in paths])
            found[trial.number] = {name: (means[name], spread.get(name, math.nan)) for name in means}
    return found
