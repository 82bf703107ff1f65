"""What was asked of a sweep by hand since it began, told to people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sweeper.spec.asking.narrowing import Narrowing, told
from sweeper.spec.space import Space
from sweeper.trial import Trial


def changes(space: Space, narrowings: Sequence[Narrowing], trials: Sequence[Trial]) -> list[str]:
    """A sentence for each narrowing of the `space` with which the sweep began, and for each trial asked for by hand."""
    found = [f"{moment(narrowing.ms)}: {told(narrowing, space)}." for narrowing in narrowings]
    return [*found, *(f"Trial {trial.number}, {trial.label}, was {trial.asked}." for trial in trials if trial.by_hand)]


def moment(ms: int) -> str:
    """Milliseconds since 1970 as a date with its time, in UTC."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"
