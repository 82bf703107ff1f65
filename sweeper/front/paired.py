"""Which of several trials may be the best in one metric: the best mean, and all that are not surely behind it.

Shapes: K trials, S seeds, B resamples of the examples.
"""

from __future__ import annotations

import math

import numpy as np

from sweeper.front.intervals import examples_variance, satterthwaite, t_tail
from trainables.arrays import Floats, Mask

SURE = 0.05


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
    return np.array(
        [
            math.isfinite(means_K[k]) and (k == best or others * _chance(values_KS, resampled_BKS, best, k) >= SURE)
            for k in range(len(means_K))
        ]
    )


def _chance(values_KS: Floats, resampled_BKS: Floats | None, best: int, k: int) -> float:
    """How often chance gives such a lead of `best` over `k`, if it has none."""
    lead_S = values_KS[best] - values_KS[k]
    parts = [(float(lead_S.var(ddof=1)) / len(lead_S), len(lead_S) - 1.0)] if len(lead_S) > 1 else []
    if resampled_BKS is not None:
        lead_BS = resampled_BKS[:, best] - resampled_BKS[:, k]
        parts.append((examples_variance(lead_BS), len(lead_BS) - 1.0))
    variance = sum(part for part, _ in parts)
    lead = float(lead_S.mean())
    if variance == 0:
        return 0.0 if lead > 0 else 1.0
    return t_tail(lead / math.sqrt(variance), satterthwaite(parts))
