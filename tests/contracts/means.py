"""A second way to refit the last layer, as a newcomer would write it: the nearest mean of a class."""

from __future__ import annotations

import numpy as np

from trainables.arrays import Floats, Ints
from trainables.methods.base import LastLayer
from trainables.params import Params


def refit(features_NF: Floats, labels_N: Ints, groups_N: Ints, *, C: int, params: Params, seed: int) -> LastLayer:
    """Logits that are greatest for the class whose mean is nearest, shrunk towards 0 by `params.l1`."""
    mean_CF = np.stack([features_NF[labels_N == c].mean(0) for c in range(C)]) / params.l1
    return LastLayer(mean_CF, -np.square(mean_CF).sum(1) / 2, {"refit_shrinkage": params.l1})
