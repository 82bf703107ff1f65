"""Work that takes time, a few pieces at once, without waiting: who is next to end."""

from __future__ import annotations

import heapq
import itertools
from typing import Any

from benchmarks.search.surfaces import chance


class Workers:
    """`count` workers. An epoch takes 1, or up to a fifth more or less, as `world` decides: real fits do not march."""

    def __init__(self, count: int, world: int) -> None:
        self.count, self._rng, self._now = count, chance("slots", world), 0.0
        self._order, self._busy = itertools.count(), list[tuple[float, int, Any]]()

    @property
    def free(self) -> bool:
        """Whether a worker is."""
        return len(self._busy) < self.count

    @property
    def idle(self) -> bool:
        """Whether all are."""
        return not self._busy

    def begin(self, work: Any, epochs: float = 1.0) -> None:
        """A worker takes up `work`."""
        takes = epochs * self._rng.uniform(0.8, 1.2)
        heapq.heappush(self._busy, (self._now + takes, next(self._order), work))

    def end(self) -> Any:
        """The work that ends first."""
        self._now, _, work = heapq.heappop(self._busy)
        return work
