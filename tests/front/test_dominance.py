"""Which trials dominate a baseline: seldom said where nothing differs, said where it is so and can be seen."""

from __future__ import annotations

import numpy as np
import pytest

from sweeper.front import dominance, pareto
from sweeper.trial import State, Trial
from tests.front import sweeps

SWEEPS, TRIALS = 300, 25


def claims(
    true_TM: np.ndarray, seeds: int, *, truly: set[int] = frozenset(), tuned: int = 1, **noise: object
) -> tuple[float, float]:
    """The share of sweeps with a false claim, and of true dominances that were claimed.

    The first `tuned` trials are the baseline's; the knee of these is compared.
    """
    rng, false, seen = np.random.default_rng(seeds), 0, []
    for _ in range(SWEEPS):
        drawn = sweeps.measured(rng, true_TM, seeds, **noise)
        points_TM = drawn.values_TSM.mean(axis=1)
        members = np.flatnonzero(pareto.front(points_TM)).tolist()
        base = pareto.knee(points_TM[:tuned])
        chances = dominance.luck(drawn, base, [n for n in members if n >= tuned], own=range(tuned))
        sure = {n for n, luck in chances.items() if luck < dominance.SURE}
        false += bool(sure - truly)
        seen += [n in sure for n in truly & set(members)]
    return false / SWEEPS, float(np.mean(seen)) if seen else 0.0


ALIKE = np.full((TRIALS, 2), 0.8)


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("examples", [0.0, 0.02])
def test_where_nothing_differs_hardly_a_sweep_says_that_a_trial_dominates(seeds: int, examples: float) -> None:
    assert claims(ALIKE, seeds, examples=examples)[0] < 0.05


@pytest.mark.parametrize("one_sided", [False, True])
def test_nor_where_the_baseline_is_the_best_of_five(one_sided: bool) -> None:
    """With and without an objective in which all others are far better, so that the other bears all of the doubt."""
    better = ALIKE.copy()
    better[5:, 0] += 1.0 if one_sided else 0.0
    assert claims(better, 3, tuned=5)[0] < 0.05


def test_a_lead_over_the_best_of_five_is_seen() -> None:
    better = ALIKE.copy()
    better[5] += 7 * sweeps.NOISE * (2 / 3) ** 0.5
    false, seen = claims(better, 3, truly={5}, tuned=5)
    assert false < 0.05
    assert seen > 0.7


def test_what_was_said_before_is_found_in_most_sweeps_where_nothing_differs() -> None:
    rng, found = np.random.default_rng(0), 0
    for _ in range(SWEEPS):
        points_TM = sweeps.measured(rng, ALIKE, 3).values_TSM.mean(axis=1)
        found += any(pareto.dominates(point_M, points_TM[0]) for point_M in points_TM[1:])
    assert found / SWEEPS > 0.7


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_nor_where_every_trial_is_far_better_in_one_objective_and_alike_in_the_other(seeds: int) -> None:
    """The hardest case: one objective alone must bear all of the doubt. Known to 0.025 from 300 sweeps."""
    better = ALIKE.copy()
    better[1:, 0] += 1.0
    assert claims(better, seeds)[0] < 0.05 + 0.025


