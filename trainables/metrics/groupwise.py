"""Accuracy and loss of the groups, and what is left of them: the worst, the spread, the variance, the re-weighted mean.

Each metric has the kind of its groups in its name: the values of the sensitive attribute, the classes, or the cells of
both. Where the data has no attribute a cell is a class. Of several attributes these are the joint values and the cells
of all of them; NAME/ATTRIBUTE has those of one. Only `loss_variance` follows the groups of the training; where those
overlap, a group's loss is the mean over its members, L_g = sum over i in g of L_i / n_g.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from trainables.arrays import Floats
from trainables.data.base import OVERLAPPING, Groups
from trainables.metrics.base import (
    NO_ATTRIBUTE,
    Metric,
    Predictions,
    Row,
    Value,
    ratio,
    rows,
    summary,
    too_small,
    undefined,
)
from trainables.metrics.classwise import f1_C, recall_C
from trainables.metrics.parity import odds_S

KINDS = {"attribute": "a value of the sensitive attribute", "class": "a class", "cell": "a cell of class and attribute"}


def _mean_G(values_N: Floats, groups: Groups) -> Floats:
    return ratio(groups.sums_G(values_N), groups.counts_G)


def _of_groups(
    predictions: Predictions, kind: str, values_N: Floats, how: Callable[[Floats], Any], least: int
) -> Value:
    """`how` over the means of the groups of `kind`."""
    if kind == "attribute" and predictions.attributes_N is None:
        return undefined(NO_ATTRIBUTE)
    groups = _groups(predictions, kind)
    mean_G = _mean_G(values_N, groups)
    parts = rows(groups.names, {"n": groups.counts_G}, mean_G)
    what = "group with examples" if least == 1 else "groups with examples"
    return summary(mean_G, how, parts, what=what, least=least, min_group=predictions.min_group)


def _groups(predictions: Predictions, kind: str) -> Groups:
    return predictions.groups(predictions.finest if kind == "cell" else kind)


def worst_accuracy(predictions: Predictions, *, by: str) -> Value:
    """The lowest accuracy of a group that has examples."""
    return _of_groups(predictions, by, predictions.correct_N.astype(np.float64), np.min, 1)


def accuracy_spread(predictions: Predictions, *, by: str) -> Value:
    """The highest less the lowest accuracy of a group."""
    return _of_groups(predictions, by, predictions.correct_N.astype(np.float64), np.ptp, 2)


def loss_variance(predictions: Predictions, *, by: str | None = None) -> Value:
    """Mean over the groups of (L_g - mean of L_g)^2: the penalty of training, over the whole split.

    Without `by` the groups are those that training compares.
    """
    return _of_groups(predictions, by or predictions.penalised or "cell", predictions.loss_N, np.var, 2)


def adjusted_accuracy(predictions: Predictions) -> Value:
    """Accuracies of the cells weighted by the cells' shares of the training split."""
    groups = _groups(predictions, "cell")
    accuracy_G = _mean_G(predictions.correct_N.astype(np.float64), groups)
    parts = rows(groups.names, {"n": groups.counts_G}, accuracy_G)
    if predictions.train_cell_counts is None:
        return undefined("the training split's group counts are not known", parts)
    weight_G = predictions.train_cell_counts / predictions.train_cell_counts.sum()
    trained_G = weight_G > 0
    missing = [n for n, t, a in zip(groups.names, trained_G, accuracy_G, strict=True) if t and np.isnan(a)]
    if missing:
        return undefined(f"no examples of {', '.join(missing)}, on which the model was trained", parts)
    if small := too_small(groups.names, groups.counts_G, predictions.min_group):
        return undefined(small, parts)
    return Value(float(weight_G[trained_G] @ accuracy_G[trained_G]), None, parts)


def table(predictions: Predictions, kind: str) -> list[Row]:
    """One row for each group of `kind`: name, n, accuracy, loss; of a class also recall and F1.

    Of a value of the attribute, where there are two classes, also what `parity.odds_S` gives. Of an overlapping group
    the mean over its members, its `rest_accuracy`, of all others, and what tells these two apart.
    """
    if kind in (facet.name for facet in predictions.facets):
        return [row | {"kind": kind} for row in table(predictions.of(kind), "attribute")]
    if kind == OVERLAPPING:
        sides = [table(predictions.of(name), "attribute") for name in predictions.overlapping]
        return [own | {"kind": kind, "rest_accuracy": rest["accuracy"]} for rest, own in sides]
    groups = predictions.groups(kind)
    columns = {
        "accuracy": _mean_G(predictions.correct_N.astype(np.float64), groups),
        "loss": _mean_G(predictions.loss_N, groups),
    }
    if kind == "class":
        columns |= {"recall": recall_C(predictions), "f1": f1_C(predictions)}
    if kind == "attribute" and len(predictions.classes) == 2:
        columns |= odds_S(predictions)
    return [
        {"kind": kind, "name": name, "n": int(n), **{key: float(column[g]) for key, column in columns.items()}}
        for g, (name, n) in enumerate(zip(groups.names, groups.counts_G, strict=True))
    ]


Line = tuple[Callable[..., Value], Literal["max", "min"], str, str, str]
_LINES: dict[str, Line] = {
    "worst_accuracy": (worst_accuracy, "max", "lowest accuracy of {}", "Group DRO, section 2", "fraction"),
    "accuracy_spread": (
        accuracy_spread,
        "min",
        "highest less lowest accuracy of {}",
        "On Fairness of LoRA, section 4.1",
        "fraction",
    ),
    "loss_variance": (loss_variance, "min", "variance of the mean losses of {}", "FairLoRA, section 4.1", "nats^2"),
}

METRICS: dict[str, Metric] = {
    f"{name}_by_{kind}": Metric(
        direction,
        "groups",
        functools.partial(function, by=kind),
        doc.format(what),
        source,
        unit,
        None if kind == "class" else functools.partial(function, by=kind),
    )
    for name, (function, direction, doc, source, unit) in _LINES.items()
    for kind, what in KINDS.items()
} | {
    "loss_variance": Metric(
        "min",
        "groups",
        loss_variance,
        "variance of the mean losses of the groups that training compares",
        "FairLoRA, section 4.1",
        unit="nats^2",
    ),
    "adjusted_accuracy_by_cell": Metric(
        "max",
        "accuracy",
        adjusted_accuracy,
        "accuracy with the cells of class and attribute in the shares of training",
        "Group DRO, section 3",
        of_one=adjusted_accuracy,
    ),
}
