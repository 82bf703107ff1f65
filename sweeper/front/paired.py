"""Which of several trials may be the best in one metric: the best mean, and all that are not surely behind it.

Shapes: K trials, S seeds, B resamples of the examples.
"""

from __future__ import annotations

import math

import numpy as np

from sweeper.front.intervals import SURE, luck, variance_parts
from trainables.arrays import Floats, Mask


def may_be_best(values_KS: Floats, resampled_BKS: Floats | None = None) -> Mask | None:
    """[K]: not surely behind the best mean; greater is better. None where nothing can be said: one seed, no resamples.

    All trials have the same seeds and the same examples, so each is compared with the best one pair by pair: Student's
    t, one-sided, with Bonferroni's correction for K - 1 comparisons. So the trial that is truly best is among them in
    95 % of cases. `resampled_BKS` are the same values on resamples of the examples. A trial with nan is never best.
    """
    means_K = values_KS.mean(axis=1)
    if values_KS.shape[1] < 2 and resampled_BKS is None:
        return None
    best = int(np.nanargmax(means_K))
    others = int(np.isfinite(means_K).sum()) - 1

    def chance(k: int) -> float:
        """How often luck gives such a lead of the best over `k`."""
        lead_S = values_KS[best] - values_KS[k]
        lead_BS = None if resampled_BKS is None else resampled_BKS[:, best] - resampled_BKS[:, k]
        return luck(float(lead_S.mean()), variance_parts(lead_S, lead_BS))

    return np.array(
        [math.isfinite(means_K[k]) and (k == best or others * chance(k) >= SURE) for k in range(len(means_K))]
    )
