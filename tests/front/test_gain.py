"""What ten more trials can be expected to add, by what the last ones added in the orders that could have been."""

from __future__ import annotations

import numpy as np
import pytest

from sweeper.front import gain, pareto

REFERENCE = [0.0, 0.0]


def drawn(rng: np.random.Generator, count: int) -> np.ndarray:
    """Points below a quarter circle."""
    angle, radius = rng.uniform(0, np.pi / 2, count), rng.uniform(0, 1, count) ** 0.2
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def test_it_bounds_what_ten_more_really_add() -> None:
    promised, got = [], []
    for seed in range(40):
        points = drawn(np.random.default_rng(seed), 50)
        promised.append(gain.expected(points[:40], REFERENCE))
        got.append(pareto.hypervolume(points, REFERENCE) / pareto.hypervolume(points[:40], REFERENCE) - 1)
    assert np.mean(got) < np.mean(promised) < 4 * np.mean(got)


def test_with_few_trials_or_none_above_the_reference_nothing_is_known() -> None:
    points = drawn(np.random.default_rng(0), 30)
    assert gain.expected(points[:19], REFERENCE) == float("inf")
    assert gain.expected(points, [2.0, 2.0]) == float("inf")


def test_a_front_that_one_point_holds_promises_its_share_of_the_orders() -> None:
    points = np.full((40, 2), 0.5)
    assert gain.expected(points, REFERENCE) == pytest.approx(0)
    points[3] = 1.0  # it is among the last ten of a quarter of the orders, and is three quarters of the volume
    assert gain.expected(points, REFERENCE) == pytest.approx(0.75 / 4, abs=0.1)


def test_a_sampler_that_has_just_got_better_goes_on() -> None:
    points = np.full((40, 2), 0.5)
    points[-1] = 1.0
    assert gain.expected(points, REFERENCE) == pytest.approx(0.75)


def test_trials_without_numbers_are_trials_that_added_nothing() -> None:
    points = drawn(np.random.default_rng(0), 25)
    among = np.concatenate([points, np.full((25, 2), np.nan)])
    assert gain.expected(among, REFERENCE) < gain.expected(points, REFERENCE)
