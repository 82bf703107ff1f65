"""Trials as points of numbers, and the Pareto front of trials.

Shapes: T trials, M objectives.
"""

from __future__ import annotations

import itertools
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

    A dominated trial stays dominated, so only the front of the first trials, which had all ended, and those after them
    are compared; all of them, where one's numbers have changed because it got more seeds. Any thread may ask.
    """

    def __init__(self, objectives: Senses) -> None:
        self._objectives = objectives
        self._last: tuple[list[Trial], list[Trial]] = [], []  # the first trials, all of which had ended; their front

    def of(self, trials: Sequence[Trial]) -> list[int]:
        """The numbers of the trials on the front among `trials`."""
        trials = list(trials)
        ended, members = self._last
        if trials[: len(ended)] != ended:  # or another thread compared later ones; the same objects are equal at once
            ended, members = [], []
        rest = trials[len(ended) :]
        new = list(itertools.takewhile(lambda trial: trial.state.finished, rest))
        if new:
            members = self._among([*members, *new])
            self._last = trials[: len(ended) + len(new)], members
        return [trial.number for trial in self._among([*members, *rest[len(new) :]])]

    def _among(self, trials: Sequence[Trial]) -> list[Trial]:
        on = set(front(trials, self._objectives))
        return [trial for trial in trials if trial.number in on]
