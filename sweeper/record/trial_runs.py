"""The runs of a sweep's trials: one each, brought up to date by what changed since the last look."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sweeper.record import content
from sweeper.record.content import FitView, Scalar
from sweeper.record.registry import Models
from sweeper.record.store import DESCRIBED, DIGEST, MODEL, PAUSED, ROLE, TRIAL, WEIGHTS, Held, Runs
from sweeper.trial import State, Trial, typical
from trainables.metrics import METRICS

STATUS = {State.COMPLETE: "FINISHED", State.FAILED: "FAILED", State.PRUNED: "KILLED", State.RUNNING: "RUNNING"}


class Children:
    """What the store holds of the trials, by number. `fits` gives what there is of a trial's fits so far."""

    def __init__(
        self, runs: Runs, models: Models, fits: Callable[[int], Sequence[FitView]], held: Mapping[int, Held]
    ) -> None:
        self._runs, self._models, self._fits = runs, models, fits
        self._held = dict(held)
        self._prints: dict[int, tuple[Trial, str]] = {}

    @property
    def ids(self) -> dict[int, str]:
        """The run of each trial that has one."""
        return {number: held.run_id for number, held in self._held.items()}

    @property
    def versions(self) -> dict[int, str]:
        """The registered version of each trial that has one."""
        return {number: held.model for number, held in self._held.items() if held.model}

    def digest(self, trial: Trial) -> str:
        """Changes when what the record tells of the trial does; '' while it runs."""
        known = self._prints.get(trial.number)
        if known is None or known[0] is not trial:
            told = content.fingerprint(trial) if trial.state.finished else ""
            known = self._prints[trial.number] = (trial, told)
        return known[1]

    def stale(self, trial: Trial, on_front: bool) -> bool:
        """Whether the store may lack something of the trial: one that runs may always have a new epoch."""
        held, wanted = self._held.get(trial.number), self.digest(trial)
        return held is None or not wanted or held.digest != wanted or held.pareto != on_front

    def project(self, parent: Held, trial: Trial, on_front: bool) -> bool:
        """Write what the store lacks of the trial; whether that was anything."""
        held = self._held.get(trial.number) or self._create(parent, trial)
        wanted = self.digest(trial)
        if not wanted:
            return self._follow(parent, held, trial)
        self._runs.set_status(parent, "RUNNING")
        if held.digest != wanted:
            self._complete(held, trial, on_front, wanted)
        else:
            self._mark(held, trial, on_front)
        return True

    def pause(self, trials: Sequence[Trial]) -> None:
        """Nobody works on those that have not ended."""
        for trial in trials:
            if trial.number in self._held and not trial.state.finished:
                self._runs.set_status(self._held[trial.number], PAUSED)

    def _create(self, parent: Held, trial: Trial) -> Held:
        own = {ROLE: "trial", TRIAL: str(trial.number), "mlflow.parentRunId": parent.run_id}
        tags = content.tags(trial, on_front=False) | own
        held = self._runs.create(trial.label, tags, begun_ms=trial.started_ms)
        return self._held.setdefault(trial.number, held)

    def _follow(self, parent: Held, held: Held, trial: Trial) -> bool:
        """A running trial: the epochs that ended since the last look."""
        fits = self._fits(trial.number)
        metrics = _epochs(fits, held)
        if not metrics and held.described and held.status == "RUNNING":
            return False
        self._runs.set_status(parent, "RUNNING")
        self._runs.set_status(held, "RUNNING")
        params, asked = self._once(held, trial)
        self._runs.log(held, asked + metrics, params=params, tags={DESCRIBED: "true"})
        held.described = "true"
        held.rows |= {fit.seed: len(fit.history) for fit in fits}
        return True

    def _complete(self, held: Held, trial: Trial, on_front: bool, wanted: str) -> None:
        """A finished trial: all of it, its digest last."""
        fits = self._fits(trial.number)
        params, asked = self._once(held, trial)
        self._runs.set_status(held, STATUS[trial.state], ended_ms=trial.ended_ms)
        kept = self._keep(held, trial, fits) if on_front else {}
        provenance = content.flat(fits[0].provenance) if fits else {}
        tags = provenance | content.tags(trial, on_front=on_front) | kept | {DESCRIBED: "true", DIGEST: wanted}
        metrics = asked + _epochs(fits, held) + content.final(trial, fits)
        self._runs.log(held, metrics, params=params, tags=tags)
        held.digest, held.pareto, held.described = wanted, on_front, "true"

    def _mark(self, held: Held, trial: Trial, on_front: bool) -> None:
        """Only the front has moved."""
        kept = self._keep(held, trial, self._fits(trial.number)) if on_front else {}
        self._runs.log(held, [], params={}, tags=kept | {"pareto": content.truth(on_front)})
        held.pareto = on_front

    def _once(self, held: Held, trial: Trial) -> tuple[dict[str, str], list[Scalar]]:
        """What is written once: the params, and those of them that are metrics too."""
        return ({}, []) if held.described else (content.params(trial), content.searched(trial))

    def _keep(self, held: Held, trial: Trial, fits: Sequence[FitView]) -> dict[str, str]:
        """Adapter and head of a front member: every seed's, and the typical one's as a model. They stay."""
        folders = {fit.seed: fit.weights for fit in fits if fit.weights is not None}
        if held.weights or not folders:
            return {}
        for seed, folder in folders.items():
            self._runs.keep_folder(held, folder, f"adapter/seed-{seed}")
        values = {fit.seed: fit.values for fit in fits if fit.seed in folders}
        seed = typical(values, {name: METRICS[name].direction for name in trial.values})
        held.model = self._models.keep(self._runs.experiment, held, trial, folders[seed])
        held.weights = True
        return {MODEL: held.model, WEIGHTS: "true"}


def _epochs(fits: Sequence[FitView], held: Held) -> list[Scalar]:
    return [scalar for fit in fits for scalar in content.epochs(fit, held.rows.get(fit.seed, 0))]
