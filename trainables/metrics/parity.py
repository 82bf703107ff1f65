"""How differently the values of the sensitive attribute are treated: equal opportunity, equalised odds.

With two classes the second one (index 1) is the positive class, as in the papers. With more, each
class is the positive one in turn, and the three variants of EOD_max say how these are put together;
on two classes the three are the same number.

A value of the attribute without positives has no true-positive rate: it is listed with n = 0 and left
out, and a gap needs two values that have one. (fairlearn counts such a rate as 0.) The groups that must not be
too small are those whose rates are compared: the examples of a scored class on one value of the attribute.

Of several attributes the values are the joint ones, and NAME/ATTRIBUTE has those of one. Of an overlapping group g the
two values are g and its complement: NAME/g compares P(. | i in g) with P(. | i not in g).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from trainables.arrays import Floats, Ints
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


def _positives(predictions: Predictions) -> tuple[Ints, Ints, tuple[str, ...]]:
    """Hits and examples of each scored class by attribute value, `[S, K]`, and the classes' names."""
    counts_SCC = predictions.counts_SCC
    scored = slice(1, 2) if len(predictions.classes) == 2 else slice(None)
    hits_SK = counts_SCC.diagonal(axis1=1, axis2=2)[:, scored]
    return hits_SK, counts_SCC.sum(2)[:, scored], predictions.classes[scored]


def _one_vs_rest(hits_SK: Ints, n_SK: Ints) -> Floats:
    """|rate of this value - rate of all other values pooled|; nan where either has no examples."""
    rest_hits_SK, rest_n_SK = hits_SK.sum(0) - hits_SK, n_SK.sum(0) - n_SK
    return np.abs(ratio(hits_SK, n_SK) - ratio(rest_hits_SK, rest_n_SK))


def _worst_value(gaps_SK: Floats) -> Floats:
    """The largest gap of each class, nan where no value has one."""
    defined_SK = ~np.isnan(gaps_SK)
    return np.where(defined_SK.any(0), np.where(defined_SK, gaps_SK, -1).max(0), np.nan)


def eod(predictions: Predictions) -> Value:
    """|P(yhat=1 | y=1, s=0) - P(yhat=1 | y=1, s=1)|, for two classes and two attribute values."""
    if predictions.attributes_N is None:
        return undefined(NO_ATTRIBUTE)
    shape = len(predictions.classes), len(predictions.attributes)
    if shape != (2, 2):
        return undefined(f"defined for 2 classes and 2 attribute values, not {shape[0]} and {shape[1]}; see eod_max_*")
    hits_SK, n_SK, _ = _positives(predictions)
    rates_S = ratio(hits_SK[:, 0], n_SK[:, 0])
    parts = rows(predictions.attributes, {"n": n_SK[:, 0]}, rates_S)
    what = f"values of the attribute with {_which(predictions)}"
    return summary(rates_S, np.ptp, parts, what=what, least=2, min_group=predictions.min_group)


def _which(predictions: Predictions) -> str:
    return f"examples of class '{predictions.classes[1]}'" if len(predictions.classes) == 2 else "examples"


def eod_max_macro(predictions: Predictions) -> Value:
    """EOD_max of each class, averaged over the classes."""
    return _over_classes(predictions, np.mean)


def eod_max_worst_class(predictions: Predictions) -> Value:
    """EOD_max of each class, the largest of them."""
    return _over_classes(predictions, np.max)


def _over_classes(predictions: Predictions, how: Callable[[Floats], Any]) -> Value:
    if predictions.attributes_N is None:
        return undefined(NO_ATTRIBUTE)
    hits_SK, n_SK, names = _positives(predictions)
    gaps_K = _worst_value(_one_vs_rest(hits_SK, n_SK))
    parts = rows(names, {"n": n_SK.sum(0)}, gaps_K)
    what = f"class with {_which(predictions)} on two values of the attribute"
    value = summary(gaps_K, how, parts, what=what, least=1)
    small = too_small(_cells(predictions, names), n_SK, predictions.min_group)
    return undefined(small, parts) if value.reason is None and small else value


def _cells(predictions: Predictions, classes: Sequence[str]) -> list[str]:
    """Names in the order of `[S, K]`, as `Predictions.groups("cell")` has them."""
    return [f"{name}|{value}" for value in predictions.attributes for name in classes]


