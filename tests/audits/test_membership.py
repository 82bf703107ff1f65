"""Membership inference: attacks one can check in one's head, scikit-learn's ROC as oracle, and what is not known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from trainables.audits import membership


def scores(shift: float, members: int = 300, others: int = 700) -> tuple[np.ndarray, np.ndarray]:
    chance = np.random.default_rng(0)
    return chance.normal(shift, 1, members).round(1), chance.normal(0, 1, others).round(1)  # rounded: there are ties


def test_log_odds_are_those_of_the_true_class_against_the_rest() -> None:
    probs_NC = np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]])
    found = membership.log_odds(np.log(probs_NC), np.array([0, 2]))
    assert found == pytest.approx([0.0, np.log(0.7 / 0.3)])


def test_log_odds_hold_where_a_probability_is_nearly_one() -> None:
    log_probs_NC = np.array([[-1e-18, -50.0, -60.0]])
    assert membership.log_odds(log_probs_NC, np.array([0]))[0] == pytest.approx(50, rel=1e-4)


def test_lira_counts_deviations_above_the_shadows_and_both_sides_if_asked() -> None:
    shadows_TN = np.array([[0.0, 1.0], [2.0, 3.0]])  # means 1 and 2, deviations 1
    assert membership.lira_scores(np.array([3.0, 0.0]), shadows_TN) == pytest.approx([2.0, -2.0])
    assert membership.lira_scores(np.array([3.0, 0.0]), shadows_TN, two_sided=True) == pytest.approx([2.0, 2.0])
    with pytest.raises(ValueError, match="1 shadow models"):
        membership.lira_scores(np.zeros(2), shadows_TN[:1])


@pytest.mark.parametrize("shift", [0.0, 0.5, 3.0])
def test_the_curve_is_that_of_scikit_learn(shift: float) -> None:
    members_M, others_K = scores(shift)
    found = membership.operating_points(members_M, others_K)
    truth = np.repeat([1, 0], [len(members_M), len(others_K)])
    fpr, tpr, _ = roc_curve(truth, np.concatenate([members_M, others_K]), drop_intermediate=False)
    assert found["auc"] == pytest.approx(roc_auc_score(truth, np.concatenate([members_M, others_K])))
    assert (found["roc"]["fpr"][0], found["roc"]["fpr"][-1]) == (1 / 700, 1)  # from one false alarm to all
    for rate, share in zip(found["roc"]["fpr"], found["roc"]["tpr"], strict=True):
        assert share == pytest.approx(tpr[fpr <= rate + 1e-12].max())
    assert found["tpr_at_fpr"]["0.01"] == pytest.approx(tpr[fpr <= 0.01].max())


def test_a_rate_that_too_few_others_can_tell_is_unknown_with_its_reason() -> None:
    found = membership.operating_points(*scores(1.0))
    assert found["tpr_at_fpr"]["0.001"] is None
    assert found["reasons"] == {"0.001": "700 non-members: 0.7 may be called members, 5 are needed"}
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_nobody_to_compare_with_is_no_number() -> None:
    found = membership.operating_points(np.zeros(3), np.zeros(0))
    assert (found["auc"], found["reasons"]) == (None, {"auc": "no non-members"})


def test_a_curve_begins_at_one_of_the_others() -> None:
    found = membership.operating_points(*scores(1.0, members=20, others=50))
    assert found["roc"]["fpr"][0] == pytest.approx(1 / 50)
    assert found["roc"]["fpr"][-1] == found["roc"]["tpr"][-1] == 1.0
