"""Ray Tune's TrialScheduler over the queue: thin. Whether a fit goes on is decided there, after what is durable."""

from __future__ import annotations

from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

from sweeper.engine.tune import FitSearcher


class Stopping(FIFOScheduler):
    """Ends a fit that is not worth its next epochs; its actor takes the next order."""

    def __init__(self, searcher: FitSearcher) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._searcher = searcher

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """After each report of a fit."""
        decision: str = self.CONTINUE if self._searcher.goes_on(trial.trial_id, result) else self.STOP
        return decision

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles its scheduler into the attempt's scratch, which is never read back: give it nothing."""
        return {}
