"""The answers that a fit keeps are enough to judge its split again, whole or resampled."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given

from tests.metrics.cases import cases, predictions
from trainables.metrics import METRICS, Answers, Predictions, evaluate

OF_PROBABILITIES = [name for name in METRICS if "loss" in name or "ece" in name]  # right and wrong alone are kept


@given(cases)
def test_all_examples_taken_once_give_every_metric_but_those_of_probabilities(judged: Predictions) -> None:
    kept = Answers.from_json(json.loads(json.dumps(Answers.of(judged).to_json(), allow_nan=False)))
    again = evaluate(kept.take(np.arange(len(kept)))).values
    expected = {name: value for name, value in evaluate(judged).values.items() if name not in OF_PROBABILITIES}
    assert {name: again[name] for name in expected} == pytest.approx(expected, nan_ok=True)


def test_an_example_counts_as_often_as_it_was_drawn_and_a_loss_is_undefined() -> None:
    kept = Answers.of(predictions(np.array([0, 1]), np.array([0, 0]), ("a", "b")))
    drawn = kept.take(np.array([0, 0, 0, 1]))
    assert METRICS["accuracy"](drawn).value == 3 / 4
    assert math.isnan(METRICS["loss"](drawn).value)


def test_ten_thousand_answers_of_forty_classes_take_thirty_kilobytes() -> None:
    rng = np.random.default_rng(0)
    labels_N = np.sort(rng.integers(40, size=10_000))
    predicted_N = np.where(rng.random(10_000) < 0.9, labels_N, rng.integers(40, size=10_000))
    kept = Answers(labels_N, predicted_N, tuple(map(str, range(40))), rng.integers(6, size=10_000), tuple("abcdef"))
    assert len(json.dumps(kept.to_json())) < 30_000
