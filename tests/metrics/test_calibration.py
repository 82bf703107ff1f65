"""The calibration error: against scikit-learn's curve, in one's head, and by chance alone."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from trainables.metrics import METRICS, Evaluation, Predictions, evaluate


def promised(confidence_N: np.ndarray, hit_N: np.ndarray, **more: object) -> Predictions:
    """Two classes; the answer is the second one, with this confidence (0.5 at least), and right where it hits."""
    probs_NC = np.stack([1 - confidence_N, confidence_N], 1)
    labels_N = np.where(hit_N, 1, 0)
    return Predictions(labels_N, np.ones_like(labels_N), np.log(probs_NC), ("no", "yes"), **more)


def test_a_bin_counts_by_its_examples() -> None:
    confidence_N = np.array([0.9, 0.9, 0.9, 0.9, 0.6, 0.6])
    hit_N = np.array([True, True, True, False, True, True])
    found = METRICS["ece"](promised(confidence_N, hit_N))
    assert found.value == pytest.approx(4 / 6 * abs(0.75 - 0.9) + 2 / 6 * abs(1.0 - 0.6))


@pytest.mark.parametrize("bins", [10, 15])
@pytest.mark.parametrize("name", ["ece", "ece_positive"])
def test_it_is_the_distance_from_scikit_learns_curve(name: str, bins: int) -> None:
    chance = np.random.default_rng(0)
    confidence_N = chance.uniform(0.5, 1, 700)
    hit_N = chance.uniform(size=700) < confidence_N**2
    share_B, promise_B = calibration_curve(hit_N, confidence_N, n_bins=bins)
    n_B = np.histogram(confidence_N, np.linspace(0, 1, bins + 1))[0]
    wanted = np.abs(share_B - promise_B) @ n_B[n_B > 0] / 700
    assert METRICS[name](promised(confidence_N, hit_N, ece_bins=bins)).value == pytest.approx(wanted)


@pytest.mark.parametrize(("n", "unsure", "sure"), [(50, 0.127, 0.077), (1000, 0.029, 0.019)])
def test_calibrated_answers_show_what_chance_shows(n: int, unsure: float, sure: float) -> None:
    chance = np.random.default_rng(0)

    def mean_ece(draw: Callable[[], np.ndarray]) -> float:
        drawn = (draw() for _ in range(400))
        return np.mean([METRICS["ece"](promised(c_N, chance.uniform(size=n) < c_N)).value for c_N in drawn])

    assert mean_ece(lambda: chance.uniform(0.5, 1, n)) == pytest.approx(unsure, rel=0.1)
    assert mean_ece(lambda: chance.beta(9, 1, n)) == pytest.approx(sure, rel=0.1)


def test_the_worst_group_is_a_value_of_the_attribute_with_its_count() -> None:
    confidence_N, hit_N = np.full(6, 0.8), np.array([True] * 4 + [False] * 2)
    place_N = np.array([0, 0, 0, 0, 1, 1])
    shown = promised(confidence_N, hit_N, attributes_N=place_N, attributes=("land", "water", "sky"))
    found = METRICS["worst_ece_by_attribute"](shown)
    assert found.value == pytest.approx(0.8)
    assert [(row["name"], row["n"]) for row in found.groups] == [("land", 4), ("water", 2), ("sky", 0)]
    assert np.isnan(METRICS["worst_ece_by_attribute"](promised(confidence_N, hit_N)).value)


def test_the_bins_that_are_kept_give_the_same_error_again() -> None:
    chance = np.random.default_rng(1)
    confidence_N = chance.uniform(0.5, 1, 300)
    shown = promised(
        confidence_N,
        chance.uniform(size=300) < confidence_N,
        attributes_N=chance.integers(0, 2, 300),
        attributes=("land", "water"),
        ece_bins=7,
    )
    again = Evaluation.from_json(json.loads(json.dumps(evaluate(shown).to_json())))
    kept = again.calibration
    assert again.ece_bins == 7
    assert max(row["bin"] for row in kept) == 6
    for of, name in (("answer", "ece"), ("positive", "ece_positive")):
        own = [row for row in kept if (row["of"], row["kind"]) == (of, "all")]
        assert sum(row["n"] for row in own) == 300
        summed = sum(abs(row["hits"] - row["confidence"]) for row in own) / 300
        assert summed == pytest.approx(METRICS[name](shown).value)
    groups = {row["name"] for row in kept if row["kind"] == "attribute"}
    assert groups == {"land", "water"}


def test_without_probabilities_it_is_undefined() -> None:
    unknown = Predictions(np.array([0, 1]), np.array([0, 1]), np.full((2, 2), np.nan), ("no", "yes"))
    assert METRICS["ece"](unknown).reason == "the answers' probabilities are not known"


def test_three_classes_have_no_positive_one() -> None:
    three = Predictions(np.array([2]), np.array([2]), np.log(np.full((1, 3), 1 / 3)), ("a", "b", "c"))
    assert METRICS["ece_positive"](three).reason == "defined for two classes; see ece"
    assert METRICS["ece"](three).value == pytest.approx(2 / 3)
