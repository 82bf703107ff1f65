"""Membership inference: can one tell, from a model's answers, which examples it was trained on?

Two attacks of On Fairness of LoRA, section 2.4. LOSS (Yeom et al., 2018) calls an example a member where its loss is
low. Offline LiRA (Carlini et al., 2022) asks how unusual the model's confidence is beside that of shadow models which
never saw the example; the paper's test is one-sided, its authors' code is two-sided, and here are both.

An attack is told by its true-positive rate at a low false-positive rate: to be sure of one person is the breach, not
to be a little better than chance about all. Where fewer than `LEAST` non-members may be called members, a rate is
undefined.

Shapes: M members, K others, N examples, C classes, T shadow models, R twins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainables.arrays import Floats, Ints, Mask
from trainables.audits.placebo import Area, lead

RATES = (0.001, 0.01)  # false-positive rates of the paper's figures
LEAST = 5
CURVE = 60  # points of a ROC that are kept
_SMALLEST = 1e-12


def log_odds(log_probs_NC: Floats, labels_N: Ints) -> Floats:
    """log p_y - log(sum of the others), `[N]`: what LiRA takes for normally distributed."""
    others_NC = log_probs_NC.astype(np.float64).copy()
    others_NC[np.arange(len(labels_N)), labels_N] = -np.inf
    top_N = others_NC.max(1)
    others_N: Floats = top_N + np.log(np.exp(others_NC - top_N[:, None]).sum(1))
    return loss_scores(log_probs_NC, labels_N) - others_N


def loss_scores(log_probs_NC: Floats, labels_N: Ints) -> Floats:
    """The LOSS attack: the greater, the likelier a member."""
    return log_probs_NC[np.arange(len(labels_N)), labels_N].astype(np.float64)


def lira_scores(target_N: Floats, shadows_TN: Floats, *, two_sided: bool = False) -> Floats:
    """Offline LiRA: how unusual the target's `log_odds` are beside those of models that never saw the example.

    One-sided: standard deviations above the shadows' mean. Two-sided: minus the log density, as in the
    authors' code. The deviation is each example's own.

    Raises:
        ValueError: fewer than two shadow models, of which no deviation is known.
    """
    if len(shadows_TN) < 2:
        raise ValueError(f"{len(shadows_TN)} shadow models. At least two are needed.")
    mean_N, deviation_N = shadows_TN.mean(0), np.maximum(shadows_TN.std(0), _SMALLEST)
    z_N = (target_N - mean_N) / deviation_N
    surprise_N: Floats = z_N**2 / 2 + np.log(deviation_N) if two_sided else z_N
    return surprise_N


def operating_points(members_M: Floats, others_K: Floats) -> dict[str, Any]:
    """Area under the ROC, the true-positive rate at each of `RATES`, and the curve; strict JSON.

    The curve begins at the false-positive rate 1 / K: nothing is known of lower ones. A rate is None, with its reason,
    where there are too few non-members to know it.
    """
    if not len(members_M) or not len(others_K):
        missing = "members" if not len(members_M) else "non-members"
        return {"members": len(members_M), "others": len(others_K), "auc": None, "reasons": {"auc": f"no {missing}"}}
    sorted_K = np.sort(others_K)

    def found(rate: float) -> float:
        return float(np.mean(members_M > _threshold(sorted_K, rate)))

    reasons = {
        str(rate): f"{len(others_K)} non-members: {len(others_K) * rate:.1f} may be called members, {LEAST} are needed"
        for rate in RATES
        if len(others_K) * rate < LEAST
    }
    grid = np.unique(np.geomspace(1 / len(others_K), 1, CURVE))
    return {
        "members": len(members_M),
        "others": len(others_K),
        "auc": Area.of(members_M, others_K).value,
        "tpr_at_fpr": {str(rate): None if str(rate) in reasons else found(rate) for rate in RATES},
        "reasons": reasons,
        "roc": {"fpr": grid.tolist(), "tpr": [found(rate) for rate in grid]},
    }


def _threshold(sorted_K: Floats, rate: float) -> float:
    """The lowest score that at most `rate` of the others are above; `sorted_K` ascends."""
    allowed = math.floor(rate * len(sorted_K) + 1e-9)
    return -math.inf if allowed >= len(sorted_K) else float(sorted_K[len(sorted_K) - 1 - allowed])


@dataclass(frozen=True)
class Scores:
    """What one attack says of everybody asked about: on the model, on its twins, and on the shadow models.

    `shadows_TN` are those of each shadow model, beside the other ones.
    """

    model_N: Floats
    twins_RN: Floats
    shadows_TN: Floats

    def judged(self, members: Mask, others: Mask, against: Scores | None = None) -> dict[str, Any]:
        """`operating_points` of some of those asked about, beside the placebo; strict JSON.

        `placebo` has the means over the twins, `lead` is `placebo.lead`, and `above_first` the lead less that of
        `against`. `shadows` is the mean area of the shadow models.
        """

        def side(scores_N: Floats) -> tuple[Floats, Floats]:
            return scores_N[members], scores_N[others]

        found = operating_points(*side(self.model_N))
        if found["auc"] is None:
            return found
        found["shadows"] = float(np.mean([Area.of(*side(scores_N)).value for scores_N in self.shadows_TN]))
        if len(self.twins_RN):
            found["placebo"] = _mean_points([operating_points(*side(scores_N)) for scores_N in self.twins_RN])
            own = (Area.of(*side(self.model_N)), [Area.of(*side(scores_N)) for scores_N in self.twins_RN])
            found["lead"] = lead((1.0, *own))
            if against is not None:
                first = (Area.of(*side(against.model_N)), [Area.of(*side(twin_N)) for twin_N in against.twins_RN])
                found["above_first"] = lead((1.0, *own), (-1.0, *first))
        return found


def _mean_points(points: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`operating_points` of several models on the same examples: the means of the numbers."""
    rates = {
        rate: None if share is None else float(np.mean([point["tpr_at_fpr"][rate] for point in points]))
        for rate, share in points[0]["tpr_at_fpr"].items()
    }
    curve = np.mean([point["roc"]["tpr"] for point in points], axis=0).tolist()
    auc = float(np.mean([point["auc"] for point in points]))
    return {"auc": auc, "tpr_at_fpr": rates, "roc": {"fpr": points[0]["roc"]["fpr"], "tpr": curve}}
