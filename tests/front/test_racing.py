"""Which trial gets the next seed, and how sure a race is of its front."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sweeper.front import noise, pareto, racing
from sweeper.front.noise import Sample
from sweeper.front.racing import Entrants
from tests.front import sweeps


def entered(values_TSM: np.ndarray, violations: float = -1.0, **more: object) -> Entrants:
    bounds_TSK = np.where(np.isnan(values_TSM[..., :1]), math.nan, violations)
    return Entrants(tuple(range(len(values_TSM))), values_TSM, bounds_TSK[..., :0], **more)  # type: ignore[arg-type]


def lacking(values_TSM: np.ndarray, seeds_T: list[int]) -> np.ndarray:
    """Only the first `seeds_T` seeds of each trial."""
    has_TS = np.arange(values_TSM.shape[1]) < np.array(seeds_T)[:, None]
    return np.where(has_TS[..., None], values_TSM, math.nan)


def test_what_a_seed_does_to_all_is_taken_out_though_trials_have_different_seeds() -> None:
    effect_S, true_T = np.array([0.2, 0.0, -0.1]), np.arange(5) / 10
    exact_TSM = lacking((true_T[:, None] + effect_S)[..., None], [1, 1, 3, 2, 3])
    found = Sample({"accuracy": "max"}, tuple(range(5)), exact_TSM, np.arange(5), None)
    assert np.diff(found.points_TM[:, 0]) == pytest.approx(
        np.diff(true_T)
    )  # by raw means the first ones would be ahead
    assert np.nanmean(exact_TSM, axis=1)[1] > np.nanmean(exact_TSM, axis=1)[2]
    _, left_TSM = noise.seed_effects(exact_TSM)
    assert np.nanmax(np.abs(left_TSM)) == pytest.approx(0, abs=1e-12)


def test_the_noise_of_a_seed_is_estimated_alike_from_whole_and_from_uneven_trials() -> None:
    rng, errors = np.random.default_rng(0), []
    for _ in range(200):
        drawn = sweeps.measured(rng, sweeps.surface(rng, 20), 4)
        variance_TM, _ = noise.seed_variances(lacking(drawn.values_TSM, [1] * 10 + [2] * 5 + [4] * 5))
        errors.append(variance_TM.mean() / sweeps.NOISE**2)
    assert np.mean(errors) == pytest.approx(1, abs=0.06)


def test_the_next_seed_goes_where_it_decides() -> None:
    rng = np.random.default_rng(0)
    far_T = np.array([[0.9, 0.9], [0.89, 0.905], [0.5, 0.5], [0.4, 0.4], [0.3, 0.5], [0.2, 0.3]])
    values_TSM = lacking(far_T[:, None] + 0.01 * rng.standard_normal((6, 5, 2)), [2, 2, 2, 2, 1, 1])
    assert racing.next_seed(entered(values_TSM)) in (0, 1)
    assert racing.next_seed(entered(values_TSM, closed={0})) == 1
    assert racing.next_seed(entered(values_TSM, closed={0, 1})) is None  # of the others more seeds decide nothing
    many_TSM = far_T[:, None] + 1e-4 * rng.standard_normal((6, 5, 2))
    assert racing.next_seed(entered(lacking(many_TSM, [5, 5, 2, 2, 2, 2]))) is None  # it is decided
    baseline = entered(lacking(many_TSM, [5, 5, 2, 2, 2, 2]), compared={3})
    assert racing.next_seed(baseline) == 3  # the front is compared with it, seed by seed


def test_nothing_is_raced_before_there_is_a_field_and_then_who_looks_good_shows_the_noise() -> None:
    values_TSM = np.array([[[0.9, 0.1]], [[0.1, 0.9]], [[0.2, 0.2]], [[0.1, 0.1]]])
    assert racing.next_seed(entered(values_TSM[:3])) is None
    assert racing.chances(entered(values_TSM)) is None
    assert racing.next_seed(entered(values_TSM)) == 0
    assert racing.next_seed(entered(values_TSM, closed={0})) == 1


def test_a_trial_that_breaks_a_bound_is_not_raced() -> None:
    rng = np.random.default_rng(0)
    values_TSM = np.array([[0.9, 0.9], [0.6, 0.5], [0.5, 0.6], [0.4, 0.4]])[:, None] + 0.05 * rng.standard_normal(
        (4, 3, 2)
    )
    broken_TSK = np.full((4, 3, 1), -1.0)
    broken_TSK[0] = 0.5 + 0.01 * rng.standard_normal((3, 1))
    chance_T = racing.chances(Entrants((0, 1, 2, 3), values_TSM, broken_TSK))
    assert chance_T is not None
    assert chance_T[0] == 0
    assert min(chance_T[1:3]) > 0.5  # without the bound nothing of them would be left


@pytest.mark.slow
def test_of_what_a_race_calls_sure_few_are_not_on_the_true_front() -> None:
    """100 sweeps of 30 trials; as many fits as two seeds for each."""
    rng, said, true = np.random.default_rng(3), [], []
    for _ in range(100):
        true_TM = sweeps.surface(rng, 30)
        whole_TSM = sweeps.measured(rng, true_TM, 5).values_TSM
        seeds_T = [1] * 30
        for fit in range(30):
            closed = {t for t, seeds in enumerate(seeds_T) if seeds == 5}
            values_TSM = lacking(whole_TSM, seeds_T)[:, : max(seeds_T)]
            number = racing.next_seed(entered(values_TSM, closed=closed), seed=fit)
            if number is None:
                break
            seeds_T[number] += 1
        chance_T = racing.chances(entered(lacking(whole_TSM, seeds_T)))
        assert chance_T is not None
        said.append((chance_T >= 0.95) & (np.array(seeds_T) >= 3))
        true.append(pareto.front(true_TM))
    sure, right = np.concatenate(said), np.concatenate(true)
    assert sure.sum() > 50
    assert right[sure].mean() > 0.85
