"""What an arm has to show after some epochs, and how true that is.

Shapes: T points that were tried.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.search.surfaces import SIGNS, Surface
from sweeper.front import pareto

Params = Mapping[str, Any]


@dataclass(frozen=True)
class Shown:
    """What was `tried`, and which rows of that are shown as the front, and as surely on it."""

    tried: Sequence[Params]
    front: Sequence[int]
    sure: Sequence[int]
    epochs: int


@dataclass(frozen=True)
class Score:
    """`volume`: true hypervolume of what is shown as the front, as a share of the space's own front's.

    `false`: the share of the shown front that another tried point truly beats; `false_sure` of what is shown as sure
    (nan where nothing is). `sure`: how many are. `front`: how many are shown.
    """

    volume: float
    false: float
    false_sure: float
    front: int
    sure: int
    tried: int


def measured_front(tried: Sequence[Params], values: np.ndarray, epochs: int) -> Shown:
    """What an arm shows that believes its measured `values` `[T, 2]`: their front, and all of it as the truth."""
    rows = np.flatnonzero(pareto.front(values * SIGNS)).tolist() if len(tried) else []
    return Shown(tried, rows, rows, epochs)


def score(surface: Surface, shown: Shown) -> Score:
    """How true it is."""
    best = pareto.hypervolume(surface.true_front, surface.reference)
    if not shown.tried:
        return Score(0.0, np.nan, np.nan, 0, 0, 0)
    truth = np.array([surface.truth(params) for params in shown.tried]) * SIGNS
    on = pareto.front(truth)
    front, sure = list(shown.front), list(shown.sure)
    volume = pareto.hypervolume(truth[front], surface.reference) / best if front else 0.0
    return Score(volume, _false(on, front), _false(on, sure), len(front), len(sure), len(shown.tried))


def _false(on: np.ndarray, rows: Sequence[int]) -> float:
    return float(np.mean(~on[list(rows)])) if rows else np.nan
