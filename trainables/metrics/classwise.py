"""F1 and recall of each class, and their least, median and widest difference. FairLoRA, section 5.

A class without examples is listed with n = 0 and not scored: nobody can say how well it would do.

NAME/ATTRIBUTE compares the values of one attribute instead of the classes: the score of a value s is the mean, over the
classes with examples among those of s, of their F1 (or recall) on the examples of s alone.

Shapes: C classes, S values of the attribute.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from trainables.arrays import Floats, Ints
from trainables.metrics.base import Metric, Predictions, Value, ratio, rows, summary


def recall_C(predictions: Predictions) -> Floats:
    """Share of each class's examples that were recognised; nan without examples."""
    counts_CC = predictions.counts_SCC.sum(0)
    return ratio(counts_CC.diagonal(), counts_CC.sum(1))


def f1_C(predictions: Predictions) -> Floats:
    """Harmonic mean of each class's precision and recall; nan without examples, 0 if never hit."""
    counts_CC = predictions.counts_SCC.sum(0)
    support_C = counts_CC.sum(1)
    scores_C = ratio(2 * counts_CC.diagonal(), support_C + counts_CC.sum(0))
    return np.where(support_C > 0, scores_C, np.nan)


def _scores_SC(counts_SCC: Ints, name: str) -> Floats:
    """F1 or recall of each class on the examples of each value; nan without such examples."""
    hits_SC, n_SC = counts_SCC.diagonal(axis1=1, axis2=2), counts_SCC.sum(2)
    if name == "recall":
        return ratio(hits_SC, n_SC)
    return np.where(n_SC > 0, ratio(2 * hits_SC, n_SC + counts_SCC.sum(1)), np.nan)


SCORES: dict[str, Callable[[Predictions], Floats]] = {"f1": f1_C, "recall": recall_C}
Summary = tuple[Callable[[Floats], Any], Literal["max", "min"], Literal["performance", "groups"], int, str]
SUMMARIES: dict[str, Summary] = {
    "min": (np.min, "max", "groups", 1, "lowest {} of a class"),
    "median": (np.median, "max", "performance", 1, "median {} of the classes"),
    "delta": (np.ptp, "min", "groups", 2, "highest less lowest {} of a class; biased upward where classes are small"),
}


def _metric(score: Callable[[Predictions], Floats], how: Callable[[Floats], Any], least: int, about: str) -> Any:
    def compute(predictions: Predictions) -> Value:
        values_C = score(predictions)
        parts = rows(predictions.classes, {"n": predictions.counts_SCC.sum((0, 2))}, values_C)
        what = "class with examples" if least == 1 else "classes with examples"
        # A median is not one class's luck; the lowest and the widest difference are.
        min_group = predictions.min_group if about == "groups" else 1
        return summary(values_C, how, parts, what=what, least=least, min_group=min_group)

    return compute


def _by_value(name: str, how: Callable[[Floats], Any], least: int) -> Any:
    def compute(predictions: Predictions) -> Value:
        counts_SCC = predictions.counts_SCC
        scores_SC = _scores_SC(counts_SCC, name)
        values_S = ratio(np.nansum(scores_SC, 1), (~np.isnan(scores_SC)).sum(1))
        parts = rows(predictions.attributes, {"n": counts_SCC.sum((1, 2))}, values_S)
        what = f"value{'s' * (least > 1)} of the attribute with examples"
        return summary(values_S, how, parts, what=what, least=least, min_group=predictions.min_group)

    return compute


METRICS: dict[str, Metric] = {
    f"{short}_{name}": Metric(
        direction,
        about,
        _metric(score, how, least, about),
        doc.format(name),
        "FairLoRA, section 5",
        of_one=_by_value(name, how, least) if about == "groups" else None,
    )
    for name, score in SCORES.items()
    for short, (how, direction, about, least, doc) in SUMMARIES.items()
}
