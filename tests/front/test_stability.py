"""Chances to be on the true front, and to be chosen: right as often as they say, in sweeps whose truth is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from sweeper.front import noise, pareto, stability
from sweeper.front.noise import Sample, TrialFits
from sweeper.front.stability import Stability
from tests.front import sweeps
from trainables.metrics import Answers

ACCURACY = {"accuracy": "max"}
TRIALS, SWEEPS = 30, 40


def answers(right: int, of: int = 8) -> Answers:
    """Two classes, half of each; the first `right` answers are right."""
    labels_N = np.arange(of) % 2
    return Answers(labels_N, np.where(np.arange(of) < right, labels_N, 1 - labels_N), ("a", "b"))


def fits(number: int, *rights: int, of: int = 8) -> TrialFits:
    kept = tuple(answers(right, of) for right in rights)
    return TrialFits(number, np.array([[right / of] for right in rights]), kept)


def judged(*trials: TrialFits, objectives: dict[str, str] = ACCURACY) -> Stability:
    return stability.judge(noise.measure(trials, objectives), pareto.knee, draws=1000)


# --- what is drawn


def test_examples_are_drawn_for_all_trials_alike_so_one_that_is_right_wherever_another_is_never_falls_behind() -> None:
    drawn = noise.measure([fits(0, 8), fits(1, 7), fits(2, 2)], ACCURACY, resamples=500)
    assert drawn.over == "the 8 validation examples"
    assert drawn.examples_BCSM is not None
    ahead_B, second_B, last_B = drawn.examples_BCSM[:, :, 0, 0].T
    assert (ahead_B >= second_B).all()
    assert (second_B >= last_B).all()
    # The example that decides is missing from (7/8)^8 = 0.34 of the draws: there both are equal.
    assert np.mean(ahead_B == second_B) == pytest.approx(0.34, abs=0.06)


def test_a_loss_needs_probabilities_so_only_its_seeds_scatter() -> None:
    one = TrialFits(0, np.array([[0.5, 0.3], [0.5, 0.3]]), (answers(4), answers(4)))
    values_BTSM = noise.resampled([one], ("accuracy", "loss"), resamples=50)
    assert np.ptp(values_BTSM[:, 0, 0, 0]) > 0
    assert values_BTSM[:, 0, :, 1] == pytest.approx(0.3)


def test_trials_far_behind_are_not_resampled_but_for_the_one_that_is_asked_for() -> None:
    many = [TrialFits(n, np.array([[n / 100], [n / 100]])) for n in range(60)]
    first = list(range(60 - noise.CONTENDERS, 60))
    assert noise.measure(many, ACCURACY).contenders.tolist() == first
    assert noise.measure(many, ACCURACY, also=(3,)).contenders.tolist() == [3, *first]


def test_a_trial_with_an_undefined_objective_is_on_no_front() -> None:
    undefined = TrialFits(0, np.array([[math.nan], [1.0]]))
    assert judged(undefined, TrialFits(1, np.array([[0.5], [0.6]]))).on_front == {1: 1.0}
    assert judged(undefined) == Stability()


def test_with_one_seed_and_no_answers_nothing_is_claimed() -> None:
    found = judged(TrialFits(0, np.array([[1.0]])))
    assert (found.draws, found.on_front) == (0, {})
    assert "cannot be said" in found.sentence(0)


# --- intervals


def test_the_interval_of_one_seed_is_that_of_its_examples_and_called_so() -> None:
    """64 of 128: the standard error is 0.044, so 95 % are within 0.087 on either side."""
    found = judged(fits(0, 64, of=128))
    assert found.intervals[0]["accuracy"] == pytest.approx((0.5 - 0.087, 0.5 + 0.087), abs=0.02)
    assert found.over == "the 128 validation examples"
    assert "How much another seed would change is not known" in found.sentence(0)


def test_a_share_has_no_interval_beyond_what_it_can_be() -> None:
    assert judged(TrialFits(0, np.array([[0.9], [1.0]]))).intervals[0]["accuracy"][1] == 1.0


def test_without_noise_the_front_is_as_measured() -> None:
    found = judged(*(TrialFits(n, np.full((2, 1), n / 10)) for n in range(5)))
    assert found.on_front == found.chosen == {0: 0.0, 1: 0.0, 2: 0.0, 3: 0.0, 4: 1.0}
    assert found.drops[4] == {"accuracy": 0.0}


def test_programs_get_all_of_it_by_trial() -> None:
    found = Stability(
        400, "the 3 seeds", 30, 3, {7: 0.5}, {7: 0.2}, {7: {"accuracy": (0.1, 0.3)}}, {7: {"accuracy": 0.01}}
    )
    assert found.to_json() == {
        "draws": 400,
        "over": "the 3 seeds",
        "trials": 30,
        "seeds": 3,
        "seeds_of": {},
        "on_front": {"7": 0.5},
        "chosen": {"7": 0.2},
        "drops": {"7": {"accuracy": 0.01}},
        "intervals": {"7": {"accuracy": [0.1, 0.3]}},
    }


# --- calibration


def normal(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((TRIALS, 2)) @ np.array([[0.03, -0.02], [0.0, 0.03]])


def trade_off(rng: np.random.Generator) -> np.ndarray:
    return sweeps.surface(rng, TRIALS)


def some_collapsed(rng: np.random.Generator) -> np.ndarray:
    return sweeps.surface(rng, TRIALS, collapsed=0.25)


def on_the_true_front(
    truths: Callable[[np.random.Generator], np.ndarray], chances: Callable[[Sample], np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """What was said of each trial of many sweeps of three seeds, and what is true."""
    rng, said, true = np.random.default_rng(1), [], []
    for _ in range(SWEEPS):
        true_TM = truths(rng)
        said.append(chances(sweeps.measured(rng, true_TM, 3)))
        true.append(pareto.front(true_TM))
    return np.concatenate(said), np.concatenate(true)


def shrunk(drawn: Sample) -> np.ndarray:
    return np.array(list(stability.judge(drawn, pareto.knee, draws=100).on_front.values()))


def bootstrapped(drawn: Sample) -> np.ndarray:
    """What was said before: the share of resamples of the seeds."""
    rng = np.random.default_rng(0)
    draws = rng.integers(drawn.seeds, size=(100, drawn.seeds))
    return np.mean([pareto.front(drawn.values_TSM[:, seeds].mean(axis=1)) for seeds in draws], axis=0)


@pytest.mark.parametrize(("truths", "off"), [(normal, 0.1), (trade_off, 0.25), (some_collapsed, 0.25)])
def test_what_is_said_to_be_on_the_front_is_so_as_often_as_it_says(
    truths: Callable[[np.random.Generator], np.ndarray], off: float
) -> None:
    said, true = on_the_true_front(truths, shrunk)
    for low, high in ((0.0, 0.1), (0.1, 0.3), (0.3, 0.6), (0.6, 0.9), (0.9, 1.01)):
        among = (said >= low) & (said < high)
        assert abs(said[among].mean() - true[among].mean()) < off, (low, high)
    before, _ = on_the_true_front(truths, bootstrapped)
    assert np.mean((said - true) ** 2) < 0.95 * np.mean((before - true) ** 2)


@pytest.mark.parametrize("truths", [normal, trade_off, lambda rng: np.full((TRIALS, 2), 0.5)])
def test_the_drop_that_is_expected_of_the_chosen_is_that_which_comes(
    truths: Callable[[np.random.Generator], np.ndarray],
) -> None:
    """Between half and five quarters of it: what two of three seeds' luck is worth is 0.012 here."""
    rng, expected, came = np.random.default_rng(2), [], []
    for _ in range(100):
        true_TM = truths(rng)
        drawn = sweeps.measured(rng, true_TM, 3)
        points_TM = drawn.values_TSM.mean(axis=1)
        chosen = pareto.knee(points_TM)
        assert chosen is not None
        less_luck_TM, _ = noise.without_luck(points_TM, noise.own_noise(drawn))
        expected.append((points_TM - less_luck_TM)[chosen])
        came.append((points_TM - true_TM - (points_TM - true_TM).mean(axis=0))[chosen])
    assert np.mean(came) > 0.004
    assert 0.5 < np.mean(expected) / np.mean(came) < 1.25


