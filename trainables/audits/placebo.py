"""What an attack reads where nothing was learned, and how sure its lead over that is.

Training and test examples may differ, and a model tells those two apart though it was trained on none of those who are
asked about: an area of 0.5 is not chance. The placebo is the same attack, on the same examples, on twins: models
trained as the attacked one is, without those who are asked about.

Shapes: M members, K others, N of either, T models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainables.arrays import Floats

LEAST_EACH = 10  # members, and others, of whom the variance is known well enough


@dataclass(frozen=True)
class Area:
    """The area under the ROC of one attack on one model, as the mean of the members' parts and of the others'.

    A part is the share of the other side from which the example is told; a tie is half. Source: DeLong et al. 1988.
    """

    members_M: Floats
    others_K: Floats

    @classmethod
    def of(cls, members_M: Floats, others_K: Floats) -> Area:
        """From the attack's scores: the greater, the likelier a member."""
        return cls(_share_below(others_K, members_M), 1 - _share_below(members_M, others_K))

    @property
    def value(self) -> float:
        """The area itself."""
        return float(self.members_M.mean())


def lead(*compared: tuple[float, Area, Sequence[Area]]) -> dict[str, Any]:
    """The area of a model less the mean of its twins', `value`, and its variance by source.

    Several (weight, model, twins) are added up: with weights 1 and -1 it is by how much more one model gives away than
    another. Each of the `variances` has its degrees of freedom. There are none with fewer than two twins, or where
    members or others are fewer than `LEAST_EACH`.

    All models are attacked on the same examples, so what makes these easy or hard cancels. What another training would
    change, of single examples and of all, is known from the twins. What is left to the draw of the examples is the
    variance of their parts in the lead, less what training does to single ones.
    """
    terms = [(weight, area) for weight, area, _ in compared]
    terms += [(-weight / len(twins), twin) for weight, _, twins in compared for twin in twins]
    found: dict[str, Any] = {"value": sum(weight * area.value for weight, area in terms)}
    parts = [np.sum([w * getattr(area, side) for w, area in terms], axis=0) for side in ("members_M", "others_K")]
    fewest = min(map(len, parts))
    if fewest < LEAST_EACH or min(len(twins) for _, _, twins in compared) < 2:
        return found
    examples, variances = sum(float(part.var(ddof=1)) / len(part) for part in parts), []
    for weight, _, twins in compared:
        times = weight * weight * (1 + 1 / len(twins))
        examples -= times * _on_single(twins)
        variances.append([times * float(np.var([twin.value for twin in twins], ddof=1)), len(twins) - 1.0])
    return found | {"variances": [[max(0.0, examples), fewest - 1.0], *variances]}


def _on_single(areas: Sequence[Area]) -> float:
    """The part of an area's variance from training to training that is about single examples, each by itself."""
    variance = 0.0
    for side in ("members_M", "others_K"):
        parts_TN = np.stack([getattr(area, side) for area in areas])
        rest_TN = parts_TN - parts_TN.mean(0) - parts_TN.mean(1, keepdims=True) + parts_TN.mean()
        T, N = parts_TN.shape
        variance += float((rest_TN**2).sum()) / ((T - 1) * (N - 1) * N)
    return variance


def _share_below(those_N: Floats, scores_L: Floats) -> Floats:
    """[L]: the share of `those_N` below each score; ties count half."""
    sorted_N = np.sort(those_N)
    below_L = np.searchsorted(sorted_N, scores_L, "left") + np.searchsorted(sorted_N, scores_L, "right")
    share_L: Floats = below_L / (2 * len(those_N))
    return share_L
