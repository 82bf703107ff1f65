"""The METRICS table: value, direction, per group, counts. numpy only.

A newcomer is one function `Predictions -> Value` and one line in its module's table. Undefined is nan
with its reason, never an invented number; every group number goes with its count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from trainables.data.base import OVERLAPPING
from trainables.errors import hint
from trainables.metrics import calibration, classwise, groupwise, overall, parity
from trainables.metrics.answers import Answers
from trainables.metrics.base import Metric, Predictions, Row, Value
from trainables.table import Table, UnknownName
from trainables.undefined import to_nan, to_null

__all__ = [
    "ALIASES",
    "METRICS",
    "Answers",
    "Evaluation",
    "Metric",
    "Predictions",
    "Value",
    "evaluate",
    "under_both_names",
]

_LINES = {**overall.METRICS, **classwise.METRICS, **parity.METRICS, **groupwise.METRICS, **calibration.METRICS}
ALIASES = {  # the literature's names, and those of older releases, which do not say by what the groups are made
    "worst_group_accuracy": "worst_accuracy_by_cell",
    "group_accuracy_spread": "accuracy_spread_by_cell",
    "adjusted_accuracy": "adjusted_accuracy_by_cell",
    "worst_group_ece": "worst_ece_by_attribute",
}


class _Metrics(Table[Metric]):
    """Beside the lines NAME/ATTRIBUTE: that metric of one of several attributes, or of an overlapping group.

    NAME/overlapping is the worst of all overlapping groups. A slash, since a key of MLflow may have one, and a name
    between braces in YAML.
    """

    def __getitem__(self, name: str) -> Metric:
        base, slash, side = name.partition("/")
        if not slash:
            return super().__getitem__(name)
        if name not in self:
            raise UnknownName(f"{self.place} '{name}' is unknown. {self.hint(name)}")
        return super().__getitem__(base).side(side)

    def __contains__(self, name: object) -> bool:
        base, slash, side = name.partition("/") if isinstance(name, str) else ("", "", "")
        if not slash:
            return super().__contains__(name)
        return bool(side) and super().__contains__(base) and super().__getitem__(base).of_one is not None

    def hint(self, name: str) -> str:
        _, slash, side = name.partition("/")
        if not slash:
            return super().hint(name)
        return hint(name, [f"{line}/{side or 'ATTRIBUTE'}" for line, metric in self.sound.items() if metric.of_one])


METRICS: Table[Metric] = _Metrics(
    "metrics",
    Metric,
    _LINES
    | {old: replace(_LINES[new], doc=f"= {new}: {_LINES[new].doc}", of_one=None) for old, new in ALIASES.items()},
    place="metric",
)
T = TypeVar("T")


def under_both_names(values: Mapping[str, T]) -> dict[str, T]:
    """`values` by metric, and under its new name what a release measured that knew the old one only."""
    return dict(values) | {new: values[old] for old, new in ALIASES.items() if old in values and new not in values}


@dataclass(frozen=True)
class Evaluation:
    """Every metric of one split: values (nan where undefined), the reasons, one row for each group, the answers.

    `calibration` has one row for each of `ece_bins` bins of confidence with examples (`calibration.table`).
    """

    values: dict[str, float]
    reasons: dict[str, str]
    groups: list[Row]
    answers: Answers | None = None
    calibration: list[Row] = field(default_factory=list)
    ece_bins: int = 15

    def to_json(self) -> dict[str, Any]:
        """Strict JSON: None where there is no finite number."""
        return {
            "values": to_null(self.values),
            "reasons": dict(self.reasons),
            "groups": [to_null(row) for row in self.groups],
            "answers": None if self.answers is None else self.answers.to_json(),
            "calibration": list(self.calibration),
            "ece_bins": self.ece_bins,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Evaluation:
        """What `to_json` wrote, also by releases that kept no answers, or had 15 bins always."""
        answers = data.get("answers")
        return cls(
            values=under_both_names(to_nan(data["values"])),
            reasons=under_both_names(data["reasons"]),
            groups=[to_nan(row) for row in data["groups"]],
            answers=None if answers is None else Answers.from_json(answers),
            calibration=list(data.get("calibration", ())),
            ece_bins=data.get("ece_bins", 15),
        )


def evaluate(predictions: Predictions) -> Evaluation:
    """All metrics that can be loaded, also of each of several attributes, and the groups of every kind there is."""
    found = {name: metric(predictions) for name, metric in METRICS.sound.items()}
    for side in (*predictions.sides, *((OVERLAPPING,) if predictions.overlapping else ())):
        found |= {
            f"{name}/{side}": metric.side(side)(predictions) for name, metric in METRICS.sound.items() if metric.of_one
        }
    return Evaluation(
        values={name: value.value for name, value in found.items()},
        reasons={name: value.reason for name, value in found.items() if value.reason is not None},
        groups=[row for kind in predictions.kinds for row in groupwise.table(predictions, kind)],
        answers=Answers.of(predictions),
        calibration=calibration.table(predictions),
        ece_bins=predictions.ece_bins,
    )
