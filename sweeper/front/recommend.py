"""Which point of the front to take: rules that fit in one sentence, and the reasons for a choice.

A rule sees validation numbers only. Points are `[T, M]`, greater is better in every column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np

from sweeper.errors import UserError, unknown
from sweeper.front import pareto
from sweeper.front.front import Senses, points, signs
from sweeper.front.stability import Stability
from sweeper.trial import State, Trial
from trainables.arrays import Floats
from trainables.methods import METHODS
from trainables.metrics import METRICS

BEST = {"accuracy": "most-accurate", "groups": "fairest", "calibration": "best-calibrated"}  # by what a metric is about
_ROUNDING = 1e-12  # means of shares: 0.82 may come as 0.8199999999999999


class Rule(Protocol):
    """How to choose among points. `text` is the rule as a person says it."""

    def choose(self, points_TM: Floats) -> int | None:
        """The chosen row; None where no point will do."""

    @property
    def text(self) -> str: ...


@dataclass(frozen=True)
class Knee:
    """Where giving up more of one objective no longer buys much of another: see `pareto.knee`."""

    text: ClassVar[str] = "the knee: from here on, more of one objective costs much of another"

    def choose(self, points_TM: Floats) -> int | None:
        return pareto.knee(points_TM)


@dataclass(frozen=True)
class Within:
    """Among the points within the bounds, the best in the objectives that have none: in `first`, then in their order.

    On a tie in all of these the bounded ones decide, then the earlier row.
    """

    objectives: Senses
    bounds: Mapping[str, float]
    first: str | None = None

    def choose(self, points_TM: Floats) -> int | None:
        names, signs_M = list(self.objectives), signs(self.objectives)
        able_T = ~np.isnan(points_TM).any(axis=1)
        for name, bound in self.bounds.items():
            column = names.index(name)
            able_T &= points_TM[:, column] >= signs_M[column] * bound - _ROUNDING
        order = [names.index(name) for name in (*self._free, *self.bounds)]
        rows = np.flatnonzero(able_T)
        return int(max(rows, key=lambda row: (*points_TM[row, order], -row))) if len(rows) else None

    @property
    def _free(self) -> list[str]:
        free = [name for name in self.objectives if name not in self.bounds]
        return sorted(free, key=lambda name: name != self.first)

    @property
    def text(self) -> str:
        bounded = " and ".join(
            f"{name} at {'least' if self.objectives[name] == 'max' else 'most'} {bound:g}"
            for name, bound in self.bounds.items()
        )
        wanted = [
            f"{'most' if self.objectives[name] == 'max' else 'least'} {name}" for name in self._free or self.bounds
        ]
        return ", then ".join([bounded, *wanted] if bounded else wanted)


def rule(objectives: Senses, bounds: Mapping[str, float] | None = None) -> Rule:
    """The knee, or with bounds what is best within them.

    Raises:
        UserError: a bound on what is no objective.
    """
    for name in bounds or ():
        if name not in objectives:
            raise UserError(unknown(f"the bound on '{name}'", name, objectives))
    return Within(objectives, bounds) if bounds else Knee()


def rules(objectives: Senses) -> dict[str, Rule]:
    """The named points of every front: the knee, and the best in the first objective of each kind.

    `most-accurate` is about accuracy, `fairest` about groups, `best-calibrated` about calibration.
    """
    named: dict[str, Rule] = {"knee": Knee()}
    for about, label in BEST.items():
        first = next((name for name in objectives if METRICS[name].about == about), None)
        if first is not None:
            named[label] = Within(objectives, {}, first)
    return named


@dataclass(frozen=True)
class Recommendation:
    """The point that a rule takes from the front, the reason, and how stable that choice is."""

    number: int
    label: str
    rule: str
    values: Mapping[str, float]
    why: str
    stability: Stability = field(default_factory=Stability)
    front: Sequence[int] = ()

    def __str__(self) -> str:
        numbers = ", ".join(f"{name} {value:.3f}" for name, value in self.values.items())
        sure = f"{self.stability.sentence(self.number)} {self.stability.drop(self.number, self.rule)}"
        text = f"Recommended: #{self.number} {self.label} ({numbers}), by {self.rule}.\n{self.why} {sure}".rstrip()
        return f"{text} {self.stability.members(self.front)}".rstrip()

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        own = {name: value for name, value in vars(self).items() if name != "front"}
        return {
            **own,
            "values": dict(self.values),
            "stability": self.stability.to_json() | {"sure": self.stability.sure},
        }


def named(trials: Sequence[Trial], front: Sequence[int], objectives: Senses) -> dict[str, int]:
    """The trial number of each named point of the front; empty without a front."""
    members = _members(trials, front)
    if not members:
        return {}
    points_TM = points(members, objectives)
    rows = {label: each.choose(points_TM) for label, each in rules(objectives).items()}
    return {label: members[row].number for label, row in rows.items() if row is not None}


def per_method(trials: Sequence[Trial], objectives: Senses, by: Rule | None = None) -> dict[str, int]:
    """For each method, in the table's order, the trial that the rule takes from the method's own feasible trials.

    A method without a trial within the rule's bounds is left out.
    """
    by, numbers = by or Knee(), {}
    able = [trial for trial in trials if trial.able]
    for method in sorted({str(trial.params["method"]) for trial in able}, key=list(METHODS).index):
        own = [trial for trial in able if trial.params["method"] == method]
        row = by.choose(points(own, objectives))
        if row is not None:
            numbers[method] = own[row].number
    return numbers


def per_baseline(trials: Sequence[Trial], objectives: Senses, by: Rule | None = None) -> dict[str, int]:
    """For each baseline, the trial that the rule takes from the baseline's own: of one trial that one, whatever it is.

    Where none keeps the constraints, or the rule's bounds, the others are chosen from, by the knee.
    """
    by, numbers = by or Knee(), {}
    for name in dict.fromkeys(trial.baseline for trial in trials if trial.baseline):
        own = [trial for trial in trials if trial.baseline == name and trial.state is State.COMPLETE]
        own = [trial for trial in own if trial.able] or own
        points_TM = points(own, objectives)
        row = by.choose(points_TM) if own else None
        row = Knee().choose(points_TM) if row is None and own else row
        if row is not None:
            numbers[name] = own[row].number
    return numbers


METHOD_RULES = ("knee", "accuracy")  # `accuracy`, the most accurate on validation, is that of the papers


def method_rule(name: str, objectives: Senses) -> tuple[Senses, Rule]:
    """One of METHOD_RULES: the metrics that it looks at, and the rule."""
    if name == "knee":
        return objectives, Knee()
    senses = {"accuracy": METRICS["accuracy"].direction} | dict(objectives)  # accuracy first; the others settle a tie
    return senses, Within(senses, {})


def measured_per_method(trials: Sequence[Trial], objectives: Senses) -> set[int]:
    """The trials that METHOD_RULES take for each method: after the search, they are measured on the test split."""
    chosen = (per_method(trials, *method_rule(name, objectives)) for name in METHOD_RULES)
    return {number for by_method in chosen for number in by_method.values()}


def measured_per_baseline(trials: Sequence[Trial], objectives: Senses) -> set[int]:
    """The same of each baseline; their weights are kept."""
    chosen = (per_baseline(trials, *method_rule(name, objectives)) for name in METHOD_RULES)
    return {number for by_name in chosen for number in by_name.values()}


def recommend(
    trials: Sequence[Trial],
    front: Sequence[int],
    objectives: Senses,
    *,
    by: Rule | None = None,
    stability: Stability | None = None,
) -> Recommendation | None:
    """The member of the front that `by` (the knee by default) takes; None while there is no front.

    Raises:
        UserError: no member is within the rule's bounds.
    """
    members, by = _members(trials, front), by or Knee()
    if not members:
        return None
    row = by.choose(points(members, objectives))
    if row is None:
        best = [f"{name} {_extreme(members, name, sense).values[name]:.4g}" for name, sense in objectives.items()]
        raise UserError(
            f"no member of the front has {by.text}. The front reaches {', '.join(best)}: give other bounds."
        )
    chosen = members[row]
    return Recommendation(
        number=chosen.number,
        label=chosen.label,
        rule=by.text,
        values=dict(chosen.values),
        why=_why(chosen, members, objectives),
        stability=stability or Stability(),
        front=tuple(front),
    )


def _members(trials: Sequence[Trial], front: Sequence[int]) -> list[Trial]:
    on = set(front)
    return [trial for trial in trials if trial.number in on and trial.state is State.COMPLETE]


def _extreme(members: Sequence[Trial], name: str, sense: str) -> Trial:
    pick = max if sense == "max" else min
    return pick(members, key=lambda trial: trial.values[name])


def _why(chosen: Trial, members: Sequence[Trial], objectives: Senses) -> str:
    """What it gives up against the best member in each objective, and what it gains."""
    if len(members) == 1:
        return "It is the only member of the front."
    sentences = []
    for name, sense in objectives.items():
        best = _extreme(members, name, sense)
        if best.values[name] == chosen.values[name]:
            sentences.append(f"No member has a better {name}.")
            continue
        loss = abs(chosen.values[name] - best.values[name])
        gains_M = (points([chosen], objectives) - points([best], objectives))[0]
        gains = [
            f"{other} is better by {gain:.3f}" for other, gain in zip(objectives, gains_M, strict=True) if gain > 0
        ]
        sentences.append(f"Against the best {name} (#{best.number}) it gives up {loss:.3f}; {', '.join(gains)}.")
    return " ".join(sentences)
