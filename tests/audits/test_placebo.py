"""The placebo and the lead over it: a shifted pool gives no lead, a real leak does, and the interval keeps its promise.

Made-up models: an example has a difficulty of its own, members are easier than others by `shift` (the two pools
differ), each training adds chance to every example and moves all members alike, and a leak helps the members.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from sweeper.models.audit import _with_intervals
from trainables.audits.membership import Scores, lira_scores
from trainables.audits.placebo import Area, lead

# Two normal scores of variance 1 + .36, .117 apart: the area between them is .528.
SHIFT = NormalDist().inv_cdf(0.528) * np.sqrt(2 * (1 + 0.36))


def areas(
    chance: np.random.Generator, *, n: int, attack: str, leak: float, moved: float, models: int = 1
) -> list[tuple[float, Area, list[Area]]]:
    """Models that leak, with weights 1 and -1, each with four twins that do not, on the same `n` members and others."""
    member_N = np.arange(2 * n) < n
    easy_N = chance.normal(0, 1, 2 * n) + SHIFT * member_N
    hit_N = leak * np.abs(chance.normal(0, 1, 2 * n)) * member_N

    def odds() -> np.ndarray:
        return easy_N + chance.normal(0, 0.6, 2 * n) + moved * chance.normal() * member_N

    shadows_TN = np.stack([odds() for _ in range(16)])

    def area(odds_N: np.ndarray) -> Area:
        scores_N = odds_N if attack == "loss" else lira_scores(odds_N, shadows_TN)
        return Area.of(scores_N[:n], scores_N[n:])

    return [(weight, area(odds() + hit_N), [area(odds()) for _ in range(4)]) for weight in (1.0, -1.0)[:models]]


def interval(*compared: tuple[float, Area, list[Area]]) -> tuple[float, float]:
    found = lead(*compared)
    _with_intervals(found)
    low, high = found["interval"]
    return low, high


def test_an_area_is_that_of_scikit_learn_seen_from_both_sides() -> None:
    chance = np.random.default_rng(0)
    members_M, others_K = chance.normal(0.5, 1, 40).round(1), chance.normal(0, 1, 70).round(1)  # there are ties
    area = Area.of(members_M, others_K)
    truth = roc_auc_score(np.repeat([1, 0], [40, 70]), np.concatenate([members_M, others_K]))
    assert area.value == pytest.approx(truth)
    assert area.others_K.mean() == pytest.approx(truth)


def test_a_lead_is_the_area_less_the_mean_of_the_twins() -> None:
    target, good, bad = (Area.of(np.array(scores), np.array([1.0, 2.0])) for scores in ([3, 3], [3, 0], [0, 0]))
    assert [area.value for area in (target, good, bad)] == [1.0, 0.5, 0.0]
    assert lead((1.0, target, [good, bad]))["value"] == pytest.approx(0.75)
    assert lead((1.0, target, [good]), (-1.0, good, [bad]))["value"] == pytest.approx(0.5 - 0.5)
    assert "variances" not in lead((1.0, target, [good, bad]))  # two members: nothing is known of the variance


def test_one_twin_or_nine_members_give_no_interval() -> None:
    chance = np.random.default_rng(0)
    target, *twins = (Area.of(chance.normal(size=10), chance.normal(size=10)) for _ in range(3))
    assert "variances" in lead((1.0, target, twins))
    assert "variances" not in lead((1.0, target, twins[:1]))
    target, *twins = (Area.of(chance.normal(size=9), chance.normal(size=100)) for _ in range(3))
    assert "variances" not in lead((1.0, target, twins))


def test_the_same_answers_as_the_twins_lead_by_nothing_for_sure() -> None:
    chance = np.random.default_rng(0)
    area = Area.of(chance.normal(0.3, 1, 30), chance.normal(size=30))
    assert interval((1.0, area, [area, area, area])) == pytest.approx((0.0, 0.0), abs=1e-12)


def test_where_nothing_was_learned_the_attack_alone_reads_the_shift_of_the_pools_and_the_lead_does_not() -> None:
    chance = np.random.default_rng(1)
    drawn = [areas(chance, n=150, attack="loss", leak=0.0, moved=0.05) for _ in range(400)]
    naive, leads = [one[0][1].value for one in drawn], [lead(*one)["value"] for one in drawn]
    assert np.mean(naive) == pytest.approx(0.528, abs=0.006)
    assert np.mean(leads) == pytest.approx(0.0, abs=0.006)
    sure = np.mean([low > 0 for low, _ in (interval(*one) for one in drawn)])
    assert sure <= 0.045  # 2.5 % are promised


@pytest.mark.parametrize(
    ("attack", "n", "leak", "moved", "models"),
    [
        ("loss", 120, 0.0, 0.1, 1),
        ("loss", 120, 0.8, 0.1, 1),
        ("lira", 120, 0.8, 0.1, 1),
        ("lira", 15, 0.8, 0.1, 1),
        ("loss", 300, 0.8, 0.05, 1),
        ("loss", 120, 0.8, 0.1, 2),  # how much more one gives away than the other, which is nothing
    ],
)
def test_the_interval_of_a_lead_covers_the_truth_in_95_percent(
    attack: str, n: int, leak: float, moved: float, models: int
) -> None:
    chance = np.random.default_rng(2)
    world = {"attack": attack, "leak": leak, "moved": moved, "models": models}
    nothing = leak == 0 or models == 2
    truth = 0.0 if nothing else np.mean([lead(*areas(chance, n=2000, **world))["value"] for _ in range(60)])
    ends = [interval(*areas(chance, n=n, **world)) for _ in range(400)]
    covered = np.mean([low <= truth <= high for low, high in ends])
    assert 0.925 <= covered <= 0.985


def test_judging_says_placebo_lead_and_what_the_shadow_models_read() -> None:
    chance = np.random.default_rng(4)
    member_N = np.arange(40) < 20
    scores = Scores(chance.normal(size=40) + member_N, chance.normal(size=(3, 40)), chance.normal(size=(5, 40)))
    found = scores.judged(member_N, ~member_N)
    twins = [Area.of(one_N[:20], one_N[20:]).value for one_N in scores.twins_RN]
    assert found["placebo"]["auc"] == pytest.approx(np.mean(twins))
    assert found["lead"]["value"] == pytest.approx(found["auc"] - np.mean(twins))
    assert found["shadows"] == pytest.approx(np.mean([Area.of(s[:20], s[20:]).value for s in scores.shadows_TN]))
    assert len(found["placebo"]["roc"]["tpr"]) == len(found["roc"]["tpr"])
    assert scores.judged(member_N, ~member_N, scores)["above_first"]["value"] == pytest.approx(0.0)
    alone = Scores(scores.model_N, np.empty((0, 40)), scores.shadows_TN).judged(member_N, ~member_N)
    assert not {"placebo", "lead"} & set(alone)
    assert scores.judged(member_N & False, ~member_N)["reasons"] == {"auc": "no members"}
