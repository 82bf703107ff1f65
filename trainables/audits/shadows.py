"""The membership audit of one trained fit: who is asked about, the shadow models, and what the attacks come to.

Members are a random share of the training split; the others are the test split. Each shadow model is trained with
the fit's own settings on a random half of the rest of the training split, so it has seen nobody who is asked about.

Shapes: M members, K others, N = M + K, T shadow models.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from trainables.arrays import Floats, Ints
from trainables.audits import membership
from trainables.data.base import Dataset
from trainables.finetuning import FineTuning
from trainables.params import Params

SHADOWS = 16  # as in the authors' code
SHARE = 0.2  # of the training split is asked about
_STREAM = 0x5EED


def audit(
    tuning: FineTuning,
    params: Params,
    seed: int,
    weights: Path,
    *,
    shadows: int = SHADOWS,
    heard: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Attack the fit whose weights are in `weights`. `heard` is told how many shadow models are trained. Strict JSON.

    Raises:
        ValueError: fewer than two shadow models.
        FitError: a shadow model could not be trained.
    """
    if shadows < 2:
        raise ValueError(f"{shadows} shadow models. At least two are needed.")
    chance, splits = np.random.default_rng([_STREAM, seed]), tuning.dataset.splits
    order = chance.permutation(len(splits["train"]))
    cut = max(1, round(SHARE * len(order)))
    members, pool = np.sort(order[:cut]), order[cut:]
    asked = [("train", members), ("test", np.arange(len(splits["test"])))]

    def answers() -> Floats:
        return np.concatenate([tuning.log_probs(split, rows) for split, rows in asked])

    labels_N = np.concatenate([splits[split].labels_N[rows] for split, rows in asked])
    tuning.aim(params, seed)
    tuning.load_weights(weights)
    target_NC, shadows_TN = answers(), []
    for number in range(shadows):
        half = np.sort(chance.permutation(pool)[: len(pool) // 2])
        tuning.aim(params, int(chance.integers(2**31)), rows=half)
        while not tuning.done:
            tuning.train_epoch()
        shadows_TN.append(membership.log_odds(answers(), labels_N))
        heard(number + 1)
    odds_N, beside_TN = membership.log_odds(target_NC, labels_N), np.stack(shadows_TN)
    scores = {
        "loss": membership.loss_scores(target_NC, labels_N),
        "lira": membership.lira_scores(odds_N, beside_TN),
        "lira-two-sided": membership.lira_scores(odds_N, beside_TN, two_sided=True),
    }
    return {
        "shadows": shadows,
        "share": SHARE,
        "attacks": {name: _judged(tuning.dataset, scores_N, members) for name, scores_N in scores.items()},
    }


def _judged(data: Dataset, scores_N: Floats, members: Ints) -> dict[str, Any]:
    """Over everybody, and by class, attribute and cell as far as the data has them."""
    members_M, others_K = scores_N[: len(members)], scores_N[len(members) :]
    found: dict[str, Any] = membership.operating_points(members_M, others_K)
    found["groups"] = {}
    for kind in ("class", "attribute", "cell") if data.attributes else ("class",):
        train, test = data.groups("train", kind), data.groups("test", kind)
        found["groups"][kind] = membership.by_group(
            members_M, others_K, train.index_N[members], test.index_N, train.names
        )
    return found
