"""How far confidence is from the share of right answers: the expected calibration error (ECE).

Confidences fall into equal bins of [0, 1], closed on the right; ECE is the mean, over examples, of
|share of hits - mean confidence| of their bin. Its groups are the values of the sensitive attribute: among the
examples of one true class even a calibrated model is not calibrated. It is biased upward where examples are few
(perfectly calibrated answers show .06 to .13 for 50 of them, .01 to .03 for 1,000), so each goes with its count.

Shapes: N examples, G groups, B bins.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from trainables.arrays import Floats, Ints, Mask
from trainables.data.base import Groups
from trainables.metrics.base import NO_ATTRIBUTE, Metric, Predictions, Row, Value, ratio, rows, summary, undefined

_PAPER = "On Fairness of LoRA, section 2.3"


def _key_N(confidence_N: Floats, groups: Groups, bins: int) -> Ints:
    """Group and bin of each example as one number."""
    bin_N = np.clip(np.ceil(confidence_N * bins).astype(np.int64) - 1, 0, bins - 1)
    return groups.index_N * bins + bin_N


def ece_G(confidence_N: Floats, hit_N: Mask, groups: Groups, bins: int) -> Floats:
    """ECE of each group, nan where it has no examples; confidences in [0, 1]."""
    shape = len(groups.names), bins
    key_N = _key_N(confidence_N, groups, bins)
    surplus_GB = np.bincount(key_N, hit_N - confidence_N, shape[0] * bins).reshape(shape)  # hits less what was promised
    return ratio(np.abs(surplus_GB).sum(1), groups.counts_G)


def table(predictions: Predictions) -> list[Row]:
    """What reliability diagrams and confidence histograms are drawn from: one row for each bin with examples.

    `of` is `answer`, and `positive` too where there are two classes; `kind` and `name` say whose: all, a value of the
    attribute, of one of several, or who is in an overlapping group and who is not. `bin` counts from 0; `n` examples,
    `hits` among them, the sum of their confidences.
    """
    looked_at = {"answer": _answer(predictions)}
    if len(predictions.classes) == 2:
        looked_at["positive"] = _positive(predictions)
    return [
        {"of": of, "kind": groups.kind, "name": groups.names[g], "bin": b, "n": n, **sums}
        for of, (confidence_N, hit_N) in looked_at.items()
        if np.isfinite(confidence_N).all()
        for groups in [*_groups(predictions), *_sides(predictions)]
        for g, b, n, sums in _filled(confidence_N, hit_N, groups, predictions.ece_bins)
    ]


def _filled(confidence_N: Floats, hit_N: Mask, groups: Groups, bins: int) -> Iterator[tuple[int, int, int, Row]]:
    key_N = _key_N(confidence_N, groups, bins)
    n_K, hits_K, sum_K = (np.bincount(key_N, weights_N) for weights_N in (None, hit_N, confidence_N))
    for key in np.flatnonzero(n_K):
        yield (
            int(key) // bins,
            int(key) % bins,
            int(n_K[key]),
            {"hits": int(hits_K[key]), "confidence": float(sum_K[key])},
        )


def _groups(predictions: Predictions) -> list[Groups]:
    together = Groups("all", ("all",), np.zeros(len(predictions), dtype=np.int64))
    return [together] if predictions.attributes_N is None else [together, predictions.groups("attribute")]


def _sides(predictions: Predictions) -> list[Groups]:
    return [replace(predictions.of(name).groups("attribute"), kind=name) for name in predictions.sides]


def _answer(predictions: Predictions) -> tuple[Floats, Mask]:
    """The answer's own probability, and where it is right."""
    log_prob_N = predictions.log_probs_NC[np.arange(len(predictions)), predictions.predicted_N]
    return np.exp(log_prob_N.astype(np.float64)), predictions.correct_N


def _positive(predictions: Predictions) -> tuple[Floats, Mask]:
    """The probability of the second of two classes, and where it is the true one."""
    return np.exp(predictions.log_probs_NC[:, 1].astype(np.float64)), predictions.labels_N == 1


def ece(predictions: Predictions) -> Value:
    """Of the answer's own probability, which should be the share of right answers."""
    return _judged(predictions, *_answer(predictions))


def ece_positive(predictions: Predictions) -> Value:
    """Of the second class's probability, which should be that class's share. For two classes."""
    if len(predictions.classes) != 2:
        return undefined("defined for two classes; see ece")
    return _judged(predictions, *_positive(predictions))


def worst_ece(predictions: Predictions) -> Value:
    """The highest `ece` of a value of the sensitive attribute."""
    found = ece(predictions)
    if predictions.attributes_N is None or found.reason is not None:
        return undefined(found.reason or NO_ATTRIBUTE)
    values_G = np.array([row["value"] for row in found.groups])
    what = "value of the attribute with examples"
    return summary(values_G, np.max, found.groups, what=what, least=1, min_group=predictions.min_group)


def _judged(predictions: Predictions, confidence_N: Floats, hit_N: Mask) -> Value:
    if not len(predictions) or not np.isfinite(confidence_N).all():
        return undefined(
            "the answers' probabilities are not known" if len(predictions) else "the split has no examples"
        )
    together, *more = _groups(predictions)
    bins = predictions.ece_bins
    parts = [rows(by.names, {"n": by.counts_G}, ece_G(confidence_N, hit_N, by, bins)) for by in more]
    return Value(float(ece_G(confidence_N, hit_N, together, bins)[0]), None, parts[0] if parts else ())


METRICS: dict[str, Metric] = {
    "ece": Metric("min", "calibration", ece, "expected calibration error of the answer", _PAPER),
    "ece_positive": Metric(
        "min", "calibration", ece_positive, "expected calibration error of the positive class", _PAPER
    ),
    "worst_ece_by_attribute": Metric(
        "min", "groups", worst_ece, "highest ece of a value of the sensitive attribute", _PAPER, of_one=worst_ece
    ),
}
