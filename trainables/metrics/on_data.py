"""What can be measured on a dataset at all, told before anything is trained."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from trainables.arrays import Floats, Ints
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


def judged(
    dataset: Dataset, split: str, rows_K: Ints, log_probs_KC: Floats, *, groups: str, config: MetricsConfig
) -> Predictions:
    """The predictions, ready to be measured, that say this of these rows of a split; `groups` are the training's."""
    part = dataset.splits[split]
    return Predictions(
        labels_N=part.labels_N[rows_K],
        predicted_N=log_probs_KC.argmax(1),
        log_probs_NC=log_probs_KC,
        classes=dataset.classes,
        attributes_N=None if part.attributes_N is None else part.attributes_N[rows_K],
        attributes=dataset.attributes,
        shared_labels=dataset.shared_labels,
        train_cell_counts=dataset.groups("train", dataset.finest).counts_G,
        penalised=groups,
        min_group=config.min_group,
        ece_bins=config.ece_bins,
        facets=dataset.facets,
        overlapping=dataset.overlapping,
        members_NG=None if part.members_NG is None else part.members_NG[rows_K],
    )


def undefined_on(
    dataset: Dataset, names: Iterable[str], *, method: str, groups: str, config: MetricsConfig
) -> dict[str, str]:
    """Which of the metrics `names` no fit by `method` can have on the validation split, and why.

    Those that are undefined even where every answer is right: for want of an attribute, of classes or of examples.
    """
    part = dataset.splits["val"]
    rows = measured(method, "val", part.labels_N, dataset.groups("val", groups))
    all_right_KC = np.where(part.labels_N[rows, None] == np.arange(len(dataset.classes)), 0.0, -np.inf)
    right = judged(dataset, "val", rows, all_right_KC, groups=groups, config=config)
    reasons = {name: METRICS[name](right).reason for name in names}
    return {name: reason for name, reason in reasons.items() if reason is not None}