def eod_max_pooled(predictions: Predictions) -> Value:
    """EOD_max of P(yhat = y), the positive examples of all classes pooled."""
    if predictions.attributes_N is None:
        return undefined(NO_ATTRIBUTE)
    hits_SK, n_SK, _ = _positives(predictions)
    hits_S1, n_S1 = hits_SK.sum(1, keepdims=True), n_SK.sum(1, keepdims=True)
    gaps_S = _one_vs_rest(hits_S1, n_S1)[:, 0]
    parts = rows(predictions.attributes, {"n": n_S1[:, 0]}, gaps_S)
    what = f"values of the attribute with {_which(predictions)}"
    return summary(gaps_S, np.max, parts, what=what, least=2, min_group=predictions.min_group)


def equalized_odds_difference(predictions: Predictions) -> Value:
    """The larger of the gaps in true-positive and in false-positive rate, each the highest less the lowest."""
    if predictions.attributes_N is None:
        return undefined(NO_ATTRIBUTE)
    if len(predictions.classes) != 2:
        return undefined(f"defined for 2 classes, not {len(predictions.classes)}; see eod_max_*")
    said_yes_SC, n_SC = _said_yes(predictions)
    rates_SC = ratio(said_yes_SC, n_SC)
    parts = tuple(_odds(name, n_SC[s], rates_SC[s]) for s, name in enumerate(predictions.attributes))
    gaps = [_gap(rates_SC[:, c]) for c in (0, 1)]
    if np.isnan(gaps).any():
        lacking = predictions.classes[int(np.argmax(np.isnan(gaps)))]
        return undefined(f"needs 2 values of the attribute with examples of class '{lacking}'", parts)
    if small := too_small(_cells(predictions, predictions.classes), n_SC, predictions.min_group):
        return undefined(small, parts)
    return Value(float(max(gaps)), None, parts)


def _said_yes(predictions: Predictions) -> tuple[Ints, Ints]:
    """Of two classes: answers that name the second one, and examples, by attribute value and true class, `[S, 2]`."""
    counts_SCC = predictions.counts_SCC
    return counts_SCC[:, :, 1], counts_SCC.sum(2)


def odds_S(predictions: Predictions) -> dict[str, Floats]:
    """Of two classes, for each value of the attribute: `tpr`, `fpr`, and its `equalized_odds`.

    That is the larger of its two gaps to all other values pooled; nan where a rate is missing.
    """
    said_yes_SC, n_SC = _said_yes(predictions)
    fpr_S, tpr_S = ratio(said_yes_SC, n_SC).T
    return {"tpr": tpr_S, "fpr": fpr_S, "equalized_odds": _one_vs_rest(said_yes_SC, n_SC).max(1)}


def _gap(rates_S: Floats) -> float:
    defined_K = rates_S[~np.isnan(rates_S)]
    return float(np.ptp(defined_K)) if len(defined_K) > 1 else float("nan")


def _odds(name: str, n_C: Ints, rates_C: Floats) -> Row:
    return {
        "name": name,
        "n_positive": int(n_C[1]),
        "tpr": float(rates_C[1]),
        "n_negative": int(n_C[0]),
        "fpr": float(rates_C[0]),
    }


_LORA = "FairLoRA, section 5"
_LINES: dict[str, Metric] = {
    "eod": Metric("min", "groups", eod, "difference of the true-positive rates of two groups", _LORA),
    "eod_max_macro": Metric("min", "groups", eod_max_macro, "EOD_max, mean over classes", _LORA),
    "eod_max_pooled": Metric("min", "groups", eod_max_pooled, "EOD_max, classes pooled", _LORA),
    "eod_max_worst_class": Metric("min", "groups", eod_max_worst_class, "EOD_max, worst class", _LORA),
    "equalized_odds_difference": Metric(
        "min",
        "groups",
        equalized_odds_difference,
        "larger of the TPR and the FPR gap",
        "On Fairness of LoRA, section 2.2",
    ),
}
METRICS: dict[str, Metric] = {name: replace(metric, of_one=metric.fn) for name, metric in _LINES.items()}
