"""Our metrics against those of scikit-learn, fairlearn and aif360, on made-up predictions."""

from __future__ import annotations

import importlib
import logging
import math
import warnings
from types import ModuleType

import fairlearn.metrics
import numpy as np
import pandas as pd
import pytest
import sklearn.metrics
from hypothesis import HealthCheck, assume, given, settings

from tests.metrics.cases import binary, cases, covered, made_up, two_by_two
from trainables.metrics import METRICS, Predictions


@pytest.fixture(scope="module")
def aif360() -> ModuleType:
    """aif360 announces the extras that it lacks at import; they play no part here."""
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = importlib.import_module("aif360.sklearn.metrics")
    logging.disable(logging.NOTSET)
    return module


def value(name: str, judged: Predictions) -> float:
    return METRICS[name](judged).value


def with_support(judged: Predictions) -> np.ndarray:
    return np.unique(judged.labels_N)


@given(cases)
def test_accuracy_and_loss_are_those_of_scikit_learn(judged: Predictions) -> None:
    assert value("accuracy", judged) == sklearn.metrics.accuracy_score(judged.labels_N, judged.predicted_N)
    every = list(range(len(judged.classes)))
    expected = sklearn.metrics.log_loss(judged.labels_N, np.exp(judged.log_probs_NC), labels=every)
    assert value("loss", judged) == pytest.approx(expected)


@pytest.mark.parametrize("score", ["f1", "recall"])
@given(judged=cases)
def test_scores_of_classes_with_support_are_those_of_scikit_learn(score: str, judged: Predictions) -> None:
    oracle = getattr(sklearn.metrics, f"{score}_score")
    values = oracle(
        judged.labels_N, judged.predicted_N, labels=with_support(judged), average=None, zero_division=math.nan
    )
    assert value(f"min_{score}", judged) == pytest.approx(values.min())
    assert value(f"median_{score}", judged) == pytest.approx(np.median(values))
    if len(values) > 1:
        assert value(f"delta_{score}", judged) == pytest.approx(values.max() - values.min())


@given(binary.map(covered))
def test_equalized_odds_difference_is_that_of_fairlearn_where_every_rate_exists(judged: Predictions) -> None:
    expected = fairlearn.metrics.equalized_odds_difference(
        judged.labels_N, judged.predicted_N, sensitive_features=judged.attributes_N
    )
    assert value("equalized_odds_difference", judged) == pytest.approx(expected)


@given(two_by_two.map(covered))
def test_eod_is_the_equal_opportunity_difference_of_fairlearn(judged: Predictions) -> None:
    expected = fairlearn.metrics.equal_opportunity_difference(
        judged.labels_N, judged.predicted_N, sensitive_features=judged.attributes_N
    )
    assert value("eod", judged) == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["attribute", "class", "cell"])
@given(judged=cases)
def test_worst_and_spread_are_those_of_fairlearns_metric_frame(kind: str, judged: Predictions) -> None:
    assume(judged.attributes_N is not None or kind == "class")
    groups = judged.groups(kind)
    assume(len(np.unique(groups.index_N)) > 1)
    frame = fairlearn.metrics.MetricFrame(
        metrics=sklearn.metrics.accuracy_score,
        y_true=judged.labels_N,
        y_pred=judged.predicted_N,
        sensitive_features=groups.index_N,
    )
    assert value(f"worst_accuracy_by_{kind}", judged) == pytest.approx(frame.group_min())
    assert value(f"accuracy_spread_by_{kind}", judged) == pytest.approx(frame.difference())


def one_vs_rest(aif360: ModuleType, judged: Predictions, positive: int) -> list[float]:
    """aif360's |difference in recall| of every attribute value against all others pooled, where defined."""
    if len(np.unique(judged.attributes_N)) < 2:
        return []
    index = pd.Index(judged.attributes_N, name="s")
    labels = pd.Series((judged.labels_N == positive).astype(int), index=index)
    answers = pd.Series((judged.predicted_N == positive).astype(int), index=index)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gaps, values = aif360.one_vs_rest(
            aif360.equal_opportunity_difference, labels, answers, prot_attr="s", return_groups=True
        )
    holders = set(judged.attributes_N[judged.labels_N == positive].tolist())  # type: ignore[index]
    return [abs(gap) for gap, s in zip(gaps, values, strict=True) if s in holders and len(holders) > 1]


SLOW = settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])


@SLOW
@given(judged=binary)
def test_eod_max_is_aif360s_one_versus_rest(aif360: ModuleType, judged: Predictions) -> None:
    gaps = one_vs_rest(aif360, judged, positive=1)
    assert value("eod_max_macro", judged) == pytest.approx(max(gaps, default=math.nan), nan_ok=True)


@SLOW
@given(judged=made_up())
def test_the_multiclass_variants_are_the_mean_and_the_worst_of_aif360s(aif360: ModuleType, judged: Predictions) -> None:
    assume(len(judged.classes) > 2)
    each = [max(gaps) for c in range(len(judged.classes)) if (gaps := one_vs_rest(aif360, judged, c))]
    mean, worst = (float(np.mean(each)), max(each)) if each else (math.nan, math.nan)
    assert value("eod_max_macro", judged) == pytest.approx(mean, nan_ok=True)
    assert value("eod_max_worst_class", judged) == pytest.approx(worst, nan_ok=True)


@SLOW
@given(judged=made_up())
def test_the_pooled_variant_is_aif360s_one_versus_rest_of_being_right(aif360: ModuleType, judged: Predictions) -> None:
    assume(len(judged.classes) > 2)
    assume(len(np.unique(judged.attributes_N)) > 1)
    index = pd.Index(judged.attributes_N, name="s")
    right = pd.Series(judged.correct_N.astype(int), index=index)
    positives = pd.Series(1, index=index)
    gaps = aif360.one_vs_rest(aif360.equal_opportunity_difference, positives, right, prot_attr="s")
    assert value("eod_max_pooled", judged) == pytest.approx(max(abs(gap) for gap in gaps))
