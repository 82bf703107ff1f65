"""Pareto dominance, hypervolume and knee: pure numpy, no I/O.

Greater is better in every column: multiply a column that is to be minimised by -1 first.
Shapes: T points (trials), M objectives. A point with a nan beats nothing and is on no front.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trainables.arrays import Floats, Mask


def dominates(a_M: npt.ArrayLike, b_M: npt.ArrayLike) -> bool:
    """Whether a is nowhere worse than b and somewhere better. Equal points do not dominate each other."""
    a, b = np.asarray(a_M, dtype=np.float64), np.asarray(b_M, dtype=np.float64)
    return bool(np.all(a >= b) and np.any(a > b))


def front(points_TM: npt.ArrayLike, *, tie: float = 0.0) -> Mask:
    """Mask [T] of the points that no other dominates. Equal points are on the front together.

    `tie`, in the objectives' own units: values are rounded to multiples of it before they are compared.
    O(T log T) for one or two objectives, O(T x front) for more.
    """
    if tie < 0:
        raise ValueError(f"tie is {tie}. Use 0 or more.")
    points_TM = _table(points_TM) + 0.0  # + 0.0: -0.0 and 0.0 are one value
    if tie > 0:
        points_TM = np.round(points_TM / tie)
    on_T: Mask = np.asarray(~np.isnan(points_TM).any(axis=1), dtype=np.bool_)
    rows = np.flatnonzero(on_T)
    if len(rows):
        distinct_UM, inverse_R = np.unique(points_TM[rows], axis=0, return_inverse=True)
        find = _front_flat if points_TM.shape[1] <= 2 else _front_general
        on_T[rows] = find(distinct_UM[::-1])[::-1][inverse_R.reshape(-1)]
    return on_T


def _front_flat(points_TM: Floats) -> Mask:
    """One or two objectives; the points are distinct, the best first objective first."""
    last_T = points_TM[:, -1]
    best_before_T = np.concatenate([[-np.inf], np.maximum.accumulate(last_T)[:-1]])
    on_T: Mask = last_T > best_before_T
    on_T[0] = True
    return on_T


def _front_general(points_TM: Floats) -> Mask:
    """Any number of objectives; the points are distinct, in falling order, so none dominates an earlier one."""
    on_T = np.zeros(len(points_TM), dtype=np.bool_)
    for index, point_M in enumerate(points_TM):
        on_T[index] = not (points_TM[on_T] >= point_M).all(axis=1).any()
    return on_T


def hypervolume(points_TM: npt.ArrayLike, reference_M: npt.ArrayLike) -> float:
    """The volume that the points dominate above the reference point, exact for any number of objectives.

    A point that is not better than the reference everywhere adds nothing; nor does one with a nan.

    Raises:
        ValueError: points and reference differ in their number of objectives, or a value is infinite.
    """
    points_TM, reference = _table(points_TM), np.asarray(reference_M, dtype=np.float64)
    if reference.shape != (points_TM.shape[1],):
        raise ValueError(f"the reference has shape {reference.shape}, the points have {points_TM.shape[1]} objectives.")
    inside_TM = points_TM[(points_TM > reference).all(axis=1)] - reference
    if np.isinf(inside_TM).any():
        raise ValueError("a hypervolume needs finite points and a finite reference.")
    return _volume(inside_TM[front(inside_TM)])


def _volume(points_TM: Floats) -> float:
    """Above the origin. One or two objectives directly; more by slicing along the last one."""
    if len(points_TM) == 0:
        return 0.0
    if points_TM.shape[1] == 1:
        return float(points_TM.max())
    if points_TM.shape[1] == 2:
        x_T, y_T = points_TM[np.lexsort((points_TM[:, 1], -points_TM[:, 0]))].T
        return float(np.sum(x_T * np.diff(np.maximum.accumulate(y_T), prepend=0.0)))
    points_TM = points_TM[np.argsort(-points_TM[:, -1])]
    heights_T = -np.diff(points_TM[:, -1], append=0.0)
    slices = (points_TM[: end + 1, :-1] for end in range(len(points_TM)))
    return float(sum(h * _volume(base[front(base)]) for h, base in zip(heights_T, slices, strict=True) if h > 0))


def reference_point(points_TM: npt.ArrayLike, *, margin: float = 0.1) -> Floats:
    """A reference [M] for points whose worst values are not known beforehand, such as those of several sweeps.

    It is the worst value of each objective, moved away by `margin` of that objective's range (by `margin` itself
    where all are equal), so that the extreme points add volume too.
    """
    points_TM = _table(points_TM)
    points_TM = points_TM[np.isfinite(points_TM).all(axis=1)]
    if len(points_TM) == 0:
        raise ValueError("a reference point needs at least one finite point.")
    span_M = np.ptp(points_TM, axis=0)
    reference_M: Floats = points_TM.min(axis=0) - margin * np.where(span_M > 0, span_M, 1.0)
    return reference_M


def knee(points_TM: npt.ArrayLike) -> int | None:
    """The row of the front's knee: where giving up more of one objective no longer buys much of another.

    Each objective of the front is scaled to [0, 1]. The chord joins the extremes: with M objectives, it is the plane
    where the scaled values sum to 1. The knee is the point farthest above it. Where none is above, as with two
    points, it is the point nearest the ideal corner (1, ..., 1). The earlier row on a tie; None without a point.
    """
    points_TM = _table(points_TM)
    rows = np.flatnonzero(front(points_TM) & np.isfinite(points_TM).all(axis=1))
    if len(rows) == 0:
        return None
    low_M, span_M = points_TM[rows].min(axis=0), np.ptp(points_TM[rows], axis=0)
    scaled_RM = np.where(span_M > 0, (points_TM[rows] - low_M) / np.where(span_M > 0, span_M, 1.0), 1.0)
    above_R = np.round(scaled_RM.sum(axis=1) - 1, 12)
    nearness_R = -np.round(np.linalg.norm(1 - scaled_RM, axis=1), 12)
    return int(rows[np.argmax(above_R if (above_R > 0).any() else nearness_R)])


def _table(points_TM: npt.ArrayLike) -> Floats:
    table_TM = np.asarray(points_TM, dtype=np.float64)
    if table_TM.ndim != 2 or table_TM.shape[1] == 0:
        raise ValueError(f"points have shape [T, M] with M at least 1; got {list(table_TM.shape)}.")
    return table_TM
