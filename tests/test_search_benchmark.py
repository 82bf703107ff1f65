"""The judge of searches: its surfaces answer the same whenever they are asked, and what it says is true is true."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.search import arms, ours, shown
from benchmarks.search.surfaces import EPOCHS, Surface, surfaces
from sweeper.front import pareto

SURFACES = {name: make() for name, make in surfaces().items() if name in ("cliff", "digits", "digits-demo")}
pytestmark = pytest.mark.parametrize("surface", SURFACES.values(), ids=list(SURFACES))


def somewhere(surface: Surface, share: float = 0.4) -> dict:
    return surface.params(dict.fromkeys(surface.axes, share))


def test_a_fit_is_the_same_whenever_it_is_asked_and_the_mean_of_many_is_the_truth(surface: Surface) -> None:
    params = somewhere(surface)
    assert (surface.curve(params, 3, world=1) == surface.curve(dict(params), 3, world=1)).all()
    assert surface.curve(params, 0, world=0).shape == (EPOCHS, 2)
    many = np.array([surface.fit(params, seed, world=0) for seed in range(300)])
    error = many.std(axis=0) / math.sqrt(len(many))
    assert (np.abs(many.mean(axis=0) - surface.truth(params)) < 4 * error).all()


def test_nothing_in_the_space_beats_the_true_front(surface: Surface) -> None:
    rng = np.random.default_rng(0)
    front = surface.true_front
    best = pareto.hypervolume(front, surface.reference)
    draws = [surface.params(dict(zip(surface.axes, rng.random(len(surface.axes)), strict=True))) for _ in range(100)]
    truth = np.array([surface.truth(params) for params in draws]) * [1, -1]
    with_them = pareto.hypervolume(np.concatenate([front, truth]), surface.reference)
    assert best <= with_them < 1.01 * best


def test_ours_and_a_plain_arm_spend_the_budget_and_are_scored_by_the_truth(surface: Surface) -> None:
    own = ours.show(surface, {"sampler": "random", "seeds": 2}, fits=12, world=0, slots=4)
    assert (len(own.tried), own.epochs) == (6, 12 * EPOCHS)
    other = arms.after(arms.search(surface, "random", 2, 12, world=0, slots=4), 6 * EPOCHS)
    assert len(other.tried) == 3
    scored = shown.score(surface, shown.Shown(own.tried, range(6), [], own.epochs))
    truth = np.array([surface.truth(params) for params in own.tried]) * [1, -1]
    assert scored.false == pytest.approx(1 - pareto.front(truth).mean())
    assert math.isnan(scored.false_sure)
    assert 0 <= scored.volume <= 1.001
