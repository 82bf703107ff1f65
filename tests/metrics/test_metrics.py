"""The METRICS table: arithmetic one can do in one's head, and the laws that every metric obeys."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given

from tests.metrics.cases import binary, cases, predictions
from trainables.metrics import ALIASES, METRICS, Evaluation, Predictions, Value, evaluate

CLASSES, PLACES = ("landbird", "waterbird"), ("land", "water")


def birds(rows: list[tuple[int, int, int]], **more: object) -> Predictions:
    """Rows of (label, answer, place)."""
    labels, answers, places = (np.array(column) for column in zip(*rows, strict=True))
    return predictions(labels, answers, CLASSES, places, PLACES, **more)


# Four waterbirds on land (1 found), two on water (both found), two landbirds on land (1 right), none on water.
ROWS = [(1, 1, 0), (1, 0, 0), (1, 0, 0), (1, 0, 0), (1, 1, 1), (1, 1, 1), (0, 0, 0), (0, 1, 0)]


def test_accuracy_is_a_fraction() -> None:
    assert evaluate(birds(ROWS)).values["accuracy"] == 4 / 8


def test_eod_is_the_difference_of_the_two_true_positive_rates() -> None:
    assert METRICS["eod"](birds(ROWS)) == Value(
        2 / 2 - 1 / 4, None, ({"name": "land", "n": 4, "value": 0.25}, {"name": "water", "n": 2, "value": 1.0})
    )


def test_recall_and_f1_of_the_classes() -> None:
    values = evaluate(birds(ROWS)).values
    assert values["min_recall"] == 1 / 2  # landbirds 1/2, waterbirds 3/6
    assert values["delta_recall"] == 0
    assert values["delta_f1"] == pytest.approx(6 / 10 - 2 / 6)  # 2 TP / (2 TP + FP + FN)


def test_sensitive_accuracy_counts_answers_that_name_the_background() -> None:
    assert evaluate(birds(ROWS, shared_labels=True)).values["sensitive_accuracy"] == 6 / 8


def test_sensitive_accuracy_is_undefined_where_labels_are_not_shared() -> None:
    found = evaluate(birds(ROWS))
    assert math.isnan(found.values["sensitive_accuracy"])
    assert "do not mean the same things" in found.reasons["sensitive_accuracy"]


def test_worst_and_spread_by_cell_are_over_the_cells_that_have_examples() -> None:
    found = METRICS["worst_accuracy_by_cell"](birds(ROWS))
    assert found.value == 1 / 4
    assert [(row["name"], row["n"]) for row in found.groups] == [
        ("landbird|land", 2), ("landbird|water", 0), ("waterbird|land", 4), ("waterbird|water", 2),
    ]  # fmt: skip
    assert METRICS["accuracy_spread_by_cell"](birds(ROWS)).value == 1 - 1 / 4


def test_each_kind_of_group_has_its_own_worst_and_its_own_spread() -> None:
    values = evaluate(birds(ROWS)).values
    assert values["worst_accuracy_by_attribute"] == 2 / 6  # land 2 of 6, water 2 of 2
    assert values["accuracy_spread_by_attribute"] == 1 - 2 / 6
    assert values["worst_accuracy_by_class"] == 1 / 2  # landbirds 1 of 2, waterbirds 3 of 6
    assert values["accuracy_spread_by_class"] == 0


def test_the_spread_of_cells_is_not_that_of_the_attribute() -> None:
    # Each place has one class right and the other wrong: the places are alike, the cells could not differ more.
    values = evaluate(birds([(0, 0, 0), (1, 0, 0), (0, 1, 1), (1, 1, 1)])).values
    assert (values["accuracy_spread_by_attribute"], values["accuracy_spread_by_cell"]) == (0, 1)


def test_the_row_of_an_attribute_value_has_its_rates_and_its_gap_to_all_others() -> None:
    rows = {row["name"]: row for row in evaluate(birds(ROWS)).groups if row["kind"] == "attribute"}
    assert (rows["land"]["tpr"], rows["land"]["fpr"], rows["water"]["tpr"]) == (1 / 4, 1 / 2, 1)
    assert math.isnan(rows["water"]["fpr"])  # no landbird on water
    whole = {row["name"]: row for row in evaluate(birds([*ROWS, (0, 0, 1)])).groups if row["kind"] == "attribute"}
    assert whole["land"]["equalized_odds"] == whole["water"]["equalized_odds"] == 1 - 1 / 4


def test_a_row_has_its_groups_own_numbers_and_that_of_a_class_its_recall_and_f1_too() -> None:
    rows = {row["name"]: row for row in evaluate(birds(ROWS)).groups}
    sure, wrong = -math.log(0.7), -math.log(0.3)
    assert rows["waterbird"] == {
        "kind": "class",
        "name": "waterbird",
        "n": 6,
        "accuracy": 3 / 6,
        "loss": pytest.approx((3 * sure + 3 * wrong) / 6),
        "recall": 3 / 6,
        "f1": 6 / 10,  # three found, three missed, one landbird taken for one
    }
    assert rows["waterbird|land"] == {
        "kind": "cell",
        "name": "waterbird|land",
        "n": 4,
        "accuracy": 1 / 4,
        "loss": pytest.approx((sure + 3 * wrong) / 4),
    }
    assert rows["land"].keys() == {"kind", "name", "n", "accuracy", "loss", "tpr", "fpr", "equalized_odds"}


@pytest.mark.parametrize("kind", ["attribute", "class", "cell"])
def test_a_kind_with_too_small_a_group_has_no_number_and_says_which_group(kind: str) -> None:
    found = evaluate(birds(ROWS * 3, min_group=7))
    smallest = {"attribute": "water", "class": "landbird", "cell": "landbird|land"}[kind]
    names = [name for name in METRICS if name.endswith(f"_by_{kind}") and not name.startswith("adjusted")]
    assert len(names) >= 3
    for name in names:
        assert math.isnan(found.values[name]), name
        assert found.reasons[name] == f"group {smallest} has 6 examples, fewer than min_group 7"
    assert all(math.isfinite(evaluate(birds(ROWS * 3, min_group=6)).values[name]) for name in names)


@pytest.mark.parametrize("name", ["eod", "eod_max_macro", "eod_max_worst_class", "eod_max_pooled"])
def test_a_rate_of_too_few_examples_is_not_compared(name: str) -> None:
    assert METRICS[name](birds(ROWS, min_group=2)).value == 1 - 1 / 4
    reason = METRICS[name](birds(ROWS, min_group=3)).reason
    assert reason in [f"group {cell} has 2 examples, fewer than min_group 3" for cell in ("water", "waterbird|water")]


def test_equalized_odds_compare_every_cell() -> None:
    rows = [*ROWS, (0, 0, 1)]
    assert METRICS["equalized_odds_difference"](birds(rows)).value == 1 - 1 / 4
    found = METRICS["equalized_odds_difference"](birds(rows, min_group=2))
    assert found.reason == "group landbird|water has 1 examples, fewer than min_group 2"


def test_the_lowest_of_small_classes_is_undefined_and_the_median_is_not() -> None:
    values = evaluate(birds(ROWS, min_group=3)).values
    assert all(math.isnan(values[name]) for name in ("min_f1", "delta_f1", "min_recall", "delta_recall"))
    assert values["median_recall"] == 1 / 2


def test_without_an_attribute_nothing_is_by_attribute_and_a_cell_is_a_class() -> None:
    found = evaluate(predictions(np.array([0, 0, 1]), np.array([0, 1, 1]), CLASSES))
    by_attribute = [name for name in METRICS if name.endswith("_by_attribute")]
    assert {found.reasons[name] for name in by_attribute} == {"the data has no sensitive attribute"}
    assert found.values["worst_accuracy_by_cell"] == found.values["worst_accuracy_by_class"] == 1 / 2


@given(cases)
def test_an_old_name_is_another_name_for_the_same_number_and_says_which(judged: Predictions) -> None:
    values = evaluate(judged).values
    for old, new in ALIASES.items():
        assert values[old] == pytest.approx(values[new], nan_ok=True)
        assert METRICS[old].doc == f"= {new}: {METRICS[new].doc}"
        assert METRICS[old].direction == METRICS[new].direction


def test_what_an_older_release_measured_is_known_under_both_names() -> None:
    older = {"values": {"worst_group_accuracy": 0.5, "group_accuracy_spread": None}, "groups": []}
    again = Evaluation.from_json(older | {"reasons": {"group_accuracy_spread": "few"}})
    assert again.values["worst_accuracy_by_cell"] == again.values["worst_group_accuracy"] == 0.5
    assert again.reasons["accuracy_spread_by_cell"] == "few"
    assert again.ece_bins == 15


def test_adjusted_accuracy_weighs_cells_as_training_had_them() -> None:
    counts = np.array([90, 0, 10, 0])
    adjusted = METRICS["adjusted_accuracy_by_cell"](birds(ROWS, train_cell_counts=counts))
    assert adjusted.value == pytest.approx(0.9 * 1 / 2 + 0.1 * 1 / 4)


def test_adjusted_accuracy_is_undefined_where_a_trained_cell_has_no_examples() -> None:
    adjusted = METRICS["adjusted_accuracy"](birds(ROWS, train_cell_counts=np.array([90, 5, 5, 0])))
    assert math.isnan(adjusted.value)
    assert adjusted.reason == "no examples of landbird|water, on which the model was trained"


@pytest.mark.parametrize(("penalised", "expected"), [(None, "cell"), ("class", "class"), ("attribute", "attribute")])
def test_loss_variance_is_over_the_groups_that_training_penalised(penalised: str | None, expected: str) -> None:
    judged = birds(ROWS, penalised=penalised)
    groups = judged.groups(expected)
    losses = [judged.loss_N[groups.index_N == g].mean() for g in np.flatnonzero(groups.counts_G)]
    assert METRICS["loss_variance"](judged).value == pytest.approx(np.var(losses))


def test_a_group_without_positives_has_no_true_positive_rate() -> None:
    found = evaluate(birds([(1, 1, 0), (0, 0, 0), (0, 1, 1)]))
    assert math.isnan(found.values["eod"])
    assert found.reasons["eod"] == (
        "needs 2 values of the attribute with examples of class 'waterbird', and 1 of 2 have any"
    )
    assert math.isnan(found.values["equalized_odds_difference"])
    assert math.isnan(found.values["eod_max_macro"])


def test_a_class_without_examples_is_listed_and_not_scored() -> None:
    judged = predictions(np.array([0, 0, 2]), np.array([0, 1, 2]), ("a", "b", "c"))
    found = METRICS["min_recall"](judged)
    assert found.value == 1 / 2
    assert found.groups[1]["n"] == 0
    assert math.isnan(found.groups[1]["value"])


def test_a_gap_needs_two_classes() -> None:
    found = METRICS["delta_f1"](predictions(np.array([0, 0]), np.array([0, 1]), CLASSES))
    assert math.isnan(found.value)
    assert found.reason == "needs 2 classes with examples, and 1 of 2 have any"


def test_eod_names_its_multiclass_relatives_where_it_is_undefined() -> None:
    judged = predictions(np.array([0, 2]), np.array([0, 2]), ("a", "b", "c"), np.array([0, 1]), PLACES)
    assert METRICS["eod"](judged).reason == "defined for 2 classes and 2 attribute values, not 3 and 2; see eod_max_*"


@given(binary)
def test_on_two_classes_the_three_variants_of_eod_max_are_one(judged: Predictions) -> None:
    values = evaluate(judged).values
    assert values["eod_max_macro"] == pytest.approx(values["eod_max_worst_class"], nan_ok=True)
    assert values["eod_max_macro"] == pytest.approx(values["eod_max_pooled"], nan_ok=True)


@given(cases)
def test_every_metric_is_finite_or_nan_with_a_reason(judged: Predictions) -> None:
    found = evaluate(judged)
    assert found.values.keys() == METRICS.keys()
    for name, value in found.values.items():
        assert math.isnan(value) == (name in found.reasons), name
        assert not math.isinf(value)


@given(cases)
def test_permuting_the_examples_changes_no_metric(judged: Predictions) -> None:
    backwards = Predictions(
        judged.labels_N[::-1],
        judged.predicted_N[::-1],
        judged.log_probs_NC[::-1],
        judged.classes,
        None if judged.attributes_N is None else judged.attributes_N[::-1],
        judged.attributes,
    )
    assert evaluate(judged).values == pytest.approx(evaluate(backwards).values, nan_ok=True)


@given(cases)
def test_a_perfect_model_has_no_gap(judged: Predictions) -> None:
    perfect = predictions(judged.labels_N, judged.labels_N, judged.classes, judged.attributes_N, judged.attributes)
    values = evaluate(perfect).values
    assert values["accuracy"] == values["worst_accuracy_by_cell"] == values["min_f1"] == 1
    for name in ("delta_f1", "delta_recall", "eod_max_macro", "eod_max_pooled", "accuracy_spread_by_cell"):
        assert values[name] == 0 or math.isnan(values[name])


@given(cases)
def test_an_evaluation_survives_strict_json(judged: Predictions) -> None:
    found = evaluate(judged)
    again = Evaluation.from_json(json.loads(json.dumps(found.to_json(), allow_nan=False)))
    assert again.values == pytest.approx(found.values, nan_ok=True)
    assert again.reasons == found.reasons
    assert again.to_json() == found.to_json()


@given(cases)
def test_the_groups_of_every_kind_add_up_to_the_split(judged: Predictions) -> None:
    rows = evaluate(judged).groups
    for kind in judged.kinds:
        part = [row for row in rows if row["kind"] == kind]
        assert sum(row["n"] for row in part) == len(judged)
        right = sum(row["n"] * row["accuracy"] for row in part if row["n"])
        assert right == pytest.approx(judged.correct_N.sum())


def test_an_empty_split_has_no_numbers() -> None:
    nothing = np.array([], dtype=np.int64)
    found = evaluate(predictions(nothing, nothing, CLASSES, nothing, PLACES))
    assert all(math.isnan(value) for value in found.values.values())


def test_an_infinite_loss_is_not_a_number_to_choose_by() -> None:
    log_probs = np.log(np.array([[1.0, 1e-300], [0.5, 0.5]]))
    log_probs[0, 1] = -np.inf
    found = evaluate(Predictions(np.array([1, 0]), np.array([0, 0]), log_probs, CLASSES))
    assert math.isnan(found.values["loss"])
    assert math.isnan(found.values["loss_variance"])


def test_arrays_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"arrays of \[1, 2\] examples"):
        Predictions(np.array([0, 1]), np.array([0]), np.zeros((2, 2)), CLASSES)


def test_an_index_without_a_name_is_refused() -> None:
    with pytest.raises(ValueError, match="labels_N runs from 0 to 2, but there are 2 names"):
        Predictions(np.array([0, 2]), np.array([0, 1]), np.zeros((2, 2)), CLASSES)


@pytest.mark.parametrize("name", METRICS)
def test_the_direction_of_a_metric_is_from_answers_that_follow_the_place_to_right_and_sure_ones(name: str) -> None:
    labels_N, places_N = (x.ravel() for x in np.indices((2, 2)).repeat(10, axis=2))
    poor_N = np.where((labels_N == 1) & (places_N == 0), 0, labels_N)  # no waterbird is found on land,
    poor_N[(labels_N == 0) & (places_N == 1)] = np.arange(10) < 3  # and three landbirds on water are missed
    more = {"shared_labels": True, "train_cell_counts": np.full(4, 5)}
    poor = predictions(labels_N, poor_N, CLASSES, places_N, PLACES, **more)
    sure_NC = np.log(np.where(labels_N[:, None] == [0, 1], 1 - 1e-9, 1e-9))
    right = Predictions(labels_N, labels_N, sure_NC, CLASSES, places_N, PLACES, **more)
    better, worse = METRICS[name](right).value, METRICS[name](poor).value
    assert (better > worse) if METRICS[name].direction == "max" else (better < worse)


@given(cases)
def test_no_metric_of_ours_raises(judged: Predictions) -> None:
    for metric in METRICS.values():
        metric.fn(judged)


def test_a_metric_that_raises_is_undefined_with_the_error_and_its_place_and_the_others_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(METRICS._lines, "bad", replace(METRICS["accuracy"], fn=lambda predictions: 1 / 0))
    found = evaluate(birds(ROWS))
    assert math.isnan(found.values["bad"])
    assert found.reasons["bad"].startswith("it raised ZeroDivisionError: division by zero (test_metrics.py:")
    assert found.values["accuracy"] == 4 / 8
