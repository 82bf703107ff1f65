"""What chance does to a sweep's numbers, in closed form; that it is right of whole sweeps is in test_stability.py."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, special, stats

from sweeper.front import dominance, intervals, noise
from sweeper.front.noise import Sample

ONE, TWO = {"accuracy": "max"}, {"accuracy": "max", "adjusted_accuracy": "max"}


def sample(values_TSM: np.ndarray, examples_BCSM: np.ndarray | None = None) -> Sample:
    T, _, M = values_TSM.shape
    return Sample(ONE if M == 1 else TWO, tuple(range(T)), values_TSM, np.arange(T), examples_BCSM, 100)


# --- seeds


def test_what_a_seed_does_to_all_trials_is_common_and_what_is_left_is_a_trials_own() -> None:
    """Two trials, two seeds: 1, 3 and 2, 2. The second seed gives 1 more to both, and 1 more or less to each alone.

    Around its mean trial 0 has -1, 1 and trial 1 nothing; less the common -1/2, 1/2 both have 1/2 in size, times
    sqrt(2) for the mean that was taken away: a variance of 1. The mean of two seeds has half of it. The seeds' own
    means, 1.5 and 2.5, vary by 1/2; the mean of two of them by 1/4.
    """
    drawn = sample(np.array([[[1.0], [3.0]], [[2.0], [2.0]]]))
    variance_TM, df = noise.seed_variances(drawn.values_TSM)
    assert variance_TM == pytest.approx(np.ones((2, 1)))
    assert df == 1
    assert noise.own_noise(drawn) == pytest.approx(np.full((2, 1, 1), 1 / 2))
    assert noise.common_noise(drawn) == pytest.approx(np.array([[1 / 4]]))


def test_noise_of_two_objectives_has_the_correlation_that_all_trials_together_show() -> None:
    values_TSM = np.random.default_rng(0).standard_normal((2, 5, 2)) @ np.array([[1.0, 0.8], [0.0, 0.6]])
    own_TMM = noise.own_noise(sample(values_TSM))
    alone_TSM = values_TSM - values_TSM.mean(axis=1, keepdims=True)
    alone_TSM = alone_TSM - alone_TSM.mean(axis=0)
    correlation = np.corrcoef(alone_TSM.reshape(-1, 2), rowvar=False)[0, 1]
    variance_TM, _ = noise.seed_variances(values_TSM)
    for own_MM, variance_M in zip(own_TMM, variance_TM, strict=True):
        assert np.diag(own_MM) == pytest.approx(variance_M / 5)
        assert own_MM[0, 1] == pytest.approx(own_MM[1, 0])
        assert own_MM[0, 1] == pytest.approx(correlation * math.sqrt(variance_M.prod()) / 5)


def test_variances_that_scatter_more_than_chance_does_are_moderated_as_smyth_has_it() -> None:
    """s^2 ~ s0^2 F(df, d0): log s^2 has the variance trigamma(df/2) + trigamma(d0/2), and a mean that gives s0."""
    df, variance_T = 4.0, np.array([0.1, 0.5, 1.0, 3.0, 20.0, 40.0])
    log_T = np.log(variance_T)
    apart = log_T.var(ddof=1) - special.polygamma(1, df / 2)
    d0 = optimize.brentq(lambda d: special.polygamma(1, d / 2) - apart, 1e-3, 1e3)
    shift = special.digamma(df / 2) - math.log(df / 2) - special.digamma(d0 / 2) + math.log(d0 / 2)
    prior = math.exp(log_T.mean() - shift)
    found_T, found_df = noise.moderated(variance_T, df)
    assert found_T == pytest.approx((d0 * prior + df * variance_T) / (d0 + df))
    assert found_df == pytest.approx(d0 + df)


def test_variances_that_scatter_no_more_than_chance_does_are_one_and_two_or_none_are_left_alone() -> None:
    alike, df = noise.moderated(np.array([0.9, 1.0, 1.1]), 4.0)
    assert (alike.tolist(), df) == (pytest.approx([1.0, 1.0, 1.0]), 12)
    for left in ([1.0, 9.0], [0.0, 0.0, 0.0]):
        variance_T, df = noise.moderated(np.array(left), 4.0)
        assert (variance_T.tolist(), df) == (left, 4)


def test_the_cautious_variance_is_never_below_the_trials_own() -> None:
    values_TSM = np.random.default_rng(0).standard_normal((6, 3, 2)) * np.arange(1, 7).reshape(-1, 1, 1)
    moderated_TM, df = noise.seed_variances(values_TSM)
    cautious_TM, same = noise.seed_variances(values_TSM, cautious=True)
    alone_TSM = values_TSM - values_TSM.mean(axis=1, keepdims=True)
    raw_TM = ((alone_TSM - alone_TSM.mean(axis=0)) ** 2).sum(axis=1) * 6 / 5 / 2
    assert cautious_TM == pytest.approx(np.maximum(moderated_TM, raw_TM))
    assert (cautious_TM > moderated_TM).any()
    assert (moderated_TM > raw_TM).any()
    assert same == df


# --- examples


def test_what_resamples_do_to_one_seed_alone_is_not_counted_twice() -> None:
    """The shared part has the variance 4, each of two seeds 1 of its own: their mean has 4 + 1/2, of which 4 is new."""
    rng = np.random.default_rng(0)
    moved_BS = 2 * rng.standard_normal((40_000, 1)) + rng.standard_normal((40_000, 2))
    assert intervals.examples_variance(moved_BS) == pytest.approx(4, rel=0.03)
    assert intervals.examples_variance(moved_BS[:, :1]) == pytest.approx(5, rel=0.03)
    assert intervals.examples_variance(rng.standard_normal((40_000, 2))) == pytest.approx(0, abs=0.02)


def test_examples_that_move_all_trials_alike_are_common_noise_and_no_trials_own() -> None:
    rng, values_TSM = np.random.default_rng(0), np.full((3, 1, 1), 0.5)
    common_B, own_BT = rng.normal(0, 0.03, 20_000), rng.normal(0, 0.01, (20_000, 3))
    drawn = sample(values_TSM, (0.5 + common_B[:, None] + own_BT)[:, :, None, None])
    assert noise.own_noise(drawn).ravel() == pytest.approx([1e-4] * 3, rel=0.05)
    assert noise.common_noise(drawn).item() == pytest.approx(9e-4 + 1e-4 / 3, rel=0.05)


# --- without luck

LINE = np.linspace(-1, 1, 11)[:, None]  # variance 0.44
SPREAD = 0.44


def test_a_point_is_drawn_in_by_the_share_that_luck_has_in_how_points_differ() -> None:
    """Noise of a quarter of the variance: a quarter of the way, times the trust in 11 trials, (11 - 3) / (11 - 1)."""
    noise_TMM = np.full((11, 1, 1), SPREAD / 4)
    true_TM, covariance_TMM = noise.without_luck(LINE, noise_TMM)
    assert true_TM == pytest.approx(LINE * (1 - 0.8 / 4))
    assert covariance_TMM == pytest.approx(noise_TMM * (1 - 0.8 / 4))


def test_where_luck_could_be_all_trials_still_differ_a_little() -> None:
    """By a twentieth of the noise, in variance: the way is 0.8 / 1.05."""
    true_TM, _ = noise.without_luck(LINE, np.full((11, 1, 1), 2 * SPREAD))
    assert true_TM == pytest.approx(LINE * (1 - 0.8 / 1.05))


def test_a_trial_that_collapsed_says_nothing_of_the_others() -> None:
    noise_TMM = np.full((12, 1, 1), SPREAD / 4)
    true_TM, _ = noise.without_luck(np.append(LINE, [[-50.0]], axis=0), noise_TMM)
    assert true_TM[:11] == pytest.approx(LINE * (1 - 0.8 / 4))
    # three of the deviations that the median distance tells, 1.4826 * 0.6, is where far begins
    edge = 3 * 1.4826 * 0.6
    points_TM = np.concatenate([LINE, -LINE, [[edge - 0.01], [-edge - 0.01]]])
    assert noise._usual(points_TM).tolist() == [True] * 22 + [True, False]


def test_few_trials_are_left_as_they_were_measured() -> None:
    for points_TM in (LINE[:1], LINE[:3]):
        noise_TMM = np.full((len(points_TM), 1, 1), 0.1)
        true_TM, covariance_TMM = noise.without_luck(points_TM, noise_TMM)
        assert np.array_equal(true_TM, points_TM)
        assert np.array_equal(covariance_TMM, noise_TMM)


def test_two_objectives_are_drawn_in_each_by_its_own_share_where_they_do_not_hang_together() -> None:
    signs_TM = np.array([[1.0, 1], [1, -1], [-1, 1], [-1, -1]] * 4)  # variance 16/15 in both, covariance 0
    shares_M = np.array([1 / 4, 1 / 2])
    noise_TMM = np.broadcast_to(np.diag(shares_M * 16 / 15), (16, 2, 2)).copy()
    true_TM, _ = noise.without_luck(signs_TM, noise_TMM)
    assert true_TM == pytest.approx(signs_TM * (1 - 12 / 15 * shares_M))


def test_draws_have_the_mean_and_the_covariance_that_they_are_asked_for() -> None:
    mean_TM, covariance_MM = np.array([[0.2, -1.0], [5.0, 0.0]]), np.array([[2.0, -1.2], [-1.2, 1.0]])
    drawn_BTM = noise.normal_draws(np.random.default_rng(0), 40_000, mean_TM, np.stack([covariance_MM] * 2))
    assert drawn_BTM.mean(axis=0) == pytest.approx(mean_TM, abs=0.03)
    for t in (0, 1):
        assert np.cov(drawn_BTM[:, t], rowvar=False) == pytest.approx(covariance_MM, abs=0.05)
    assert np.corrcoef(drawn_BTM[:, :, 0], rowvar=False)[0, 1] == pytest.approx(0, abs=0.02)


# --- tests of leads


def test_the_luck_of_a_lead_is_students_and_of_two_variances_welchs() -> None:
    a_S, b_S = np.array([0.9, 1.1, 1.3, 1.0]), np.array([0.2, 0.9, 0.7])
    parts = [(float(x.var(ddof=1)) / len(x), len(x) - 1.0) for x in (a_S, b_S)]
    welch = stats.ttest_ind(a_S, b_S, equal_var=False, alternative="greater")
    assert intervals.luck(float(a_S.mean() - b_S.mean()), parts) == pytest.approx(welch.pvalue)
    assert intervals.satterthwaite(parts) == pytest.approx(welch.df)
    student = stats.ttest_1samp(a_S, 0.8, alternative="greater")
    assert intervals.luck(float(a_S.mean()) - 0.8, parts[:1]) == pytest.approx(student.pvalue)
    assert (intervals.luck(0.1, [(0.0, 2.0)]), intervals.luck(0.0, [(0.0, 2.0)])) == (0.0, 1.0)


def test_the_quantile_of_a_sum_of_variances_is_midway_between_satterthwaites_and_cochrans() -> None:
    parts = [(3.0, 2.0), (1.0, 50.0)]
    cochran = (3 * stats.t.ppf(0.975, 2) + stats.t.ppf(0.975, 50)) / 4
    satterthwaite = stats.t.ppf(0.975, 16 / (9 / 2 + 1 / 50))
    assert intervals.t_quantile(parts) == pytest.approx((cochran + satterthwaite) / 2)
    assert intervals.t_quantile([(0.0, 2.0), (0.0, 50.0)]) == pytest.approx(stats.t.ppf(0.975, 2))


def test_wilsons_interval_is_scipys() -> None:
    for hits, n in ((8, 10), (0, 7), (7, 7), (333, 1000)):
        ends = stats.binomtest(hits, n).proportion_ci(method="wilson")
        assert intervals.wilson(hits, n) == pytest.approx((ends.low, ends.high), abs=1e-7)


def test_holm_multiplies_the_least_by_all_the_next_by_one_less_and_never_goes_down() -> None:
    assert dominance._holm({4: 0.04, 2: 0.01, 9: 0.03}, 5) == pytest.approx({2: 0.05, 9: 0.12, 4: 0.12})
    assert dominance._holm({1: 0.5}, 5) == {1: 1.0}


def test_a_lead_is_as_sure_as_it_is_in_its_least_sure_objective_and_noise_common_to_all_is_no_doubt() -> None:
    """Two trials, three seeds: leads of 0.3 and of 0.1; the common noise of the seeds is ten times as large."""
    seeds_S = np.array([1.0, -2.0, 1.0])
    wobble_S = np.array([0.02, 0.0, -0.02])
    base_S, ahead_S = seeds_S + wobble_S, seeds_S - wobble_S
    drawn = sample(np.stack([np.stack([base_S, base_S], 1), np.stack([ahead_S + 0.3, ahead_S + 0.1], 1)]))
    # each of the two has the variance of the differences' half: 0.02^2 * 2 * 2 / 2 = 0.0008 a fit
    parts = [(0.0008 * 2 / 2 / 3, 2.0)] * 2
    assert dominance.luck(drawn, 0, [1])[1] == pytest.approx(intervals.luck(0.1, parts), rel=1e-6)
