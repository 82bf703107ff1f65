"""What a sweep has found at one moment: the one value that the screen, the record, the report and the files show.

It is made from the study's trials and the fits' folders. What is expensive is computed once, when it is asked for.
Validation numbers only: nothing here can see the test split, so nothing here can choose by it.

Shapes: T trials that can be on a front, M objectives.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from sweeper.errors import UserError, unknown
from sweeper.front import dominance, noise, pareto, recommend, stability
from sweeper.front.front import points, signs
from sweeper.front.noise import Sample, TrialFits
from sweeper.front.recommend import Recommendation, Rule
from sweeper.results import by_hand, provenance
from sweeper.results.fit import FitResult, flat, table_of
from sweeper.results.progress import Progress
from sweeper.spec.asking.narrowing import Narrowing
from sweeper.spec.model import SweepSpec
from sweeper.spec.space import Space
from sweeper.state.asking.hearing import current_spec
from sweeper.state.asking.inbox import Inbox
from sweeper.state.lease import Lease
from sweeper.state.opening import open_spec, study_url
from sweeper.state.study import NoSuchSweep, Study
from sweeper.state.sweep_folder import SweepFolder
from sweeper.trial import State, Trial
from trainables.arrays import Floats
from trainables.undefined import to_null

if TYPE_CHECKING:  # half a second, and not everybody reads a table
    import pandas as pd

UNCONVERGED = "the refit of the last layer did not converge: a larger l1 converges sooner"


@dataclass(frozen=True)
class Results:
    """A sweep's trials and front at one moment, and everything that follows from them and their fits."""

    folder: SweepFolder
    spec: SweepSpec
    trials: Sequence[Trial]
    front: Sequence[int]
    progress: Progress = field(default_factory=Progress)
    over: bool = False  # the search has ended by itself (`Study.over`)
    narrowings: Sequence[Narrowing] = ()  # of the space, since the sweep began
    warm: Sequence[str] = ()  # what it had from other sweeps then, in words

    @classmethod
    def open(cls, folder: SweepFolder) -> Results:
        """A sweep as its study and its lease show it, without driving it.

        Raises:
            UserError: there is no such sweep, or it is damaged.
        """
        spec = open_spec(folder)
        url = study_url(spec, folder)
        try:
            study = Study(spec, url)
        except NoSuchSweep:
            return cls(folder, spec, [], [], Progress("not begun"))
        with contextlib.closing(Lease(url, spec.name)) as lease:
            return cls.seen(folder, spec, study, lease)

    @classmethod
    def now(cls, folder: SweepFolder, spec: SweepSpec, study: Study, progress: Progress | None = None) -> Results:
        """What an open study shows, for whoever knows how the work on it stands."""
        return cls(folder, spec, *study.look(), progress or Progress(), study.over, study.narrowings, study.warm.notes)

    @classmethod
    def seen(cls, folder: SweepFolder, spec: SweepSpec, study: Study, lease: Lease) -> Results:
        """The same of a sweep whose study and lease are open; asked again and again, it reads what is new."""
        holder = lease.holder()
        if holder is not None and holder.alive:
            progress = Progress.from_json(folder.progress(), str(holder))
            return cls.now(folder, spec, study, progress)
        results = cls.now(folder, spec, study)
        if results.finished:
            return results
        # A lease that was not given back means that its driver died; else the last attempt noted why it paused.
        why = folder.why if holder is None else f"its driver died: {holder}"
        return replace(results, progress=Progress(why=why))

    # --- where it stands

    @cached_property
    def finished(self) -> bool:
        """Whether the budget is spent, or what was sought is decided, and nothing more will happen to any trial."""
        counted = not self.spec.search.open_ended and len(self.trials) >= self.spec.budget  # which looks at no trial
        over = self.over or (counted and len(self.trials) >= self.budget)
        return over and all(trial.settled for trial in self.trials) and not self.requests

    @cached_property
    def requests(self) -> int:
        """How many points somebody asked for that the sweep's driver has not taken up yet."""
        return sum(request.body.get("kind") == "try" for request in Inbox(self.folder.path).waiting())

    @cached_property
    def space(self) -> Space:
        """The space as it is now: that of the spec, unless it was narrowed since."""
        return current_spec(self.spec, self.narrowings).space

    @cached_property
    def budget(self) -> int:
        """How many trials the sweep may have, baselines and what was asked for by hand included."""
        return self.spec.budget + sum(trial.by_hand for trial in self.trials)

    @property
    def state(self) -> str:
        """`not begun`, `running`, `paused` or `finished`. While a process holds the sweep, it is running."""
        return "finished" if self.finished and self.progress.holder is None else self.progress.state

    @cached_property
    def counts(self) -> dict[str, int]:
        """Trials by state, every state named."""
        counted = Counter(trial.state for trial in self.trials)
        return {state.value: counted[state] for state in State}

    def to_json(self) -> dict[str, Any]:
        """Where the sweep stands, for programs: nan is null."""
        return to_null(
            {"name": self.spec.name, "state": self.state, "budget": self.budget, "counts": self.counts}
            | {"changes": by_hand.changes(self.warm, self.spec.space, self.narrowings, self.trials)}
            | {"front": self.front_rows, "hypervolume": self.hypervolume}
            | {name: value for name, value in self.progress.to_json().items() if name != "state"}
        )

    # --- trials

    @cached_property
    def by_number(self) -> dict[int, Trial]:
        """The trials by their number."""
        return {trial.number: trial for trial in self.trials}

    @cached_property
    def able(self) -> list[Trial]:
        """The trials that could be on a front."""
        return [trial for trial in self.trials if trial.able]

    @cached_property
    def ended(self) -> list[Trial]:
        """The trials to which nothing more happens, in the order in which they ended."""
        return sorted((t for t in self.trials if t.state.finished), key=lambda t: (t.ended_ms or 0, t.number))

    @cached_property
    def members(self) -> list[Trial]:
        """The trials of the front, best first objective first."""
        first, sense = next(iter(self.spec.objectives.items()))
        members = [self.by_number[number] for number in self.front]
        return sorted(members, key=lambda trial: trial.values[first], reverse=sense == "max")

    # --- numbers

    @property
    def signs_M(self) -> Floats:
        """+1 for an objective to maximise, -1 for one to minimise."""
        return signs(self.spec.objectives)

    @cached_property
    def points_TM(self) -> Floats:
        """The objectives of the trials that are `able`, turned so that greater is better."""
        return points(self.able, self.spec.objectives)

    @cached_property
    def hypervolume(self) -> float:
        """Of the front, against the sweep's reference point; nan while there is no front."""
        return self._volume(points(self.members, self.spec.objectives), self.spec.reference)

    def growth(self, reference: Mapping[str, float] | None = None, known: Sequence[float] = ()) -> list[float]:
        """The hypervolume after each trial that has `ended`; nan while there was no front.

        `reference` is the sweep's own unless another is given. `known` are the first of these numbers, from an earlier
        moment of the same sweep; they are not computed again.
        """
        points_TM = points([trial for trial in self.ended if trial.able], self.spec.objectives)
        able_upto = np.cumsum([trial.able for trial in self.ended])[len(known) :]
        return [*known, *(self._volume(points_TM[:upto], reference or self.spec.reference) for upto in able_upto)]

    def _volume(self, points_TM: Floats, reference: Mapping[str, float]) -> float:
        reference_M = np.array([reference[name] for name in self.spec.objectives]) * self.signs_M
        return pareto.hypervolume(points_TM, reference_M) if len(points_TM) else math.nan

    def baseline_points(self, bounds: Mapping[str, float] | None = None) -> dict[str, int]:
        """For each baseline, the trial that the rule of the `choice` takes from its own trials."""
        objectives = self.spec.objectives
        return recommend.per_baseline(self.trials, objectives, recommend.rule(objectives, bounds))

    def against_baseline(self, bounds: Mapping[str, float] | None = None) -> str:
        """One sentence: what the front has that plain LoRA (else the first baseline) has not, and how sure that is."""
        names, by = dict.fromkeys(self.spec.search.baseline_list), recommend.rule(self.spec.objectives, bounds)
        name = "lora" if "lora" in names else next(iter(names), "lora")
        return dominance.sentence(self.trials, self.front, self.sample, name, by)

    # --- fits

    @property
    def seeds_said(self) -> str:
        """How many seeds the numbers of its trials are means of: `3`, or `1 to 5`."""
        counts = [trial.seeds for trial in self.able] or [len(self.spec.search.seed_list)]
        return str(counts[0]) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"

    def fits_of(self, number: int) -> list[FitResult]:
        """The fits of one trial by seed, also those that have not ended."""
        return [FitResult.read(number, s, self.folder.fit(number, s)) for s in self.by_number[number].seed_list]

    @cached_property
    def fits(self) -> list[FitResult]:
        """Every fit that has ended, by trial and seed."""
        return [fit for trial in self.trials for fit in self.fits_of(trial.number) if fit.ended]

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """The last attempt's note of data, code and versions (`provenance.describe`); empty without one."""
        return provenance.noted(self.folder.path)

    @property
    def dataset(self) -> Mapping[str, Any]:
        """The last attempt's note of the data: name, root, licence, classes, `splits`, `split_hash`."""
        return dict(self.provenance.get("dataset") or {})

    # --- tables

    @cached_property
    def front_rows(self) -> list[dict[str, Any]]:
        """The front for people and programs, best first objective first."""
        objectives = self.spec.objectives
        return [
            {"number": trial.number, "label": trial.label, "baseline": trial.baseline, "asked": trial.asked}
            | {"params": dict(trial.params)}
            | {"values": {name: trial.values[name] for name in objectives}}
            | {"spread": {name: trial.spread.get(name, math.nan) for name in objectives}, "seeds": trial.seeds}
            for trial in self.members
        ]

    @cached_property
    def summary_table(self) -> pd.DataFrame:
        """One row per trial: number, state, label, params, objectives with `_std`, feasible, on_front, reason.

        It is made of the trials alone: no fit's folder is read.
        """
        members, rows = set(self.front), []
        for trial in self.trials:
            row: dict[str, Any] = {"number": trial.number, "state": trial.state.value, "label": trial.label}
            row |= dict(trial.params)
            for name in self.spec.objectives:
                row |= {name: trial.value(name), f"{name}_std": trial.spread.get(name, math.nan)}
            row |= {"seeds": trial.seeds, "feasible": trial.feasible, "baseline": trial.baseline}
            row |= {"asked": trial.asked} if any(other.asked for other in self.trials) else {}
            rows.append(row | {"on_front": trial.number in members, "reason": trial.why})
        fixed = ["number", "state", "label", "method", "lambda", "rank", *self.spec.objectives]
        if not rows:
            return table_of([], [*fixed, "on_front"]).astype({"on_front": bool})
        # The last trial's columns come before those that only others have.
        names = dict.fromkeys([*fixed, *rows[-1], *(name for row in rows for name in row)])
        return table_of(rows).reindex(columns=list(names))

    @cached_property
    def trials_table(self) -> pd.DataFrame:
        """`summary_table`, and every other metric with its `_std`, n, seconds of all fits, times (ms).

        `n` are the validation examples that are measured on. `reason` tells of a refit that did not converge too.
        """
        metrics = dict.fromkeys(name for trial in self.trials for name in trial.metrics)
        rest = [name for name in metrics if name not in self.spec.objectives]
        more: dict[str, list[Any]] = {}
        for name in rest:
            more[name] = [t.metrics.get(name, math.nan) for t in self.trials]
            more[f"{name}_std"] = [t.spread.get(name, math.nan) for t in self.trials]
        seconds, n = dict.fromkeys(self.by_number, 0.0), dict.fromkeys(self.by_number, math.nan)
        for fit in self.fits:
            seconds[fit.number] += fit.seconds
            n[fit.number] = fit.n
        more["n"] = [n[t.number] for t in self.trials]
        more["seconds"] = [seconds[t.number] for t in self.trials]
        more |= {"started_ms": [t.started_ms for t in self.trials], "ended_ms": [t.ended_ms for t in self.trials]}
        table = self.summary_table.join(table_of(more))
        table.loc[table["number"].isin(self.unconverged), "reason"] = UNCONVERGED
        return table

    @cached_property
    def unconverged(self) -> set[int]:
        """The trials with a fit whose last layer's refit ended before it had converged."""
        return {fit.number for fit in self.fits if fit.provenance.get("refit_converged") is False}

    @cached_property
    def fits_table(self) -> pd.DataFrame:
        """One row per fit: number, seed, the trial's params, every metric, seconds, error, flat provenance."""
        rows = [
            {"number": fit.number, "seed": fit.seed}
            | dict(self.by_number[fit.number].params)
            | dict(fit.values)
            | {"seconds": fit.seconds, "error": (fit.error or {}).get("reason"), "stopped": fit.stopped}
            | {
                name: ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
                for name, value in flat(fit.provenance, "provenance").items()
            }
            for fit in self.fits
        ]
        return table_of(rows, ["number", "seed"])

    @cached_property
    def groups_table(self) -> pd.DataFrame:
        """One row per fit and group: number, seed, kind, name, n, accuracy, loss.

        Of a class also recall and f1; of a value of an attribute, with two classes, tpr, fpr and equalized_odds, and of
        a group that overlaps others rest_accuracy, that of its complement.
        """
        rows = [{"number": fit.number, "seed": fit.seed, **row} for fit in self.fits for row in fit.groups]
        columns = ["number", "seed", "kind", "name", "n", "accuracy", "loss", "recall", "f1"]
        columns += ["tpr", "fpr", "equalized_odds"]
        columns += ["rest_accuracy"] * any("rest_accuracy" in row for row in rows)
        return table_of(rows, columns).reindex(columns=columns)

    @cached_property
    def calibration_table(self) -> pd.DataFrame:
        """One row per fit and bin of confidence, of `bins`, that has examples: see `trainables.metrics.calibration`."""
        rows = [
            {"number": fit.number, "seed": fit.seed, "bins": fit.ece_bins, **row}
            for fit in self.fits
            for row in fit.calibration
        ]
        columns = ["number", "seed", "of", "kind", "name", "bins", "bin", "n", "hits", "confidence"]
        return table_of(rows, columns).reindex(columns=columns)

    @cached_property
    def epochs_table(self) -> pd.DataFrame:
        """One row per fit and epoch, with everything that was logged."""
        rows = [{"number": fit.number, "seed": fit.seed, **row} for fit in self.fits for row in fit.history]
        return table_of(rows, ["number", "seed", "epoch"])

    # --- the choice

    @cached_property
    def named(self) -> dict[str, int]:
        """`knee`, `most-accurate`, `fairest` -> the trial's number; empty without a front."""
        return recommend.named(self.trials, self.front, self.spec.objectives)

    def point(self, which: str) -> Trial:
        """The trial that is called `which`: `knee`, `most-accurate`, ..., or its number.

        Raises:
            UserError: there is no front yet, or no complete trial of that name or number.
        """
        name = self.spec.name
        if not self.named:
            raise UserError(f"sweep '{name}' has no front yet. 'sweeper status {name}' says where it stands.")
        complete = {str(trial.number): trial for trial in self.trials if trial.state is State.COMPLETE}
        number = str(self.named.get(which, which))
        if number not in complete:
            raise UserError(unknown(f"the point '{which}' of '{name}'", which, [*self.named, *map(str, self.front)]))
        return complete[number]

    def choice(self, bounds: Mapping[str, float] | None = None) -> Recommendation | None:
        """The knee of the front, or the best within `bounds`; None without a front.

        Raises:
            UserError: a bound on what is no objective, or one that no member of the front keeps.
        """
        return self._taken_by(recommend.rule(self.spec.objectives, bounds))

    def _taken_by(self, rule: Rule) -> Recommendation | None:
        return recommend.recommend(self.trials, self.front, self.spec.objectives, by=rule)

    def recommendation(self, bounds: Mapping[str, float] | None = None) -> Recommendation | None:
        """The `choice`, and how stable it is. That needs the fits' answers, and takes seconds."""
        rule = recommend.rule(self.spec.objectives, bounds)
        choice = self._taken_by(rule)
        return choice and replace(choice, stability=stability.judge(self.sample, rule.choose))

    @cached_property
    def sample(self) -> Sample:
        """The trials of `trial_fits`, and what resampling the examples does to the first of them and to baselines."""
        baselines = [trial.number for trial in self.trials if trial.baseline]
        return noise.measure(self.trial_fits(), self.spec.objectives, also=baselines)

    def trial_fits(self) -> list[TrialFits]:
        """The trials that are `able`, fit by fit; one that lacks a seed's result is left out."""
        by_trial: dict[int, list[FitResult]] = {}
        for fit in self.fits:
            if fit.error is None:
                by_trial.setdefault(fit.number, []).append(fit)
        found = []
        for trial in self.able:
            told = [fit for fit in by_trial.get(trial.number, ()) if fit.seed in trial.seed_list[: trial.seeds]]
            if len(told) == trial.seeds:
                values_SM = np.array([[fit.values[name] for name in self.spec.objectives] for fit in told])
                found.append(TrialFits(trial.number, values_SM, tuple(fit.answers for fit in told)))
        return found
