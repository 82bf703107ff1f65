"""A point of the front, trained again beside the baseline with seeds that the sweep never used.

The search has seen its own seeds and the validation examples: what it chose looks better than it is. New seeds and the
test split have chosen nothing. Nothing here is read by what chooses; the import contract checks that.

A confirmation is one file, `confirmations/<point>-<baseline>.json` of the sweep's folder. Its fits are fits of the two
trials, under `trials/`, with other seeds than the sweep's, so no front, table or search finds them.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sweeper.errors import Corrupt, UserError, few
from sweeper.front import noise, paired, recommend
from sweeper.front.noise import TrialFits
from sweeper.front.recommend import Knee
from sweeper.results.held_out import MEND
from sweeper.results.results import Results
from sweeper.state.asking.next_point import Proposal
from sweeper.state.atomic import read_json
from sweeper.state.sweep_folder import SweepFolder
from sweeper.trial import State, Trial, mean_and_spread
from trainables.metrics import METRICS, Answers, under_both_names
from trainables.undefined import to_nan

SCHEMA = 1
SPLITS = ("validation", "test")
COMPARED = (
    "accuracy",
    "delta_f1",
    "min_f1",
    "min_recall",
    "worst_accuracy_by_attribute",
    "worst_accuracy_by_cell",
    "eod_max_macro",
    "ece",
)  # beside the sweep's objectives and constraints


@dataclass(frozen=True)
class Difference:
    """One metric of both trials, means over the new seeds, and the 95 % interval of point less baseline.

    `low` and `high` are None where nothing is known: one seed, and a metric that the kept answers do not give.
    `examples` says whether the interval is of other examples too.
    """

    split: str
    metric: str
    point: float
    baseline: float
    low: float | None
    high: float | None
    examples: bool

    @property
    def value(self) -> float:
        """Point less baseline."""
        return self.point - self.baseline

    @property
    def verdict(self) -> str:
        """`better` or `worse` where the interval is on one side of 0, `unsure` where it is not."""
        if self.low is None or self.high is None:
            return "unknown"
        if self.low <= 0 <= self.high:
            return "unsure"
        return "better" if (self.low > 0) == (METRICS[self.metric].direction == "max") else "worse"


@dataclass(frozen=True)
class Confirmation:
    """Trial `point` beside trial `baseline`, each trained with `seeds`. Times are milliseconds since 1970.

    `asked` is how the point was called, `rule` what took the baseline's from the trials of its method. `failed` says
    which fit came to nothing; then there are no differences, as before the end.
    """

    point: int
    baseline: int
    seeds: tuple[int, ...]
    asked: str
    rule: str
    begun_ms: int = 0
    ended_ms: int | None = None
    failed: str | None = None
    differences: tuple[Difference, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether the numbers are there."""
        return bool(self.differences)

    def of(self, split: str) -> list[Difference]:
        """The differences on one of SPLITS."""
        return [each for each in self.differences if each.split == split]

    def to_json(self) -> dict[str, Any]:
        """As it is kept."""
        return {"schema": SCHEMA} | vars(self) | {"differences": [vars(each) for each in self.differences]}

    @classmethod
    def from_json(cls, body: Mapping[str, Any], place: str = "a confirmation") -> Confirmation:
        """What `to_json` gave.

        Raises:
            UserError: a newer release wrote it.
        """
        if body.get("schema") != SCHEMA:
            raise UserError(
                f"{place} has schema {body.get('schema')}; this release reads {SCHEMA}. Use the release that wrote it, "
                "or a later one."
            )
        kept = {name: value for name, value in body.items() if name != "schema"}
        differences = tuple(Difference(**each) for each in body["differences"])
        return cls(**kept | {"seeds": tuple(body["seeds"]), "differences": differences})


def read(folder: SweepFolder) -> list[Confirmation]:
    """Every confirmation of the sweep, also those that have not ended, by point and baseline.

    Raises:
        Corrupt: one is damaged.
        UserError: a newer release wrote one.
    """
    mend = "Delete it: the same 'sweeper confirm' writes it again, and trains nothing twice."
    paths = sorted(folder.confirmations.glob("[0-9]*.json"))
    return [Confirmation.from_json(read_json(path, mend), str(path)) for path in paths]


