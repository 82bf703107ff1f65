"""The laws of METRICS.

Shapes: N examples, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from trainables.arrays import Floats, Ints
from trainables.contracts import Law, hold
from trainables.metrics.base import Metric, Predictions, Value

_CLASSES, _VALUES = ("no", "yes", "maybe"), ("indoors", "outdoors")


def is_a_number_or_says_why_not(metric: Metric) -> None:
    """It gives a finite number, or nan and its reason, on every split."""
    for name, predictions in _splits():
        value = metric.fn(predictions)
        hold(isinstance(value, Value), f"on {name} it gave a {type(value).__name__}. Return a Value.")
        if math.isnan(value.value):
            hold(value.reason, f"on {name} it gave nan without a reason. Return undefined(reason).")
        else:
            hold(math.isfinite(value.value), f"on {name} it gave {value.value}. Return undefined(reason).")
            hold(value.reason is None, f"on {name} it gave a number and a reason ({value.reason}). Give one of them.")


def is_defined_somewhere(metric: Metric) -> None:
    """It is defined on ordinary data: two or three classes with an attribute, or without one."""
    reasons = {str(metric.fn(predictions).reason) for name, predictions in _splits() if name.startswith("ordinary")}
    two = {str(metric.fn(_two_classes()).reason)}
    hold("None" in reasons | two, f"it was undefined on all of it: {'; '.join(sorted(reasons | two))}.")


def is_within_its_unit(metric: Metric) -> None:
    """A fraction lies between 0 and 1."""
    for name, predictions in _splits() if metric.unit == "fraction" else ():
        value = metric.fn(predictions).value
        hold(math.isnan(value) or -1e-9 <= value <= 1 + 1e-9, f"on {name} it gave {value:g}. Say another unit.")


def does_not_mind_the_order(metric: Metric) -> None:
    """The order of the examples changes nothing."""
    for name, predictions in _splits():
        if not len(predictions):
            continue
        order_N = np.random.default_rng(1).permutation(len(predictions))
        one, other = metric.fn(predictions).value, metric.fn(_taken(predictions, order_N)).value
        same = math.isnan(one) == math.isnan(other) and (math.isnan(one) or math.isclose(one, other, abs_tol=1e-9))
        hold(same, f"on {name} it gave {one:g}, and {other:g} in another order.")


def changes_nothing(metric: Metric) -> None:
    """The predictions are left as they were, and asking again gives the same."""
    for name, predictions in _splits():
        before = [array.copy() for array in _arrays(predictions)]
        one, other = metric.fn(predictions).value, metric.fn(predictions).value
        kept = all(
            np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
            for a, b in zip(before, _arrays(predictions), strict=True)
        )
        hold(kept, f"on {name} it changed what it was given.")
        hold(one == other or (math.isnan(one) and math.isnan(other)), f"on {name} it gave {one:g}, then {other:g}.")


def says_how_many(metric: Metric) -> None:
    """Each group that it shows goes with a name and a count."""
    for name, predictions in _splits():
        for row in metric.fn(predictions).groups:
            counts = [key for key, value in row.items() if isinstance(value, int) and key.startswith("n")]
            hold(row.get("name"), f"on {name} a group has no name: {row}.")
            hold(counts, f"on {name} the group '{row.get('name')}' has no count n.")


LAWS: tuple[Law, ...] = (
    is_a_number_or_says_why_not,
    is_defined_somewhere,
    is_within_its_unit,
    does_not_mind_the_order,
    changes_nothing,
    says_how_many,
)


def _splits() -> Iterator[tuple[str, Predictions]]:
    """Ordinary predictions, and what a split may look like at worst."""
    chance = np.random.default_rng(0)
    labels_N, attributes_N = chance.integers(0, 3, 240), chance.integers(0, 2, 240)
    logits_NC = chance.normal(size=(240, 3)) + 2 * np.eye(3)[labels_N]
    ordinary = _predictions(labels_N, logits_NC, attributes_N)
    yield "ordinary data", ordinary
    counts = np.arange(1, 4)
    bare = replace(ordinary, attributes_N=None, attributes=(), train_cell_counts=counts)
    yield "ordinary data without an attribute", bare
    yield "ordinary data of two classes", _two_classes()
    yield "answers that are all right", _predictions(labels_N, 50 * np.eye(3)[labels_N], attributes_N)
    yield "answers that are all wrong", _predictions(labels_N, -50 * np.eye(3)[labels_N], attributes_N)
    yield "answers without probabilities", replace(ordinary, log_probs_NC=np.full((240, 3), np.nan))
    few = np.arange(7)
    yield "seven examples", _taken(ordinary, few)
    yield "one class alone", _taken(ordinary, np.flatnonzero(labels_N == 1))
    yield "one value of the attribute alone", _taken(ordinary, np.flatnonzero(attributes_N == 1))
    yield "no examples", _taken(ordinary, few[:0])


def _two_classes() -> Predictions:
    """Ordinary predictions of two classes that share their names' meaning with the attribute."""
    chance = np.random.default_rng(2)
    labels_N, attributes_N = chance.integers(0, 2, 240), chance.integers(0, 2, 240)
    logits_NC = chance.normal(size=(240, 2)) + np.eye(2)[labels_N]
    return replace(_predictions(labels_N, logits_NC, attributes_N), shared_labels=True)


def _predictions(labels_N: Ints, logits_NC: Floats, attributes_N: Ints) -> Predictions:
    C = logits_NC.shape[1]
    log_probs_NC = logits_NC - np.log(np.exp(logits_NC).sum(1, keepdims=True))
    return Predictions(
        labels_N=labels_N,
        predicted_N=log_probs_NC.argmax(1),
        log_probs_NC=log_probs_NC,
        classes=_CLASSES[:C],
        attributes_N=attributes_N,
        attributes=_VALUES,
        train_cell_counts=np.arange(1, 2 * C + 1),
        min_group=5,
    )


def _taken(predictions: Predictions, rows_K: Ints) -> Predictions:
    attributes_N = predictions.attributes_N
    return replace(
        predictions,
        labels_N=predictions.labels_N[rows_K],
        predicted_N=predictions.predicted_N[rows_K],
        log_probs_NC=predictions.log_probs_NC[rows_K],
        attributes_N=None if attributes_N is None else attributes_N[rows_K],
    )


def _arrays(predictions: Predictions) -> list[np.ndarray]:
    arrays = predictions.labels_N, predictions.predicted_N, predictions.log_probs_NC, predictions.attributes_N
    return [array for array in arrays if array is not None]
