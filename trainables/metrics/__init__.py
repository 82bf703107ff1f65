"""The METRICS table: value, direction, per group, counts. numpy only.

A newcomer is one function `Predictions -> Value` and one line in its module's table. Undefined is nan
with its reason, never an invented number; every group number goes with its count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trainables.metrics import calibration, classwise, groupwise, overall, parity
from trainables.metrics.answers import Answers
from trainables.metrics.base import Metric, Predictions, Row, Value
from trainables.table import Table
from trainables.undefined import to_nan, to_null

__all__ = ["METRICS", "Answers", "Evaluation", "Metric", "Predictions", "Value", "evaluate"]

METRICS = Table(
    "metrics",
    Metric,
    {**overall.METRICS, **classwise.METRICS, **parity.METRICS, **groupwise.METRICS, **calibration.METRICS},
    place="metric",
)


@dataclass(frozen=True)
class Evaluation:
    """Every metric of one split: values (nan where undefined), the reasons, one row for each group, the answers.

    `calibration` has one row for each bin of confidence with examples (`calibration.table`).
    """

    values: dict[str, float]
    reasons: dict[str, str]
    groups: list[Row]
    answers: Answers | None = None
    calibration: list[Row] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Strict JSON: None where there is no finite number."""
        return {
            "values": to_null(self.values),
            "reasons": dict(self.reasons),
            "groups": [to_null(row) for row in self.groups],
            "answers": None if self.answers is None else self.answers.to_json(),
            "calibration": list(self.calibration),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Evaluation:
        """What `to_json` wrote, also before answers and bins of confidence were kept."""
        answers = data.get("answers")
        return cls(
            values=to_nan(data["values"]),
            reasons=dict(data["reasons"]),
            groups=[to_nan(row) for row in data["groups"]],
            answers=None if answers is None else Answers.from_json(answers),
            calibration=list(data.get("calibration", ())),
        )


def evaluate(predictions: Predictions) -> Evaluation:
    """All metrics of the table, and the groups of every kind that the data has."""
    found = {name: metric(predictions) for name, metric in METRICS.items()}
    return Evaluation(
        values={name: value.value for name, value in found.items()},
        reasons={name: value.reason for name, value in found.items() if value.reason is not None},
        groups=[row for kind in predictions.kinds for row in groupwise.table(predictions, kind)],
        answers=Answers.of(predictions),
        calibration=calibration.table(predictions),
    )
