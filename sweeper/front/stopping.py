"""What a rule of early stopping is asked and told; `halving` and `forecast` have one each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from sweeper.trial import Trial


class StoppingRule(Protocol):
    """Ends trials by what their first seed's fit has reached. It compares with trials of lower numbers only."""

    def rungs(self, epochs: int) -> tuple[int, ...]:
        """The epochs after which a fit of `epochs` is judged; never its last."""

    def note(self, number: int, epochs: int, epoch: int, values: Mapping[str, float | None]) -> None:
        """Remember the metrics of trial `number` after `epoch` of its `epochs` epochs; undefined is None or nan."""

    def told(self, trial: Trial) -> None:
        """Remember what a trial has come to."""

    def stops(self, number: int, epochs: int, epoch: int) -> bool:
        """Whether a noted trial ends here."""
