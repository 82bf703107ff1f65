"""The Pareto front of trials: of any, or of a sweep's as they grow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sweeper.front import pareto
from sweeper.trial import State, Trial


def front(trials: Sequence[Trial], signs: Sequence[float]) -> list[int]:
    """The numbers of the trials on the Pareto front; `signs` is +1 for an objective to maximise, -1 to minimise."""
    able = [t for t in trials if t.state is State.COMPLETE and t.feasible]
    if not able:
        return []
    points_TM = np.array([list(t.values.values()) for t in able]) * np.asarray(signs)
    return [t.number for t, on in zip(able, pareto.front(points_TM), strict=True) if on]


class Frontier:
    """The front of trials that end one after the other: what an ended trial beat, it beats for ever.

    So only the members of the last front and those that have ended since are compared. Any thread may ask.
    """

    def __init__(self, signs: Sequence[float]) -> None:
        self._signs = signs
        self._last = frozenset[int](), frozenset[int]()  # those that were looked at, and their front

    def of(self, trials: Sequence[Trial]) -> list[int]:
        """The numbers of the front among these very trials."""
        seen, members = self._last
        able = {t.number: t for t in trials if t.state is State.COMPLETE and t.feasible}
        known = seen if seen <= able.keys() else frozenset()  # another thread has looked at later ones
        numbers = front([t for number, t in able.items() if number in members or number not in known], self._signs)
        self._last = frozenset(able), frozenset(numbers)
        return numbers
