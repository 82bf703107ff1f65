"""How often an order may come back without a result before that is a failure."""

from __future__ import annotations

import logging
from collections import Counter

from sweeper.engine.order import Kind, Order

log = logging.getLogger(__name__)

EMPTY_RETRIES = 2  # of an order that comes back without a result although its worker lives


class Retries:
    """Counts the orders of one attempt that come back: by what they are, and whether their worker died."""

    def __init__(self, of_deaths: int) -> None:
        self._of_deaths = of_deaths
        self._times: Counter[tuple[Kind, int, int, bool]] = Counter()

    def failure(self, order: Order, died: bool) -> str | None:
        """Count one more time; why that is too often, None where the order is given out again."""
        allowed = self._of_deaths if died else EMPTY_RETRIES
        self._times[*order.key, died] += 1
        times = self._times[*order.key, died]
        if times <= allowed:
            if died:
                log.warning("%s: its worker died; another one goes on (%d of %d)", order, times, allowed)
            return None
        deaths = f"its worker died more often than resources.max_retries allows ({allowed})"
        return deaths if died else f"ended {times} times without a result"
