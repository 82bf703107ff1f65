"""Several attributes and groups that overlap: each measured by itself, in numbers that one can count."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from tests.metrics.cases import predictions
from trainables.data.base import Facet, crossed
from trainables.errors import UserError
from trainables.metrics import METRICS, Answers, Predictions, evaluate

CLASSES = ("no", "yes")
GENDER, RACE = ("man", "woman"), ("A", "B")
# label, answer, gender, race: of men 3 of 4 are right, of women 2 of 4; of A 4 of 5, of B 1 of 3.
ROWS = [
    *((0, 0, 0, 0), (1, 1, 0, 0), (1, 1, 0, 0), (0, 1, 0, 1)),
    *((0, 0, 1, 0), (1, 0, 1, 0), (1, 1, 1, 1), (1, 0, 1, 1)),
]


def two(**more: object) -> Predictions:
    """With two attributes: all four joint values occur."""
    rows = np.array(ROWS)
    names, facets = crossed({"gender": GENDER, "race": RACE}, [(GENDER[g], RACE[r]) for *_, g, r in ROWS])
    assert names == ("man|A", "man|B", "woman|A", "woman|B")
    return predictions(rows[:, 0], rows[:, 1], CLASSES, rows[:, 2] * 2 + rows[:, 3], names, facets=facets, **more)


def one(column: int, values: tuple[str, ...], **more: object) -> Predictions:
    """The same answers, with one of the two as the only attribute."""
    rows = np.array(ROWS)
    return predictions(rows[:, 0], rows[:, 1], CLASSES, rows[:, column], values, **more)


def test_each_attribute_has_its_own_numbers_and_the_bare_name_those_of_the_joint_values() -> None:
    found = evaluate(two()).values
    assert found["accuracy_spread_by_attribute/gender"] == 3 / 4 - 2 / 4
    assert found["accuracy_spread_by_attribute/race"] == pytest.approx(4 / 5 - 1 / 3)
    assert found["accuracy_spread_by_attribute"] == 1  # man|A 3 of 3, man|B 0 of 1
    assert found["worst_accuracy_by_cell/race"] == 0  # no|B
    assert found["equalized_odds_difference/gender"] == max(2 / 2 - 1 / 3, 1 / 2 - 0)
    assert "accuracy/gender" not in found
    assert "worst_group_accuracy/gender" not in found  # an older name


def test_a_metric_of_one_attribute_is_the_metric_where_that_is_the_only_one() -> None:
    counts = np.array([[4, 3], [2, 1], [7, 5], [0, 9]]).T  # by class and joint value, of the training split
    whole = evaluate(two(train_cell_counts=counts.reshape(-1)))
    for side, column, values in (("gender", 2, GENDER), ("race", 3, RACE)):
        by = (0, 0, 1, 1) if side == "gender" else (0, 1, 0, 1)
        own = np.array([[counts[c, [j for j in range(4) if by[j] == v]].sum() for v in (0, 1)] for c in (0, 1)])
        alone = evaluate(one(column, values, train_cell_counts=own.reshape(-1)))
        same = {name: value for name, value in alone.values.items() if f"{name}/{side}" in whole.values}
        # What compares classes compares the attribute's values under this name.
        same = {name: value for name, value in same.items() if "f1" not in name and "recall" not in name}
        assert len(same) == 13
        assert {name: whole.values[f"{name}/{side}"] for name in same} == pytest.approx(same, nan_ok=True)
        rows = [row for row in whole.groups if row["kind"] == side]
        assert [row | {"kind": "attribute"} for row in rows] == [r for r in alone.groups if r["kind"] == "attribute"]


def test_f1_of_an_attribute_is_the_mean_over_classes_among_those_of_each_value() -> None:
    found = METRICS["delta_f1/gender"](two())
    man, woman = (2 / 3 + 4 / 5) / 2, (2 / 4 + 2 / 4) / 2  # of no and yes: 2 TP / (2 TP + FP + FN)
    assert [row["value"] for row in found.groups] == pytest.approx([man, woman])
    assert found.value == pytest.approx(man - woman)
    assert METRICS["min_recall/gender"](two()).value == pytest.approx((1 + 1 / 3) / 2)


def test_the_cells_are_of_the_class_and_all_attributes() -> None:
    groups = two().groups("cell")
    assert groups.names[:2] == ("no|man|A", "no|man|B")
    assert groups.counts_G.tolist() == [1, 1, 1, 0, 2, 0, 1, 2]
    assert two().kinds == ("class", "gender", "race", "attribute", "cell")


def overlapping() -> Predictions:
    """Three groups: a has rows 0 to 3, b rows 2 to 5, and nobody is in c; rows 6 and 7 are in none."""
    rows = np.array(ROWS)
    members_NG = np.stack([np.arange(8) < 4, (np.arange(8) >= 2) & (np.arange(8) < 6), np.zeros(8, bool)], axis=1)
    return predictions(rows[:, 0], rows[:, 1], CLASSES, overlapping=("a", "b", "c"), members_NG=members_NG)


def test_a_group_that_overlaps_others_is_compared_with_its_complement() -> None:
    found = evaluate(overlapping())
    assert found.values["accuracy_spread_by_attribute/a"] == abs(3 / 4 - 2 / 4)
    assert found.values["accuracy_spread_by_attribute/b"] == abs(2 / 4 - 3 / 4)  # rows 2, 4 right; 0, 1, 6 of the rest
    assert found.values["equalized_odds_difference/a"] == max(2 / 2 - 1 / 3, 1 / 2 - 0)
    assert math.isnan(found.values["accuracy_spread_by_attribute"])
    rows = {row["name"]: row for row in found.groups if row["kind"] == "overlapping"}
    assert (rows["a"]["n"], rows["a"]["accuracy"], rows["a"]["rest_accuracy"]) == (4, 3 / 4, 2 / 4)
    assert (rows["c"]["n"], rows["c"]["rest_accuracy"]) == (0, 5 / 8)
    assert math.isnan(rows["c"]["accuracy"])


def test_of_all_that_overlap_the_worst_is_taken_and_a_group_without_members_is_shown_not_compared() -> None:
    found = METRICS["equalized_odds_difference/overlapping"](overlapping())
    each = [METRICS[f"equalized_odds_difference/{name}"](overlapping()).value for name in "ab"]
    assert found.value == max(each)
    assert [(row["name"], row["n"]) for row in found.groups] == [("a", 4), ("b", 4), ("c", 0)]
    assert math.isnan(found.groups[2]["value"])
    worst = METRICS["worst_accuracy_by_attribute/overlapping"](overlapping())
    assert worst.value == 2 / 4  # where more is better the least is the worst
    assert "needs 2 groups with examples" in str(METRICS["accuracy_spread_by_attribute/c"](overlapping()).reason)


def test_the_loss_variance_of_groups_that_overlap_is_of_the_means_over_their_members() -> None:
    judged = replace(overlapping(), penalised="overlapping")
    means = [judged.loss_N[:4].mean(), judged.loss_N[2:6].mean()]
    assert METRICS["loss_variance"](judged).value == pytest.approx(np.var(means))


def test_a_name_that_no_attribute_has_is_undefined_and_a_metric_that_is_of_none_is_unknown() -> None:
    assert METRICS["eod/rcae"](two()).reason == "the data has no attribute or group 'rcae'; there is: gender, race"
    assert "one attribute, which needs no name" in str(METRICS["eod/race"](one(3, RACE)).reason)
    assert METRICS["eod/overlapping"](two()).reason == "the data has no overlapping groups"
    for name in ("accuracy/race", "acuracy/race", "eod/"):
        assert name not in METRICS
        with pytest.raises(UserError, match=r"is unknown\. .*delta_f1/"):
            METRICS[name]


@pytest.mark.parametrize("judged", [two(), overlapping()], ids=["attributes", "overlapping"])
def test_kept_answers_give_the_same_numbers_again(judged: Predictions) -> None:
    kept = Answers.from_json(json.loads(json.dumps(Answers.of(judged).to_json(), allow_nan=False)))
    again, before = evaluate(kept.take(np.arange(len(kept)))).values, evaluate(judged).values
    known = {name: value for name, value in before.items() if not math.isnan(again[name])}
    assert {name: again[name] for name in known} == known
    assert sum("/" in name for name in known) > 10


def test_answers_of_one_attribute_are_written_as_ever_and_those_of_a_newer_release_are_refused() -> None:
    written = Answers.of(one(3, RACE)).to_json()
    assert list(written) == [
        *("labels", "predicted", "attribute_values", "classes", "attributes", "shared_labels", "train_cell_counts")
    ]
    assert Answers.from_json(written).facets == ()
    newer = Answers.of(two()).to_json() | {"schema": 3}
    with pytest.raises(UserError, match="answers of schema 3, and this release reads up to 2"):
        Answers.from_json(newer)


def test_attributes_are_crossed_in_the_order_of_their_values() -> None:
    names, facets = crossed({"x": ("b", "a"), "y": ("1|2", "3")}, [("a", "3"), ("b", "1|2"), ("a", "3")])
    assert names == (r"b|1\|2", "a|3")
    assert facets == (Facet("x", ("b", "a"), (0, 1)), Facet("y", ("1|2", "3"), (0, 1)))