def keep(folder: SweepFolder, confirmation: Confirmation) -> None:
    """Write it down.

    Raises:
        Fenced: another process drives the sweep now.
    """
    folder.keep_confirmation(confirmation.point, confirmation.baseline, confirmation.to_json())


def begun(folder: SweepFolder, planned: Confirmation) -> Confirmation:
    """`planned` as it was begun, by this attempt or an earlier one. One with fewer seeds stays until there are numbers.

    Raises:
        Fenced: another process drives the sweep now.
    """
    known = next(
        (each for each in read(folder) if (each.point, each.baseline) == (planned.point, planned.baseline)), None
    )
    if known is None:
        planned = replace(planned, begun_ms=time.time_ns() // 1_000_000)
        keep(folder, planned)
        return planned
    return replace(planned, begun_ms=known.begun_ms)


def plan(results: Results, which: str, seeds: int, method: str | None = None) -> Confirmation:
    """What is asked for by `which` point, how many new seeds and which baseline `method`, or what is kept of it.

    The baseline is the trial that the point's rule takes from the method's own trials; a number has no rule, so the
    knee. The new seeds are those above the sweep's, so more of them later begin with the same ones. Seeds that were
    trained already are not given up: asked for fewer, all are told.

    Raises:
        UserError: the sweep has not ended, there is no such point or baseline, or no seed is asked for.
    """
    spec, name = results.spec, results.spec.name
    if seeds < 1:
        raise UserError(f"--seeds is {seeds}. Use 1 or more; with 1 nothing is known of what another seed would give.")
    if not results.finished:
        ended = sum(trial.state.finished for trial in results.trials)
        raise UserError(
            f"sweep '{name}' has not ended ({ended} of {spec.budget} trials): what it chooses may still change. "
            f"Finish it first: sweeper resume {name}"
        )
    point = results.point(which)
    by = recommend.rules(spec.objectives).get(which, Knee())
    baseline = _baseline(results, by, method)
    if baseline.number == point.number:
        raise UserError(
            f"{name}@{which} is trial {point.number} ({point.label}), which is the baseline itself. Name another "
            "point, or another method with --baseline."
        )
    fresh = itertools.count(max(seed for trial in results.trials for seed in trial.seed_list) + 1)
    planned = Confirmation(
        point=point.number,
        baseline=baseline.number,
        seeds=tuple(itertools.islice(fresh, seeds)),
        asked=which,
        rule=by.text.partition(":")[0],
    )
    known = [each for each in read(results.folder) if (each.point, each.baseline) == (point.number, baseline.number)]
    return known[0] if known and len(known[0].seeds) >= seeds else planned


def _baseline(results: Results, by: recommend.Rule, method: str | None) -> Trial:
    listed, objectives = dict.fromkeys(results.spec.search.baseline_list), results.spec.objectives
    if method is None and not listed:
        raise UserError(
            f"sweep '{results.spec.name}' has no baseline to compare with. Name a method that it has tried with "
            "--baseline, or give the next sweep one: search.baselines: {lora: 5}."
        )
    method = method or ("lora" if "lora" in listed else next(iter(listed)))
    numbers = recommend.per_baseline(results.trials, objectives, by)
    numbers |= recommend.per_method(results.trials, objectives, by)
    if method not in numbers:
        raise UserError(
            f"sweep '{results.spec.name}' has no finished trial of '{method}' to compare with. Of these it has: "
            f"{few(sorted(numbers))}."
        )
    return results.by_number[numbers[method]]


class FreshSeeds:
    """The two trials as a queue of fits takes them: both are open, nothing is proposed, the study hears nothing.

    Where one has failed there is nothing to compare, so nothing is measured on the test split.
    """

    def __init__(self, results: Results, confirmation: Confirmation) -> None:
        self.objectives = results.spec.objectives
        self._seeds = confirmation.seeds
        self._asked = [results.by_number[number] for number in (confirmation.point, confirmation.baseline)]
        self.ended: dict[int, Trial] = {}

    @property
    def identity(self) -> Mapping[str, Any]:
        """Nothing of its own: the sweep's study has been compared with the data."""
        return {}

    @property
    def failed(self) -> str | None:
        """What came to nothing, and why."""
        return next((f"trial {t.number}, {t.reason}" for t in self.ended.values() if t.reason), None)

    @property
    def trained(self) -> bool:
        """Whether every fit of both has its result."""
        return len(self.ended) == len(self._asked) and self.failed is None

    def open_proposals(self) -> list[Proposal]:
        """Both trials."""
        return [Proposal(trial.number, trial.params, self._seeds) for trial in self._asked]

    def propose(self, left: float = math.inf) -> Proposal | None:
        """Nothing more."""
        return None

    def complete(self, number: int, by_seed: Sequence[Mapping[str, float | None]]) -> Trial:
        """Every seed of trial `number` is trained."""
        metrics, spread = mean_and_spread(by_seed)
        values = {name: metrics.get(name, math.nan) for name in self.objectives}
        return self._end(number, State.COMPLETE, values=values, metrics=metrics, spread=spread, seeds=len(by_seed))

    def fail(self, number: int, reason: str) -> Trial:
        """A fit of trial `number` came to nothing."""
        return self._end(number, State.FAILED, reason=reason)

    def prune(self, number: int, where: str) -> Trial:
        """No fit is stopped early here: a result that says so was not written by a confirmation."""
        return self._end(number, State.FAILED, reason=f"stopped {where}")

    def _end(self, number: int, state: State, **told: Any) -> Trial:
        asked = next(trial for trial in self._asked if trial.number == number)
        self.ended[number] = Trial(number, state, asked.params, seed_list=self._seeds, **told)
        return self.ended[number]

    def trials(self) -> list[Trial]:
        """Those that have ended."""
        return list(self.ended.values())

    def look(self) -> tuple[list[Trial], list[int]]:
        """Those to measure on the test split: both, once both are trained."""
        return (self.trials(), list(self.ended)) if self.trained else ([], [])


# --- what it comes to


def measured(results: Results, confirmation: Confirmation) -> Confirmation:
    """With the differences, once every fit is trained and measured."""
    found = [each for split in SPLITS for each in _differences(results, confirmation, split)]
    return replace(confirmation, differences=tuple(found))


def _differences(results: Results, confirmation: Confirmation, split: str) -> list[Difference]:
    spec = results.spec
    names = list(dict.fromkeys([*spec.objectives, *spec.constraints, *COMPARED]))
    pair = [_fits(results.folder, number, confirmation.seeds, split, names)
            for number in (confirmation.point, confirmation.baseline)]  # fmt: skip
    answered = all(answers is not None for trial in pair for answers in trial.answers)
    resampled_B2SM = noise.resampled(pair, names, resamples=noise.RESAMPLES) if answered else None
    differences = []
    for m, name in enumerate(names):
        values_2S = np.array([trial.values_SM[:, m] for trial in pair])
        if not np.isfinite(values_2S).all():  # undefined on this data
            continue
        moved_B2S = None if resampled_B2SM is None else resampled_B2SM[..., m]
        if moved_B2S is not None and not np.ptp(moved_B2S, axis=0).any():  # it needs more than the kept answers
            moved_B2S = None
        ends = paired.difference(values_2S, moved_B2S)
        low, high = ends or (None, None)
        point, baseline = map(float, values_2S.mean(axis=1))
        differences.append(Difference(split, name, point, baseline, low, high, examples=moved_B2S is not None))
    return differences


def _fits(folder: SweepFolder, number: int, seeds: Sequence[int], split: str, names: Sequence[str]) -> TrialFits:
    rows, answers = [], []
    for seed in seeds:
        fit = folder.fit(number, seed)
        body = fit.result() if split == "validation" else read_json(folder.held_out(number, seed), MEND)
        if body is None:
            raise Corrupt(
                f"{fit.path}/result.json is gone. Put back a copy, or ask again: that fit alone is run again."
            )
        values = under_both_names(to_nan(body["values"]))
        rows.append([values.get(name, math.nan) for name in names])
        kept = body.get("answers")
        answers.append(None if kept is None else Answers.from_json(kept))
    return TrialFits(number, np.array(rows, dtype=np.float64), tuple(answers))
