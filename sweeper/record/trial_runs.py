"""The runs of a sweep's trials, one each. Only what changed since the last pass is written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from sweeper.front import paired
from sweeper.record import content, note
from sweeper.record.content import Scalar
from sweeper.record.registry import Models
from sweeper.record.store import DESCRIBED, DIGEST, MODEL, NOTE, PAUSED, ROLE, TRIAL, WEIGHTS, KnownRun, Store
from sweeper.results import held_out
from sweeper.results.fit import FitResult
from sweeper.results.results import Results
from sweeper.trial import State, Trial, typical
from trainables.arrays import Floats

STATUS = {State.COMPLETE: "FINISHED", State.FAILED: "FAILED", State.PRUNED: "KILLED", State.RUNNING: "RUNNING"}


class TrialRuns:
    """What the store holds of the trials, by number."""

    def __init__(self, store: Store, models: Models, known: Mapping[int, KnownRun]) -> None:
        self._store, self._models = store, models
        self._known = dict(known)
        self._prints: dict[int, tuple[Trial, str]] = {}

    @property
    def ids(self) -> dict[int, str]:
        """The run of each trial that has one."""
        return {number: run.run_id for number, run in self._known.items()}

    @property
    def versions(self) -> dict[int, str]:
        """The registered version of each trial that has one."""
        return {number: run.model for number, run in self._known.items() if run.model}

    def digest(self, trial: Trial) -> str:
        """Changes when what the record says of the trial changes; '' while it runs."""
        computed = self._prints.get(trial.number)
        if computed is None or computed[0] is not trial:
            digest = content.fingerprint(trial) if trial.state.finished else ""
            computed = self._prints[trial.number] = (trial, digest)
        return computed[1]

    def refresh(self, parent: KnownRun, results: Results) -> int:
        """Write what the store lacks of the trials; how many were brought up to date."""
        members = set(results.front)
        self._links = note.Links(self._store.experiment, parent.run_id, self.ids)
        return sum(self._write(parent, results, trial, trial.number in members) for trial in results.trials)

    def _write(self, parent: KnownRun, results: Results, trial: Trial, on_front: bool) -> bool:
        """Write what the store lacks of the trial; whether it lacked anything."""
        run, wanted = self._known.get(trial.number), self.digest(trial)
        if run is None:
            own = {ROLE: "trial", TRIAL: str(trial.number), "mlflow.parentRunId": parent.run_id}
            tags = content.tags(trial, on_front=False) | own
            run = self._known[trial.number] = self._store.create(trial.label, tags, begun_ms=trial.started_ms)
        if not wanted:
            return self._follow(parent, run, trial, results)
        if run.digest == wanted and run.pareto == on_front:
            return False
        self._store.set_status(parent, "RUNNING")
        if run.digest != wanted:
            self._complete(run, trial, results, on_front, wanted)
        else:  # only the front has moved
            fits = results.fits_of(trial.number)
            kept = self._keep(run, trial, results, fits) if on_front else {}
            tags = kept | self._note(results, trial, fits, on_front) | content.standing(trial, on_front=on_front)
            self._store.log(run, [], params={}, tags=tags)
            run.pareto = on_front
        return True

    def pause(self, trials: Sequence[Trial]) -> None:
        """Those that have not ended wait for a resume."""
        for trial in trials:
            if trial.number in self._known and not trial.state.finished:
                self._store.set_status(self._known[trial.number], PAUSED)

    def _follow(self, parent: KnownRun, run: KnownRun, trial: Trial, results: Results) -> bool:
        """A running trial: the epochs that ended since the last pass."""
        fits = results.fits_of(trial.number)
        metrics = _epochs(fits, run)
        if not metrics and run.described and run.status == "RUNNING":
            return False
        self._store.set_status(parent, "RUNNING")
        self._store.set_status(run, "RUNNING")
        params, searched = self._once(run, trial)
        self._store.log(run, searched + metrics, params=params, tags={DESCRIBED: "true"})
        run.described = "true"
        run.rows |= {fit.seed: len(fit.history) for fit in fits}
        return True

    def _complete(self, run: KnownRun, trial: Trial, results: Results, on_front: bool, wanted: str) -> None:
        """A finished trial: all of it. Its digest goes last, so that a run with a digest is whole."""
        fits = results.fits_of(trial.number)
        params, _ = self._once(run, trial)
        self._store.set_status(run, STATUS[trial.state], ended_ms=trial.ended_ms)
        kept = self._keep(run, trial, results, fits) if on_front else {}
        made_by = {name: value for name, value in fits[0].provenance.items() if name != "params"} if fits else {}
        provenance = content.provenance(made_by)  # the params are the run's own
        tags = provenance | content.tags(trial, on_front=on_front) | kept | self._note(results, trial, fits, on_front)
        tags |= {DESCRIBED: "true", DIGEST: wanted}
        metrics = content.searched(trial) + _epochs(fits, run) + content.final(trial, fits, results.spec.objectives)
        self._store.log(run, metrics, params=params, tags=tags)
        run.digest, run.pareto, run.described = wanted, on_front, "true"

    def conclude(self, parent: KnownRun, results: Results) -> None:
        """What can be said once a sweep is finished: test numbers, and how sure it is who is on the front."""
        stability = None if (advice := results.recommendation()) is None else advice.stability
        sure = stability if stability is not None and stability.draws else None
        chances = sure.on_front if sure else {}
        measured, members = held_out.read(results), set(results.front)
        self._links = note.Links(self._store.experiment, parent.run_id, self.ids)
        for trial in results.ended:
            fits, n = results.fits_of(trial.number), trial.number
            known = {"chance": chances.get(n), "over": sure.over} if sure and n in chances else {}
            tags = self._note(results, trial, fits, n in members, **known)
            metrics = content.tested(trial, measured.get(n, {}))
            if results.spec.search.racing is not None:  # now the seeds' common luck is known as well as it will be
                metrics += content.main(trial, results.spec.objectives, step=len(results.spec.search.most_seeds))
            self._store.log(self._known[n], metrics, params={}, tags=tags)

    def _note(
        self, results: Results, trial: Trial, fits: Sequence[FitResult], on_front: bool, **known: Any
    ) -> dict[str, str]:
        """The note on the trial's run, as a tag. `known` is what is known of its chances."""
        numbers = results.baseline_points()
        baseline = numbers.get("lora", next(iter(numbers.values()), None))
        if baseline is None or baseline == trial.number or not results.by_number[baseline].able or not trial.values:
            standing = note.Standing(on_front, **known)
        else:
            objectives = results.spec.objectives
            pair = [_values(fits, objectives), _values(results.fits_of(baseline), objectives)]
            seeds = min(map(len, pair))
            ahead = {}
            if seeds:  # those that both have
                both_2SM = np.stack([values_SM[:seeds] for values_SM in pair])
                ahead = {name: paired.difference(both_2SM[..., m]) for m, name in enumerate(objectives)}
            standing = note.Standing(on_front, baseline, ahead, **known)
        return {NOTE: note.of_trial(results, trial, standing, self._links)}

    def _once(self, run: KnownRun, trial: Trial) -> tuple[dict[str, str], list[Scalar]]:
        """What is written once: the params, and those of them that are metrics too."""
        return ({}, []) if run.described else (content.params(trial), content.searched(trial))

    def _keep(self, run: KnownRun, trial: Trial, results: Results, fits: Sequence[FitResult]) -> dict[str, str]:
        """Adapter and head of a front member: every seed's as artifacts, the typical one's as a model. They stay."""
        folders = {fit.seed: fit.weights for fit in fits if fit.weights is not None}
        if run.weights or not folders:
            return {}
        for seed, folder in folders.items():
            self._store.keep_folder(run, folder, f"adapter/seed-{seed}")
        values = {fit.seed: fit.values for fit in fits if fit.seed in folders}
        seed = typical(values, results.spec.objectives)
        run.model = self._models.keep(run, trial, next(fit for fit in fits if fit.seed == seed), results)
        run.weights = True
        return {MODEL: run.model, WEIGHTS: "true"}


def _values(fits: Sequence[FitResult], objectives: Iterable[str]) -> Floats:
    """[S, M]: each fit's objectives."""
    return np.array([[fit.values.get(name, math.nan) for name in objectives] for fit in fits], dtype=np.float64)


def _epochs(fits: Sequence[FitResult], run: KnownRun) -> list[Scalar]:
    return [scalar for fit in fits for scalar in content.epochs(fit, run.rows.get(fit.seed, 0))]