def test_nor_where_trials_are_of_very_different_noise() -> None:
    """From a third to three times the usual; the other objective is far better, so that one bears all the doubt."""
    better = ALIKE.copy()
    better[1:, 0] += 1.0
    noise_T = sweeps.NOISE * np.exp(np.linspace(-1.1, 1.1, TRIALS))
    assert claims(better, 3, noise_T=np.roll(noise_T, TRIALS // 2))[0] < 0.05 + 0.025


@pytest.mark.parametrize(("lead", "least"), [(5.0, 0.55), (7.0, 0.9)])
def test_a_lead_of_some_standard_errors_in_both_objectives_is_seen(lead: float, least: float) -> None:
    """Three seeds; a lead is counted in standard errors of a difference, 0.02 * sqrt(2 / 3) = 0.0163."""
    better = ALIKE.copy()
    better[1] += lead * sweeps.NOISE * (2 / 3) ** 0.5
    false, seen = claims(better, 3, truly={1})
    assert false < 0.05
    assert seen > least


def test_with_one_seed_nothing_is_sure() -> None:
    drawn = sweeps.measured(np.random.default_rng(0), np.array([[0.5, 0.5], [0.9, 0.9]]), 1)
    assert dominance.luck(drawn, 0, [0, 1]) == {1: 1.0}


def test_a_trial_that_is_behind_somewhere_is_not_asked_about() -> None:
    drawn = sweeps.measured(np.random.default_rng(0), np.array([[0.5, 0.5], [0.9, 0.1]]), 3)
    assert dominance.luck(drawn, 0, [0, 1]) == {}
    assert dominance.luck(drawn, 7, [0, 1]) == {}


# --- what is said


def told(points: list[tuple[float, float]], seeds: int, luck_free: bool = False, tuned: int = 1) -> str:
    """Of a sweep whose first `tuned` trials are LoRA's; `luck_free`: all seeds give nearly the same."""
    noise = sweeps.NOISE / 1000 if luck_free else sweeps.NOISE
    drawn = sweeps.measured(np.random.default_rng(0), np.array(points), seeds, noise_T=noise)
    means_TM = drawn.values_TSM.mean(axis=1)
    trials = [
        Trial(n, State.COMPLETE, {"method": "lora" if n < tuned else "fairlora"},
              values=dict(zip(sweeps.OBJECTIVES, map(float, mean_M), strict=True)),
              baseline="lora" if n < tuned else None)
        for n, mean_M in enumerate(means_TM)
    ]  # fmt: skip
    return dominance.sentence(trials, np.flatnonzero(pareto.front(means_TM)).tolist(), drawn)


def test_a_real_lead_is_said_with_how_seldom_luck_gives_it() -> None:
    text = told([(0.5, 0.5), (0.6, 0.7), (0.7, 0.6), (0.4, 0.4)], 3, luck_free=True)
    assert text.startswith("2 of 2 front members dominate plain lora (accuracy 0.")
    assert "luck gives such leads in less than 0.1% of sweeps at most" in text
    assert text.endswith("(paired by the 3 seeds, corrected for the 3 trials that were compared).")


def test_the_best_of_a_tuned_baseline_by_the_rule_is_compared_and_its_other_trials_are_not() -> None:
    """Its front is (.55, .2), (.5, .5), (.2, .9); the knee is the second, and the third is on the sweep's front too."""
    points = [(0.2, 0.1), (0.55, 0.2), (0.2, 0.9), (0.5, 0.5), (0.6, 0.7), (0.7, 0.6), (0.4, 0.4)]
    text = told(points, 3, luck_free=True, tuned=4)
    assert text.startswith("2 of 3 front members dominate tuned lora (#3, the best of its 4 trials by the knee: ")
    assert text.endswith("(paired by the 3 seeds, corrected for the 3 trials that were compared).")


def test_a_lead_that_may_be_luck_is_said_to_be_one() -> None:
    text = told([(0.5, 0.5), (0.51, 0.51), (0.4, 0.4), (0.4, 0.4)], 3)
    assert "look better than plain lora" in text
    assert "none of them surely: luck gives a lead like that of #1 fairlora in up to " in text


def test_with_one_seed_a_lead_is_said_to_be_of_unknown_worth() -> None:
    assert told([(0.5, 0.5), (0.9, 0.9)], 1).endswith("with one seed it cannot be said whether that is luck.")


def test_a_front_that_only_goes_beyond_the_baseline_and_a_sweep_without_one_are_told_so() -> None:
    text = told([(0.5, 0.5), (0.9, 0.1)], 3)
    assert text.startswith("No front member is better than plain lora (accuracy")
    assert text.endswith(" in everything; members that trade one objective for another: 1.")
    drawn = sweeps.measured(np.random.default_rng(0), ALIKE, 3)
    assert dominance.sentence([], [], drawn) == "No finished 'lora' baseline to compare with."
