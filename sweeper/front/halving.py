"""Which trials are trained further: asynchronous successive halving, for several objectives at once.

A trial is judged after `first` epochs of its first seed's fit, after `factor` times as many, and so on (the rungs). It
goes on if it belongs to the better 1/`factor` of the trials at that rung. These are counted by fronts: the Pareto
front, then the front of the rest, until there are enough; no front is cut in two.

One seed decides for all. If each seed's fit had to win by itself, a trial of three seeds would have three chances of
bad luck at every rung, and far fewer than 1/`factor` would survive.

Only trials with the same number of epochs are compared. The learning rate falls over a whole fit: after four epochs a
fit of four is at its best, and one of twelve has hardly begun to settle.

Li et al., A System for Massively Parallel Hyperparameter Tuning, 2020; with the fronts of Deb et al., NSGA-II, 2002.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from sweeper.front import pareto
from sweeper.trial import Trial
from trainables.undefined import to_nan


class Halving:
    """The rule, and the points it knows. `signs` says of each objective whether more (+1) or less (-1) is better.

    A trial is compared with trials of lower numbers only. So, when fits run one at a time, an interruption changes no
    decision.
    """

    def __init__(self, first: int, factor: int, signs: Mapping[str, float]) -> None:
        self._first, self._factor, self._signs = first, factor, signs
        self._seen: dict[tuple[int, int], dict[int, list[float]]] = {}  # (all epochs, epoch): points by trial

    def rungs(self, epochs: int) -> tuple[int, ...]:
        """The epochs after which a fit of `epochs` is judged; never its last."""
        rungs = []
        rung = self._first
        while rung < epochs:
            rungs.append(rung)
            rung *= self._factor
        return tuple(rungs)

    def note(self, number: int, epochs: int, epoch: int, values: Mapping[str, float | None]) -> None:
        """Remember the metrics of trial `number` after `epoch` of its `epochs` epochs; undefined is None or nan."""
        known = to_nan(values)
        point = [sign * known.get(name, math.nan) for name, sign in self._signs.items()]
        self._seen.setdefault((epochs, epoch), {})[number] = point

    def told(self, trial: Trial) -> None:
        """Nothing: trials are compared at their rungs alone."""

    def stops(self, number: int, epochs: int, epoch: int) -> bool:
        """Whether a noted trial ends here, because enough others are better. Undefined objectives stop nothing."""
        seen = self._seen.get((epochs, epoch), {})
        points = [point for other, point in seen.items() if other < number and not np.isnan(point).any()]
        own = seen.get(number)
        if own is None or np.isnan(own).any() or len(points) + 1 < self._factor:
            return False
        return not _among_the_better([*points, own], math.ceil((len(points) + 1) / self._factor))


def _among_the_better(points_TM: Sequence[Sequence[float]], enough: int) -> bool:
    """Whether the last point is in one of the first fronts that hold `enough` points together."""
    left_TM, kept = np.asarray(points_TM, dtype=np.float64), 0
    while kept < enough:
        on_T = pareto.front(left_TM)
        if on_T[-1]:
            return True
        kept += int(on_T.sum())
        left_TM = left_TM[~on_T]
    return False
