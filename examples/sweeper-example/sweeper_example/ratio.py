"""The metric: how much of the best group's accuracy the worst group has."""

import numpy as np

from trainables.arrays import Floats
from trainables.metrics.base import NO_ATTRIBUTE, Predictions, Value, ratio, rows, summary, undefined


def accuracy_ratio(predictions: Predictions) -> Value:
    """Lowest over highest accuracy of a value of the sensitive attribute; each goes with its count."""
    if predictions.attributes_N is None:
        return undefined(NO_ATTRIBUTE)
    groups = predictions.groups("attribute")
    hits_G = np.bincount(groups.index_N, predictions.correct_N, len(groups.names))
    accuracy_G = ratio(hits_G, groups.counts_G)
    parts = rows(groups.names, {"n": groups.counts_G}, accuracy_G)
    if not np.nan_to_num(accuracy_G).any():
        return undefined("no answer is right", parts)
    what = "values of the attribute with examples"
    return summary(accuracy_G, _ratio, parts, what=what, least=2, min_group=predictions.min_group)


def _ratio(defined_K: Floats) -> float:
    return float(defined_K.min() / defined_K.max())
