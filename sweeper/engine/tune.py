"""Ray Tune's Searcher over the queue: thin, and with no state that matters.

It repairs, by not doing it, what a searcher over Optuna usually gets wrong: nothing is told from
Tune's last result (the fit's folder is read), and an ended or failed trial is never complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ray.tune.search import Searcher

from sweeper.engine.queue import FitQueue, Order
from sweeper.state.fit_folder import metrics


class FitSearcher(Searcher):
    """Hands orders to Tune as trial configs, at most `limit` at a time plus `ahead` that wait.

    One order in waiting lets Tune keep a finished actor for it, instead of killing the actor and
    paying its imports again; with a single slot none is needed, and none is given, so that each
    proposal knows the outcome of the one before.
    """

    def __init__(self, queue: FitQueue, shared: Mapping[str, Any], *, limit: int, ahead: int) -> None:
        super().__init__(metric=None, mode=None)
        self._queue = queue
        self._shared = dict(shared)
        self._most = limit + ahead
        self._orders: dict[str, Order] = {}
        self.fault: Exception | None = None  # Tune would swallow it, and wait for ever

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """The next order as a config, None for 'not now', FINISHED for 'no more'."""
        if self._queue.exhausted:
            return Searcher.FINISHED
        if self._queue.running >= self._most:
            return None
        try:
            order = self._queue.next()
        except Exception as fault:
            return self._fail(fault)
        if order is None:
            return Searcher.FINISHED if self._queue.exhausted else None
        self._orders[trial_id] = order
        return self._shared | {
            "number": order.number,
            "seed": order.seed,
            "kind": order.kind,
            "params": dict(order.params),
            "split_hash": self._queue.split_hash,
            "rungs": self._queue.rungs(order),
        }

    def goes_on(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Whether the fit that reports is worth its next epochs."""
        order, values = self._orders.get(trial_id), metrics(result)
        if order is None or not values:
            return True
        try:
            return self._queue.goes_on(order, result["epoch"], values)
        except Exception as fault:
            self._fail(fault)
            return False

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tune is through with an order. `error` means that its actor died, in training or before it began."""
        order = self._orders.pop(trial_id, None)
        if order is None:
            return
        try:
            self._queue.done(order, died=error, halt=(result or {}).get("halt"))
        except Exception as fault:
            self._fail(fault)

    def _fail(self, fault: Exception) -> str:
        self.fault = self.fault or fault
        self._queue.stop()
        return Searcher.FINISHED

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its searcher into the attempt's scratch, which is never read back: give it nothing."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is the memory."""
        open(checkpoint_path, "w").close()

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: an attempt is never restored, a fresh one is begun."""
