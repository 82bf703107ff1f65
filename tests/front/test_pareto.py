"""Dominance and hypervolume against brute force and against Optuna's own; laws of the knee and of stability."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from optuna._hypervolume import compute_hypervolume

from sweeper.front import pareto

nan, inf = np.nan, np.inf

# Few levels, so that ties and equal points are common.
tables = st.tuples(st.integers(0, 12), st.integers(1, 4)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.integers(0, 5).map(float))
)
filled = tables.filter(len)


def brute_front(points_TM: np.ndarray) -> list[bool]:
    return [not any(pareto.dominates(other, point) for other in points_TM) for point in points_TM]


def brute_volume(points_TM: np.ndarray) -> float:
    """Unit cells above the origin that some point covers; the points are whole numbers."""
    cells = itertools.product(range(5), repeat=points_TM.shape[1])
    return float(sum(any(all(point > cell) for point in points_TM) for cell in map(np.array, cells)))


def test_a_point_dominates_another_when_nowhere_worse_and_somewhere_better() -> None:
    assert pareto.dominates([2, 1], [1, 1])
    assert not pareto.dominates([1, 1], [1, 1])
    assert not pareto.dominates([2, 0], [1, 1])
    assert not pareto.dominates([2, nan], [1, 1])


def test_the_front_of_a_staircase_is_its_outer_corners() -> None:
    points = [[1, 3], [2, 2], [3, 1], [1, 1], [2, 1]]
    assert pareto.front(points).tolist() == [True, True, True, False, False]


def test_equal_points_are_on_the_front_together() -> None:
    assert pareto.front([[1, 1], [1, 1], [0, 1]]).tolist() == [True, True, False]
    assert pareto.front([[0.0, 1], [-0.0, 1]]).tolist() == [True, True]


def test_a_point_with_a_nan_is_on_no_front_and_pushes_nobody_off() -> None:
    assert pareto.front([[9, nan], [1, 1]]).tolist() == [False, True]
    assert pareto.front([[nan, nan]]).tolist() == [False]
    assert pareto.front(np.zeros((0, 2))).tolist() == []


def test_a_tie_width_makes_small_differences_count_as_none() -> None:
    points = [[0.9001, 1.0], [0.9, 1.0]]
    assert pareto.front(points).tolist() == [True, False]
    assert pareto.front(points, tie=0.01).tolist() == [True, True]
    with pytest.raises(ValueError, match="tie is -1"):
        pareto.front(points, tie=-1)


@pytest.mark.parametrize("points", [[1, 2], [[]], [[[1]]]])
def test_points_of_another_shape_are_refused(points: list) -> None:
    with pytest.raises(ValueError, match=r"points have shape \[T, M\]"):
        pareto.front(points)


@given(tables)
def test_the_front_is_what_brute_force_finds(points_TM: np.ndarray) -> None:
    assert pareto.front(points_TM).tolist() == brute_front(points_TM)


@given(filled, st.randoms())
def test_the_front_does_not_depend_on_the_order_of_points_or_objectives(points_TM: np.ndarray, random) -> None:
    rows, columns = list(range(points_TM.shape[0])), list(range(points_TM.shape[1]))
    random.shuffle(rows)
    random.shuffle(columns)
    assert pareto.front(points_TM[rows][:, columns]).tolist() == pareto.front(points_TM)[rows].tolist()


@given(filled)
def test_some_point_is_on_the_front_and_every_other_is_beaten_by_one_of_it(points_TM: np.ndarray) -> None:
    on_T = pareto.front(points_TM)
    assert on_T.any()
    assert all(any(pareto.dominates(best, point) for best in points_TM[on_T]) for point in points_TM[~on_T])


def test_a_front_of_two_objectives_is_found_in_less_than_quadratic_time() -> None:
    """A million points: 10^12 pairs would take an hour, sorting takes a second."""
    points_TM = np.random.default_rng(0).random((1_000_000, 2))
    began = time.perf_counter()
    assert 2 < pareto.front(points_TM).sum() < 50
    assert time.perf_counter() - began < 20


def test_the_volume_of_a_staircase_is_the_sum_of_its_steps() -> None:
    # 3 cells wide at height 1, 2 at height 2, 1 at height 3.
    assert pareto.hypervolume([[1, 3], [2, 2], [3, 1]], [0, 0]) == 6.0
    assert pareto.hypervolume([[2, 3, 4]], [0, 0, 0]) == 24.0
    assert pareto.hypervolume([[3], [5]], [1]) == 4.0


def test_points_that_are_not_above_the_reference_add_nothing() -> None:
    assert pareto.hypervolume([[1, 1], [-1, 9], [0, 5], [nan, 5]], [0, 0]) == 1.0
    assert pareto.hypervolume([[-1, -1]], [0, 0]) == 0.0
    assert pareto.hypervolume(np.zeros((0, 2)), [0, 0]) == 0.0


def test_a_reference_of_another_size_or_an_infinite_volume_is_refused() -> None:
    with pytest.raises(ValueError, match="the points have 2 objectives"):
        pareto.hypervolume([[1, 1]], [0, 0, 0])
    with pytest.raises(ValueError, match="needs finite points"):
        pareto.hypervolume([[1, inf]], [0, 0])


@given(tables)
def test_the_volume_is_the_count_of_covered_cells(points_TM: np.ndarray) -> None:
    assert pareto.hypervolume(points_TM, np.zeros(points_TM.shape[1])) == brute_volume(points_TM)


@settings(max_examples=50)
@given(st.integers(2, 5), st.integers(1, 15), st.integers(0, 2**31))
def test_the_volume_agrees_with_optunas(objectives: int, count: int, seed: int) -> None:
    points_TM = np.random.default_rng(seed).random((count, objectives))
    ours = pareto.hypervolume(points_TM, np.zeros(objectives))
    assert ours == pytest.approx(compute_hypervolume(-points_TM, np.zeros(objectives)), rel=1e-9)


@given(filled)
def test_one_more_point_never_lessens_the_volume_and_a_beaten_one_adds_none(points_TM: np.ndarray) -> None:
    origin = np.zeros(points_TM.shape[1])
    whole = pareto.hypervolume(points_TM, origin)
    assert whole >= pareto.hypervolume(points_TM[1:], origin)
    assert whole == pareto.hypervolume(points_TM[pareto.front(points_TM)], origin)


def test_the_reference_point_is_a_tenth_of_the_range_below_the_worst() -> None:
    assert pareto.reference_point([[0, 5], [10, 5], [nan, 0]]) == pytest.approx([-1.0, 4.9])
    with pytest.raises(ValueError, match="at least one finite point"):
        pareto.reference_point([[nan, 1]])


@given(filled)
def test_against_the_reference_point_every_member_of_the_front_counts(points_TM: np.ndarray) -> None:
    reference_M = pareto.reference_point(points_TM)
    front_FM = np.unique(points_TM[pareto.front(points_TM)], axis=0)
    whole = pareto.hypervolume(front_FM, reference_M)
    for row in range(len(front_FM)):
        assert pareto.hypervolume(np.delete(front_FM, row, axis=0), reference_M) < whole


def test_the_knee_is_the_point_farthest_above_the_chord() -> None:
    assert pareto.knee([[0, 10], [9, 9], [10, 0], [5, 5]]) == 1
    # Scaled sums .6 + .6 and .99 + .25: the second is farther from the chord, though not from the corner.
    assert pareto.knee([[0, 100], [60, 60], [99, 25], [100, 0]]) == 2


def test_below_the_chord_the_knee_is_the_point_nearest_the_ideal_corner() -> None:
    assert pareto.knee([[0, 10], [4, 4], [10, 0]]) == 1


def test_of_no_one_or_two_points_the_knee_is_none_the_one_or_the_first() -> None:
    assert pareto.knee(np.zeros((0, 2))) is None
    assert pareto.knee([[nan, 1]]) is None
    assert pareto.knee([[1, 1], [2, 2]]) == 1
    assert pareto.knee([[0, 1], [1, 0]]) == 0


@given(filled, st.sampled_from([0.25, 0.5, 2.0, 8.0]), st.integers(-5, 5))  # exact in binary
def test_the_knee_is_on_the_front_whatever_the_units(points_TM: np.ndarray, scale: float, shift: int) -> None:
    row = pareto.knee(points_TM)
    assert row is not None
    assert pareto.front(points_TM)[row]
    assert pareto.knee(points_TM * scale + shift) == row


def test_points_are_told_apart_to_the_last_bit() -> None:
    assert pareto.front([[1e-20], [2e-20], [-0.0], [0.0]]).tolist() == [False, True, False, False]
    assert pareto.front([[1e-20, -0.0], [1e-20, 0.0]]).tolist() == [True, True]  # zero has one value
