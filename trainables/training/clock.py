"""How long an epoch has taken, over processes that began it and fits that shared the machine meanwhile."""

from __future__ import annotations

import time


class Clock:
    """Seconds of one epoch. Where several fits are trained at once, each has an equal share of the time."""

    def __init__(self, spent_s: float = 0.0) -> None:
        """`spent_s`: what an earlier process spent on the epoch."""
        self._before_s, self._began_s, self._sharers = spent_s, time.perf_counter(), 1

    def start(self, sharers: int = 1) -> None:
        """Time runs from now on, for one of so many."""
        self._began_s, self._sharers = time.perf_counter(), sharers

    @property
    def spent_s(self) -> float:
        """What the epoch has taken so far."""
        return self._before_s + (time.perf_counter() - self._began_s) / self._sharers

    def stop(self) -> float:
        """What the epoch took; the next one begins at 0."""
        spent_s, self._before_s = self.spent_s, 0.0
        return spent_s
