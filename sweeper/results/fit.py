"""One training of a trial's params with one seed, as its folder holds it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweeper.state.fit_folder import FitFolder
from trainables.metrics import Answers, under_both_names
from trainables.undefined import to_nan

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class FitResult:
    """What one fit has come to, on the validation split. Undefined metrics are nan.

    A fit that has not ended has only the rows of its `history` so far, each with `epoch` and `time_ms`. One that failed
    has an `error`; one that was stopped early has its number of epochs as `stopped`; neither has metrics. `weights` is
    the folder of the learned weights, if they were kept.
    """

    number: int
    seed: int
    ended: bool = False
    values: Mapping[str, float] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    groups: Sequence[Mapping[str, Any]] = ()
    history: Sequence[Mapping[str, Any]] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = math.nan
    error: Mapping[str, Any] | None = None
    stopped: int | None = None
    answers: Answers | None = None
    calibration: Sequence[Mapping[str, Any]] = ()
    ece_bins: int = 15
    weights: Path | None = None

    @property
    def n(self) -> float:
        """Validation examples that the metrics are measured on; nan where that was not kept."""
        kept = self.provenance.get("validation_examples")
        return kept if kept is not None else math.nan if self.answers is None else len(self.answers)

    @classmethod
    def read(cls, number: int, seed: int, folder: FitFolder) -> FitResult:
        """The fit in `folder`. Older releases kept no answers or calibration, and knew only the old names of metrics.

        Raises:
            Corrupt: its result is damaged.
        """
        weights, result = folder.weights if folder.weights.is_dir() else None, folder.result()
        if result is None:
            return cls(number, seed, history=[to_nan(row) for row in folder.history()], weights=weights)
        answers = result.get("answers")
        return cls(
            number=number,
            seed=seed,
            ended=True,
            values=under_both_names(to_nan(result["values"])),
            reasons=under_both_names(result["reasons"]),
            groups=[to_nan(row) for row in result["groups"]],
            history=[to_nan(row) for row in result["history"]],
            provenance=result["provenance"],
            seconds=result["seconds"],
            error=result["error"],
            stopped=result.get("stopped"),
            answers=None if answers is None else Answers.from_json(answers),
            calibration=result.get("calibration", ()),
            ece_bins=result.get("ece_bins", 15),
            weights=weights,
        )


def flat(body: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """A nested mapping as one: `provenance.versions.torch`."""
    leaves: dict[str, Any] = {}
    for name, value in body.items():
        key = f"{prefix}.{name}"
        leaves |= flat(value, key) if isinstance(value, Mapping) else {key: value}
    return leaves


def table_of(rows: Any, columns: Sequence[str] = ()) -> pd.DataFrame:
    """A table of `rows`; where there is none, with these `columns`."""
    import pandas as pd

    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=list(columns))
