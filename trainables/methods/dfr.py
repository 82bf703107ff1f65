"""Deep feature re-weighting (DFR): the last layer fitted again on balanced held-out data, the body left alone.

Kirichenko, Izmailov and Wilson 2023, "Last Layer Re-Training is Sufficient for Robustness to Spurious
Correlations", section 4 and appendix B: L1 logistic regression on standardised features, on random subsets
with as many examples of each group, the weights averaged over ten such subsets.

The held-out data is one half of the validation split, the same half in every fit; the method is measured on
the other half only, or it would be measured on what it was fitted to.

Shapes: N held-out examples, F features, C classes.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from trainables.arrays import Floats, Ints
from trainables.data.splitting import cells
from trainables.errors import FitError
from trainables.methods.base import LastLayer

if TYPE_CHECKING:
    from trainables.params import Params

SUBSETS = 10
ITERATIONS = 2_000  # passes of saga, at most: on digits-on-scenes the default penalty needs 500 to 900


def refit(features_NF: Floats, labels_N: Ints, groups_N: Ints, *, C: int, params: Params, seed: int) -> LastLayer:
    """The last layer of C classes that suits balanced groups; `params.l1` is the penalty's weight beside summed losses.

    Groups are balanced within each class, so that no class is missing where groups are attribute values. The log has
    the examples of a balanced subset, the solver's iterations, as a mean over the subsets, and whether it converged on
    all of them (1, else 0).

    Raises:
        FitError: `bad-data` where a class has no example to be fitted on.
    """
    if missing := sorted(set(range(C)) - set(labels_N.tolist())):
        raise FitError(
            "bad-data",
            f"the half of validation that refits the last layer has no example of class {missing[0]}. "
            "Use a larger validation split, or a method without a refit.",
        )
    mean_F, std_F = features_NF.mean(0), features_NF.std(0)
    std_F = np.where(std_F > 0, std_F, 1.0)  # a feature that never varies says nothing, and must not become nan
    scaled_NF = (features_NF - mean_F) / std_F
    generator, members = np.random.default_rng(seed), cells(labels_N, groups_N)
    size = min(map(len, members))  # as many examples of every cell as the smallest has
    subsets = [
        np.concatenate([generator.choice(rows, size, replace=False) for rows in members]) for _ in range(SUBSETS)
    ]
    fits = [_regression(scaled_NF[rows], labels_N[rows], l1=params.l1) for rows in subsets]
    # The layer reads features as they are, so its weights take the standardising in.
    weight_CF = np.mean([weight for weight, _, _ in fits], axis=0) / std_F
    bias_C = np.mean([bias for _, bias, _ in fits], axis=0) - weight_CF @ mean_F
    iterations = [n for *_, n in fits]
    log = {
        "refit_examples": float(len(subsets[0])),
        "refit_iterations": float(np.mean(iterations)),
        "refit_converged": float(max(iterations) < ITERATIONS),
    }
    return LastLayer(weight_CF, bias_C, log)


def _regression(features_NF: Floats, labels_N: Ints, *, l1: float) -> tuple[Floats, Floats, int]:
    """Weights, biases and iterations; two classes share one logit, z: theirs become -z/2 and z/2."""
    # saga, since liblinear refuses more than two classes
    model = LogisticRegression(solver="saga", l1_ratio=1, C=1 / l1, max_iter=ITERATIONS, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the log says so
        model.fit(features_NF, labels_N)
    weight, bias = model.coef_, model.intercept_
    if len(weight) == 1:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight, bias, int(model.n_iter_.max())
