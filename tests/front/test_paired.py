"""Who may be best: the best mean and all that a paired test cannot tell from it."""

from __future__ import annotations

import numpy as np
import pytest

from sweeper.front.intervals import of_mean
from sweeper.front.paired import difference, may_be_best


def test_a_difference_is_students_seed_by_seed() -> None:
    """.10, .11 and .12: mean .11, standard error .01 / sqrt(3), t with 2 degrees of freedom 4.303."""
    seeds_S = np.array([0.5, 0.7, 0.6])
    half = 4.303 * 0.01 / 3**0.5
    assert difference(np.array([seeds_S, seeds_S - [0.10, 0.11, 0.12]])) == pytest.approx(
        (0.11 - half, 0.11 + half), abs=1e-4
    )
    assert difference(np.array([[0.5], [0.4]])) is None


@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
def test_of_two_trials_that_share_seeds_and_examples_95_percent_covers_95_percent(seeds: int) -> None:
    """What seeds and examples do to both alike is ten times what they do to one, and is no part of the difference."""
    rng, hits, widths = np.random.default_rng(seeds), 0, []
    own = 0.02 if seeds > 1 else 0.0  # of what another seed would give, one seed says nothing
    for _ in range(1000):
        values_2S = 0.2 * rng.standard_normal(seeds) + 0.2 * rng.standard_normal()
        values_2S = values_2S + own * rng.standard_normal((2, seeds)) + 0.01 * rng.standard_normal((2, 1))
        moved_B2S = 0.2 * rng.standard_normal((100, 1, 1)) + 0.01 * rng.standard_normal((100, 2, 1))
        low, high = difference(values_2S, values_2S + moved_B2S)
        hits += low <= 0 <= high
        apart = of_mean(values_2S[0], values_2S[0] + moved_B2S[:, 0])
        widths.append((high - low) / (apart[1] - apart[0]))
    assert 0.93 - 0.015 <= hits / 1000 <= 0.97 + 0.015  # the simulation itself is known to 0.014
    assert np.median(widths) < 0.25


def test_what_is_behind_with_every_seed_alike_is_behind_and_what_wavers_is_not() -> None:
    """Leads of .10, .11, .12 (t = 19) and of .01, -.02, .03 (t = 0.5), whatever the seeds do to all alike."""
    seeds_S = np.array([0.5, 0.7, 0.6])
    values_KS = np.array([seeds_S, seeds_S - [0.10, 0.11, 0.12], seeds_S - [0.01, -0.02, 0.03]])
    assert may_be_best(values_KS).tolist() == [True, False, True]


def test_with_one_seed_and_no_examples_nothing_can_be_said() -> None:
    assert may_be_best(np.array([[0.9], [0.1]])) is None


def test_one_seed_is_judged_by_its_examples() -> None:
    noise_B11 = np.random.default_rng(0).normal(scale=0.02, size=(200, 1, 1))
    apart_BKS = np.concatenate([0.9 + noise_B11, 0.5 - noise_B11, 0.89 - noise_B11], axis=1)
    assert may_be_best(np.array([[0.9], [0.5], [0.89]]), apart_BKS).tolist() == [True, False, True]


def test_an_undefined_trial_is_not_best() -> None:
    values_KS = np.array([[np.nan, 0.9], [0.1, 0.2], [0.1, 0.3]])
    assert may_be_best(values_KS).tolist() == [False, True, True]


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_of_four_that_are_alike_each_is_kept_in_95_of_100(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    kept = np.mean([may_be_best(rng.normal(size=(4, seeds))) for _ in range(2000)], axis=0)
    assert (kept > 0.935).all()


def test_a_method_that_is_far_behind_is_told_apart_with_three_seeds() -> None:
    rng = np.random.default_rng(0)
    truth_K1 = np.array([[0.0], [-20.0]])
    behind = [not may_be_best(truth_K1 + rng.normal(size=(2, 3)))[1] for _ in range(500)]
    assert np.mean(behind) > 0.9
