"""Accuracy and loss of the groups, and what is left of them: the worst, the spread, the re-weighted mean.

The groups are the finest there are, cells of class and attribute or else classes, so that the
numbers mean the same in every sweep; only `loss_variance` follows the groups of the training.
"""

from __future__ import annotations

import numpy as np

from trainables.arrays import Floats
from trainables.data.base import Groups
from trainables.metrics.base import Metric, Predictions, Row, Value, ratio, rows, summary, undefined
from trainables.metrics.classwise import f1_C, recall_C


def _mean_G(values_N: Floats, groups: Groups) -> Floats:
    return ratio(np.bincount(groups.index_N, values_N, len(groups.names)), groups.counts_G)


def _accuracies(predictions: Predictions) -> tuple[Groups, Floats, tuple[Row, ...]]:
    groups = predictions.groups(predictions.kinds[-1])
    accuracy_G = _mean_G(predictions.correct_N.astype(np.float64), groups)
    return groups, accuracy_G, rows(groups.names, {"n": groups.counts_G}, accuracy_G)


def worst_group_accuracy(predictions: Predictions) -> Value:
    """The lowest accuracy of a group that has examples."""
    _, accuracy_G, parts = _accuracies(predictions)
    return summary(accuracy_G, np.min, parts, what="group with examples", least=1)


def group_accuracy_spread(predictions: Predictions) -> Value:
    """The highest less the lowest accuracy of a group."""
    _, accuracy_G, parts = _accuracies(predictions)
    return summary(accuracy_G, np.ptp, parts, what="groups with examples", least=2)


def adjusted_accuracy(predictions: Predictions) -> Value:
    """Group accuracies weighted by the groups' shares of the training split."""
    groups, accuracy_G, parts = _accuracies(predictions)
    if predictions.train_cell_counts is None:
        return undefined("the training split's group counts are not known", parts)
    weight_G = predictions.train_cell_counts / predictions.train_cell_counts.sum()
    trained_G = weight_G > 0
    missing = [n for n, t, a in zip(groups.names, trained_G, accuracy_G, strict=True) if t and np.isnan(a)]
    if missing:
        return undefined(f"no examples of {', '.join(missing)}, on which the model was trained", parts)
    return Value(float(weight_G[trained_G] @ accuracy_G[trained_G]), None, parts)


def loss_variance(predictions: Predictions) -> Value:
    """Mean over the groups of (L_g - mean of L_g)^2: the penalty of training, over the whole split."""
    groups = predictions.groups(predictions.penalised or predictions.kinds[-1])
    loss_G = _mean_G(predictions.loss_N, groups)
    parts = rows(groups.names, {"n": groups.counts_G}, loss_G)
    return summary(loss_G, np.var, parts, what="groups with examples", least=2)


def table(predictions: Predictions, kind: str) -> list[Row]:
    """One row for each group of `kind`: name, n, accuracy, loss; of a class also recall and F1."""
    groups = predictions.groups(kind)
    columns = {
        "accuracy": _mean_G(predictions.correct_N.astype(np.float64), groups),
        "loss": _mean_G(predictions.loss_N, groups),
    }
    if kind == "class":
        columns |= {"recall": recall_C(predictions), "f1": f1_C(predictions)}
    return [
        {"kind": kind, "name": name, "n": int(n), **{key: float(column[g]) for key, column in columns.items()}}
        for g, (name, n) in enumerate(zip(groups.names, groups.counts_G, strict=True))
    ]


METRICS: dict[str, Metric] = {
    "loss_variance": Metric(
        "min", "groups", loss_variance, "variance of the groups' mean losses", "FairLoRA, section 4.1", unit="nats^2"
    ),
    "worst_group_accuracy": Metric(
        "max", "groups", worst_group_accuracy, "lowest accuracy of a group", "Group DRO, section 2"
    ),
    "group_accuracy_spread": Metric(
        "min",
        "groups",
        group_accuracy_spread,
        "highest less lowest accuracy of a group",
        "On Fairness of LoRA, section 5",
    ),
    "adjusted_accuracy": Metric(
        "max",
        "accuracy",
        adjusted_accuracy,
        "accuracy with the groups in the shares of training",
        "Group DRO, section 3",
    ),
}
