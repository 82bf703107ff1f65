"""How many trials successive halving lets live, and whom it loses: made-up sweeps whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from sweeper.front import pareto
from sweeper.front.halving import Halving

SIGNS = {"accuracy": 1.0, "delta_f1": -1.0}
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
