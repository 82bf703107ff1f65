"""What was asked of a sweep beside its spec, told to people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sweeper.spec.asking.narrowing import Narrowing, told
from sweeper.spec.space import Space
from sweeper.trial import Trial


def changes(warm: Sequence[str], space: Space, narrowings: Sequence[Narrowing], trials: Sequence[Trial]) -> list[str]:
    """What it had from others, `warm`; how the `space` that it began with was narrowed; trials asked for by hand."""
    found = [f"{moment(narrowing.ms)}: {told(narrowing, space)}." for narrowing in narrowings]
    hand = [f"Trial {trial.number}, {trial.label}, was {trial.asked}." for trial in trials if trial.by_hand]
    return [*warm, *found, *hand]


def moment(ms: int) -> str:
    """Milliseconds since 1970 as a date with its time, in UTC."""
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"
