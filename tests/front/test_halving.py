"""Successive halving: whom it ends, by hand; whom it loses, in made-up sweeps whose truth is known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.front import pareto
from sweeper.front.halving import Halving

SIGNS = {"accuracy": 1.0, "delta_f1": -1.0}


def seen(*points: tuple[float, float], factor: int = 3) -> Halving:
    """Trials 0, 1, ... after the second of their twelve epochs."""
    rule = Halving(2, factor, SIGNS)
    for number, (accuracy, delta) in enumerate(points):
        rule.note(number, 12, 2, {"accuracy": accuracy, "delta_f1": delta})
    return rule


def test_comparisons_come_after_ever_more_epochs_and_never_at_the_end() -> None:
    assert Halving(2, 3, SIGNS).rungs(20) == (2, 6, 18)
    assert Halving(2, 3, SIGNS).rungs(18) == (2, 6)
    assert Halving(4, 2, SIGNS).rungs(4) == ()


def test_the_last_of_three_ends_and_one_that_is_beaten_in_one_objective_only_does_not() -> None:
    assert seen((0.9, 0.1), (0.8, 0.2), (0.7, 0.3)).stops(2, 12, 2)
    assert not seen((0.9, 0.1), (0.8, 0.2), (0.7, 0.05)).stops(2, 12, 2)


def test_fewer_than_a_factor_of_fits_are_not_compared() -> None:
    assert not seen((0.9, 0.1), (0.7, 0.3)).stops(1, 12, 2)
    assert seen((0.9, 0.1), (0.7, 0.3), factor=2).stops(1, 12, 2)


def test_trials_that_came_later_other_epochs_and_trials_of_other_lengths_do_not_count() -> None:
    rule = seen((0.5, 0.5), (0.9, 0.1), (0.9, 0.1))
    assert not rule.stops(0, 12, 2)
    rule.note(9, 4, 2, {"accuracy": 0.1, "delta_f1": 0.9})
    rule.note(9, 12, 6, {"accuracy": 0.1, "delta_f1": 0.9})
    assert not rule.stops(9, 4, 2)
    assert not rule.stops(9, 12, 6)


@pytest.mark.parametrize("own", [(math.nan, 0.1), (0.1, math.nan)])
def test_an_undefined_objective_decides_nothing(own: tuple[float, float]) -> None:
    assert not seen((0.9, 0.1), (0.8, 0.2), (0.7, 0.3), own).stops(3, 12, 2)
    assert seen((0.9, 0.1), own, (0.8, 0.2), (0.7, 0.3)).stops(3, 12, 2)


POINT = st.tuples(*[st.integers(0, 5).map(lambda n: n / 5)] * 2)


@given(st.lists(POINT, min_size=1, max_size=14), st.integers(2, 4))
def test_a_trial_ends_where_whole_fronts_before_its_own_hold_the_better_share(
    points: list[tuple[float, float]], factor: int
) -> None:
    left, own, better = [(accuracy, -delta) for accuracy, delta in points], (points[-1][0], -points[-1][1]), 0
    while own not in (on := [p for p in left if not any(pareto.dominates(q, p) for q in left)]):
        better += len(on)
        left = [point for point in left if point not in on]
    ends = len(points) >= factor and better >= len(points) / factor
    assert seen(*points, factor=factor).stops(len(points) - 1, 12, 2) == ends


def test_several_fronts_together_make_up_the_better_share() -> None:
    """Six trials, each better than the next in both: three are the better half, each a front of its own."""
    chain = [(0.9 - 0.1 * place, 0.1 * place) for place in range(6)]
    for place, ends in enumerate([False, False, False, True, True, True]):
        others = chain[:place] + chain[place + 1 :]
        assert seen(*others, chain[place], factor=2).stops(5, 12, 2) == ends


# --- over many sweeps

EPOCHS, TRIALS, SWEEPS = 9, 36, 40


@dataclass(frozen=True)
class Fate:
    """Shares, over the sweeps: of the trials that lived, and of the true front that did."""

    lived: float
    front_lived: float


def fate(seeds: int, *, each_seed_decides: bool = False) -> Fate:
    """Compared after the first and the third of nine epochs; seeds scatter by as much as the trials differ."""
    rng = np.random.default_rng(0)
    lived, front_lived = [], []
    for _ in range(SWEEPS):
        true_TM = rng.normal(0, 0.02, (TRIALS, 2))
        rules = [Halving(1, 3, SIGNS) for _ in range(seeds if each_seed_decides else 1)]
        alive_T = np.ones(TRIALS, dtype=bool)
        for number in range(TRIALS):
            noise_SM = rng.normal(0, 0.02, (seeds, 2))
            for rule, noise_M in zip(rules, noise_SM, strict=False):
                for epoch in rule.rungs(EPOCHS):
                    if alive_T[number]:
                        accuracy, less_delta = true_TM[number] + noise_M
                        rule.note(number, EPOCHS, epoch, {"accuracy": accuracy, "delta_f1": -less_delta})
                        alive_T[number] = not rule.stops(number, EPOCHS, epoch)
        lived.append(alive_T.mean())
        front_lived.append(alive_T[pareto.front(true_TM)].mean())
    return Fate(float(np.mean(lived)), float(np.mean(front_lived)))


@pytest.mark.parametrize("seeds", [2, 5])
def test_with_more_seeds_as_many_live_and_the_true_front_is_lost_no_more_often(seeds: int) -> None:
    """The standard error of either share is about 0.01 over the trials, 0.03 over the fronts."""
    one, several = fate(1), fate(seeds)
    assert several.lived == pytest.approx(one.lived, abs=0.04)
    assert several.front_lived >= one.front_lived - 0.08


def test_if_each_seed_decided_fewer_would_live_and_more_of_the_true_front_be_lost() -> None:
    one, strict = fate(1), fate(3, each_seed_decides=True)
    assert strict.lived < 0.75 * one.lived
    assert strict.front_lived < one.front_lived - 0.1
