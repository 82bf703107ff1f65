"""Trials as points of numbers, and the Pareto front of trials.

Shapes: T trials, M objectives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sweeper.front import pareto
from sweeper.trial import Trial
from trainables.arrays import Floats

Senses = Mapping[str, str]  # objective: "max" or "min"


def signs(objectives: Senses) -> Floats:
    """[M]: +1 for an objective to maximise, -1 for one to minimise."""
    return np.array([1.0 if sense == "max" else -1.0 for sense in objectives.values()])


def points(trials: Sequence[Trial], objectives: Senses) -> Floats:
    """The trials' objectives (or other metrics) [T, M], turned so that greater is better."""
    rows = [[trial.value(name) for name in objectives] for trial in trials]
    values_TM = np.array(rows, dtype=np.float64)
    points_TM: Floats = values_TM.reshape(len(trials), len(objectives)) * signs(objectives)
    return points_TM


def front(trials: Sequence[Trial], objectives: Senses) -> list[int]:
    """The numbers of the trials on the Pareto front."""
    able = [trial for trial in trials if trial.able]
    if not able:
        return []
    return [t.number for t, on in zip(able, pareto.front(points(able, objectives)), strict=True) if on]


class Frontier:
    """The front of trials that end one after the other.

    A dominated trial stays dominated, so only the last front's members and the trials that have ended since are
    compared; all of them, where one's numbers have changed because it got more seeds. Any thread may ask.
    """

    def __init__(self, objectives: Senses) -> None:
        self._objectives = objectives
        # The trials that were compared, with their numbers, and their front.
        self._last = frozenset[tuple[int, tuple[float, ...]]](), frozenset[int]()

    def of(self, trials: Sequence[Trial]) -> list[int]:
        """The numbers of the trials on the front among `trials`."""
        seen, members = self._last
        able = {(t.number, tuple(t.values.values())): t for t in trials if t.able}
        known = seen if seen <= able.keys() else frozenset()  # else another thread compared later ones
        candidates = [t for key, t in able.items() if t.number in members or key not in known]
        numbers = front(candidates, self._objectives)
        self._last = frozenset(able), frozenset(numbers)
        return numbers
