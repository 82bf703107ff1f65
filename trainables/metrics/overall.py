"""Accuracy and loss over all examples, and what they hide: the sensitive attribute instead of the label."""

from __future__ import annotations

import math

import numpy as np

from trainables.metrics.base import NO_ATTRIBUTE, Metric, Predictions, Value, undefined

EMPTY = "the split has no examples"


def accuracy(predictions: Predictions) -> Value:
    """Share of examples that are right."""
    return Value(float(predictions.correct_N.mean())) if len(predictions) else undefined(EMPTY)


def loss(predictions: Predictions) -> Value:
    """Mean negative log-likelihood."""
    if not len(predictions):
        return undefined(EMPTY)
    value = float(predictions.loss_N.mean())
    return Value(value) if math.isfinite(value) else undefined("the model gave a true class probability 0, or nan")


def sensitive_accuracy(predictions: Predictions) -> Value:
    """P(yhat = sensitive attribute): how often the answer is the background rather than the bird."""
    if predictions.attributes_N is None or not len(predictions):
        return undefined(NO_ATTRIBUTE if len(predictions) else EMPTY)
    if not predictions.shared_labels:
        return undefined("classes and attribute values do not mean the same things, so neither can predict the other")
    return Value(float(np.mean(predictions.predicted_N == predictions.attributes_N)))


METRICS: dict[str, Metric] = {
    "accuracy": Metric("max", "accuracy", accuracy, "share of right answers", "FairLoRA, section 5"),
    "loss": Metric("min", "performance", loss, "mean negative log-likelihood", "cross-entropy", unit="nats"),
    "sensitive_accuracy": Metric(
        "min", "groups", sensitive_accuracy, "share of answers that match the sensitive attribute", "FairLoRA, Table 3"
    ),
}
