"""What can be measured on a dataset at all, told before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from trainables.arrays import Ints
from trainables.data.base import Dataset, Groups
from trainables.data.splitting import half_of_each_cell
from trainables.methods import METHODS
from trainables.metrics import METRICS, Predictions
from trainables.task import MetricsConfig


def measured(method: str, split: str, labels_N: Ints, groups: Groups) -> Ints:
    """The rows of `split` that `method` may be measured on: all, but for what refits its last layer."""
    if split != "val" or METHODS[method].refit is None:
        return np.arange(len(labels_N))
    return np.flatnonzero(~half_of_each_cell(labels_N, groups.index_N))


def undefined_on(
    dataset: Dataset, names: Iterable[str], *, method: str, groups: str, config: MetricsConfig
) -> dict[str, str]:
    """Which of the metrics `names` no fit by `method` can have on the validation split, and why.

    Those that are undefined even where every answer is right: for want of an attribute, of classes or of examples.
    """
    part = dataset.splits["val"]
    rows = measured(method, "val", part.labels_N, dataset.groups("val", groups))
    labels_N = part.labels_N[rows]
    right = Predictions(
        labels_N=labels_N,
        predicted_N=labels_N,
        log_probs_NC=np.where(labels_N[:, None] == np.arange(len(dataset.classes)), 0.0, -np.inf),
        classes=dataset.classes,
        attributes_N=None if part.attributes_N is None else part.attributes_N[rows],
        attributes=dataset.attributes,
        shared_labels=dataset.shared_labels,
        train_cell_counts=dataset.groups("train", "class" if part.attributes_N is None else "cell").counts_G,
        penalised=groups,
        min_group=config.min_group,
        ece_bins=config.ece_bins,
    )
    reasons = {name: METRICS[name](right).reason for name in names}
    return {name: reason for name, reason in reasons.items() if reason is not None}
