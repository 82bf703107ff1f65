"""Trials compared pair by pair in one metric: by how much one is ahead of another, and which may be the best.

All have the same seeds and the same examples, so what a lucky seed or easy examples do to all alike is no difference.

Shapes: K trials, S seeds, B resamples of the examples.
"""

from __future__ import annotations

import math

import numpy as np

from sweeper.front.intervals import SURE, Interval, luck, of_mean, variance_parts
from trainables.arrays import Floats, Mask


def difference(values_2S: Floats, resampled_B2S: Floats | None = None) -> Interval | None:
    """The 95 % interval of the first trial's mean over the seeds less the second's; None where nothing is known.

    `resampled_B2S` are the same values on resamples of the examples; without them the interval is over seeds alone.
    """
    return of_mean(
        values_2S[0] - values_2S[1], None if resampled_B2S is None else resampled_B2S[:, 0] - resampled_B2S[:, 1]
    )


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