def test_a_variance_of_few_seeds_is_drawn_towards_the_others() -> None:
    rng = np.random.default_rng(0)
    alike_T = rng.chisquare(2, 400) / 2
    variance_T, df = noise.moderated(alike_T, 2.0)
    assert np.std(variance_T) < 0.2 * np.std(alike_T)
    assert df > 10  # from 2: they are nearly one and the same
    differing_T = alike_T * np.exp(rng.normal(0, 2, 400))
    variance_T, df = noise.moderated(differing_T, 2.0)
    assert 2 < df < 4
    assert np.corrcoef(np.log(variance_T), np.log(differing_T))[0, 1] > 0.8


# --- what is said


def test_another_trial_that_is_chosen_more_often_is_named_and_why_the_point_is_named_all_the_same() -> None:
    found = Stability(
        400,
        "the 3 seeds",
        30,
        3,
        on_front={7: 0.5, 27: 0.6},
        chosen={7: 0.22, 27: 0.3},
        drops={7: {"accuracy": 0.01, "delta_f1": -0.02}},
    )
    told = found.sentence(7)
    assert "with one of 22%. #27 would be taken more often (30%). #7 is named all the same: it is what the rule" in told
    assert "next: #7 (22%)." in found.sentence(27)


def test_the_expected_drop_is_said_in_the_metrics_own_direction_and_with_its_rule() -> None:
    found = Stability(400, "the 3 seeds", 30, 3, drops={7: {"accuracy": 0.01, "delta_f1": 0.02, "loss": -0.03}})
    assert found.drop(7, "the knee: from here on").endswith(
        "Taken from 30 trials by the knee, it will on other seeds and examples probably have accuracy lower by 0.010 "
        "and delta_f1 higher by 0.020 and loss lower by 0.030."
    )
    assert found.drop(8, "the knee") == ""
    few = Stability(400, "the 3 seeds", 4, 3, drops={7: {"accuracy": 0.0, "delta_f1": -0.0001}})
    assert few.drop(7, "the knee").endswith(
        "Taken from 4 trials by the knee, it does so by less than can be told from them."
    )
