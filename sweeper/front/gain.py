"""What more trials can be expected to add to the front: the ground on which a search may end before its budget.

Of trials that come in any order, each new one adds less to the hypervolume, in expectation, than the one before. So
what the last few added, averaged over the orders in which these trials could have come, is at least what as many more
like them will add. A sampler that learns is better late than early, so what its own last trials added counts where it
is more. Both look back: of a region that nobody tried they know nothing.

Shapes: T trials, M objectives.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sweeper.front import pareto
from trainables.arrays import Floats

GLANCE = 10  # trials that are looked ahead, and back
DRAWS = 64


def expected(points_TM: Floats, reference_M: npt.ArrayLike, *, seed: int = 0) -> float:
    """What ten more trials can be expected to add to the hypervolume, as a share of it. Greater is better.

    `points_TM` are in the order of their trials; a row with a nan is a trial that came to nothing, and counts as one.
    Infinite where there are too few to tell, or none is better than the reference. `seed`: of the orders drawn.
    """
    count = len(points_TM)
    whole = pareto.hypervolume(points_TM, reference_M)
    if count < 2 * GLANCE or not whole > 0:
        return float("inf")
    rng = np.random.default_rng(seed)
    without = [points_TM[rng.permutation(count)[:-GLANCE]] for _ in range(DRAWS)]
    lost = 1 - float(np.mean([pareto.hypervolume(points, reference_M) for points in without])) / whole
    return float(max(lost, 1 - pareto.hypervolume(points_TM[:-GLANCE], reference_M) / whole))
