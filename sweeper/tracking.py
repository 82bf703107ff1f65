"""The MLflow record: one parent run per sweep, in the experiment of its name, and one child run per trial.

It is written, never read for control. What is already there is known from memory, and in a new
process from one search: each run carries, as the last thing written, a digest of what it says. So a
pass costs what changed since the last, and a finished sweep costs one search.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from sweeper import projection, study, summary
from sweeper import spec as specs
from sweeper.folder import SweepFolder
from sweeper.projection import FitView, Scalar
from sweeper.runs import DESCRIBED, DIGEST, PAUSED, ROLE, STEPS, TRIAL, WEIGHTS, Held, Runs
from sweeper.spec import SweepSpec
from sweeper.trial import State, Trial

HYPERVOLUME = "pareto/hypervolume"
STATUS = {State.COMPLETE: "FINISHED", State.FAILED: "FAILED", State.PRUNED: "KILLED", State.RUNNING: "RUNNING"}
PACKAGES = ("sweeper", "torch", "timm", "open_clip_torch", "peft", "ray", "optuna", "mlflow")


@dataclass(frozen=True)
class Source:
    """All that the record reads of a sweep: a narrow view, so that it depends on no other part.

    `fits` gives what there is of a trial's fits so far; `table` one row per trial, as
    `dashboards.figures.front_numbers` takes it; `hypervolume` that of the front of the given trials
    (nan where they have none). `dataset` is name and digest. `uuid` tells the sweep from others of its name.
    """

    name: str
    uuid: str
    spec_yaml: str
    objectives: Mapping[str, Literal["min", "max"]]
    budget: int
    fits: Callable[[int], Sequence[FitView]]
    table: Callable[[Sequence[Trial], Sequence[int]], pd.DataFrame]
    hypervolume: Callable[[Sequence[Trial]], float]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    dataset: tuple[str, str] | None = None


class Record:
    """The record of one sweep. Not for two threads at once; one process writes (the sweep's lease).

    `artifact_root` is where a store without a server keeps files; a server decides for itself (None).
    """

    def __init__(self, source: Source, uri: str, *, artifact_root: Path | None = None) -> None:
        self._source = source
        self._runs = Runs(uri, source.name, source.uuid, artifact_root)
        self._parent: Held | None = None
        self._children: dict[int, Held] = {}
        self._series: list[float] = []

    def refresh(self, trials: Sequence[Trial], front: Sequence[int]) -> int:
        """Write what the store lacks of these trials; how many were brought up to date.

        Raises:
            Exception: whatever the store raises. The next call looks at the store anew, since a
                request whose reply was lost may have been done.
        """
        try:
            parent = self._open(trials)
            members = set(front)
            changed = sum(self._project(parent, trial, trial.number in members) for trial in trials)
            self._summarise(parent, trials, front)
        except Exception:
            self._parent = None
            raise
        return changed

    def close(self, trials: Sequence[Trial]) -> None:
        """Nobody works on the sweep from now on: no run of it stays RUNNING."""
        parent = self._open(trials)
        for trial in trials:
            held = self._children.get(trial.number)
            if held is not None and not trial.state.finished:
                self._runs.set_status(held, PAUSED)
        done = len(trials) >= self._source.budget and all(trial.state.finished for trial in trials)
        last = max((trial.ended_ms or 0 for trial in trials), default=0)
        self._runs.set_status(parent, "FINISHED" if done else PAUSED, ended_ms=last or None)

    # --- finding what is there

    def _open(self, trials: Sequence[Trial]) -> Held:
        """The parent, after a look at everything of this sweep; created where it is missing."""
        if self._parent is None:
            parent, self._children = self._runs.find()
            begun = min((trial.started_ms for trial in trials), default=None)
            self._parent = parent or self._runs.create(self._source.name, {ROLE: "parent"}, begun_ms=begun)
        self._describe(self._parent)
        return self._parent

    def _create(self, parent: Held, trial: Trial) -> Held:
        own = {ROLE: "trial", TRIAL: str(trial.number), "mlflow.parentRunId": parent.run_id}
        tags = projection.tags(trial, on_front=False) | own
        held = self._runs.create(trial.label, tags, begun_ms=trial.started_ms)
        return self._children.setdefault(trial.number, held)

    # --- a trial

    def _project(self, parent: Held, trial: Trial, on_front: bool) -> bool:
        held = self._children.get(trial.number)
        wanted = projection.fingerprint(trial) if trial.state.finished else ""
        if held is not None and wanted and held.digest == wanted and held.pareto == on_front:
            return False
        held = held or self._create(parent, trial)
        if not wanted:
            return self._follow(parent, held, trial)
        self._runs.set_status(parent, "RUNNING")
        if held.digest != wanted:
            self._complete(held, trial, on_front, wanted)
        else:
            self._mark(held, trial, on_front)
        return True

    def _follow(self, parent: Held, held: Held, trial: Trial) -> bool:
        """A running trial: the epochs that ended since the last look."""
        fits = self._source.fits(trial.number)
        metrics = [scalar for fit in fits for scalar in projection.epochs(fit, held.rows.get(fit.seed, 0))]
        fresh = not held.described
        if not (metrics or fresh or held.status != "RUNNING"):
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
        fits = self._source.fits(trial.number)
        epochs = [scalar for fit in fits for scalar in projection.epochs(fit, held.rows.get(fit.seed, 0))]
        params, asked = self._once(held, trial)
        self._runs.set_status(held, STATUS[trial.state], ended_ms=trial.ended_ms)
        kept = self._keep_weights(held, fits) if on_front else {}
        provenance = projection.flat(fits[0].provenance) if fits else {}
        tags = provenance | projection.tags(trial, on_front=on_front) | kept | {DESCRIBED: "true", DIGEST: wanted}
        self._runs.log(held, asked + epochs + projection.final(trial, fits), params=params, tags=tags)
        held.digest, held.pareto, held.described = wanted, on_front, "true"

    def _mark(self, held: Held, trial: Trial, on_front: bool) -> None:
        """Only the front has moved."""
        kept = self._keep_weights(held, self._source.fits(trial.number)) if on_front else {}
        self._runs.log(held, [], params={}, tags=kept | {"pareto": projection.truth(on_front)})
        held.pareto = on_front

    def _once(self, held: Held, trial: Trial) -> tuple[dict[str, str], list[Scalar]]:
        """What is written once: the params, and those of them that are metrics too."""
        return ({}, []) if held.described else (projection.params(trial), projection.searched(trial))

    def _keep_weights(self, held: Held, fits: Sequence[FitView]) -> dict[str, str]:
        """Adapter and head of a front member; they stay if it leaves the front."""
        folders = {fit.seed: fit.weights for fit in fits if fit.weights is not None}
        if held.weights or not folders:
            return {}
        for seed, folder in folders.items():
            self._runs.keep_folder(held, folder, f"adapter/seed-{seed}")
        held.weights = True
        return {WEIGHTS: "true"}

    # --- the sweep as a whole

    def _describe(self, parent: Held) -> None:
        """Spec, provenance and data on the parent; again only if one of them changes."""
        source = self._source
        wanted = projection.digest([source.spec_yaml, source.provenance, source.dataset])
        if parent.described == wanted:
            return
        self._runs.keep_text(parent, source.spec_yaml, "sweep.yaml")
        self._runs.keep_text(parent, json.dumps(dict(source.provenance), indent=2, default=str), "provenance.json")
        tags = projection.flat({name: told for name, told in source.provenance.items() if name != "dataset"})
        if source.dataset is not None:
            name, digest = source.dataset
            self._runs.keep_dataset(parent, name, digest)
            tags |= {"dataset": name, "dataset.digest": digest}
        self._runs.log(parent, [], params={}, tags=tags | {DESCRIBED: wanted})
        parent.described = wanted

    def _summarise(self, parent: Held, trials: Sequence[Trial], front: Sequence[int]) -> None:
        """Hypervolume, tables and pictures on the parent, after any trial has ended."""
        ended = sorted((t for t in trials if t.state.finished), key=lambda t: (t.ended_ms or 0, t.number))
        wanted = projection.digest([[self._children[t.number].digest for t in ended], sorted(front)])
        if not ended or parent.digest == wanted:
            return
        self._runs.set_status(parent, "RUNNING")
        for count in range(len(self._series), len(ended)):
            self._series.append(self._source.hypervolume(ended[: count + 1]))
        new = [
            Scalar(HYPERVOLUME, self._series[step - 1], ended[step - 1].ended_ms or 0, step)
            for step in range(parent.steps + 1, len(ended) + 1)
        ]
        with tempfile.TemporaryDirectory(prefix="sweeper-record-") as folder:
            self._draw(Path(folder), trials, front)
            self._runs.keep_folder(parent, Path(folder))
        metrics = [scalar for scalar in new if math.isfinite(scalar.value)]  # nan: no front yet
        self._runs.log(parent, metrics, params={}, tags={STEPS: str(len(ended)), DIGEST: wanted})
        parent.digest, parent.steps = wanted, len(ended)

    def _draw(self, folder: Path, trials: Sequence[Trial], front: Sequence[int]) -> None:
        from dashboards import figures  # loads both drawing libraries

        table = self._source.table(trials, front)
        members = table[table["on_front"]]
        table.to_csv(folder / "trials.csv", index=False)
        members.to_csv(folder / "front.csv", index=False)
        members.to_json(folder / "front.json", orient="records", indent=2, force_ascii=False, double_precision=15)
        figures.hypervolume_png(figures.hypervolume_numbers(self._series), folder / "hypervolume.png")
        if len(self._source.objectives) > 1:
            numbers = figures.front_numbers(table, self._source.objectives)
            (folder / "front.html").write_text(figures.front_html(numbers, title=self._source.name), encoding="utf-8")
            figures.front_png(numbers, folder / "front.png")
            figures.front_png(numbers, folder / "front.svg")


def open_record(spec: SweepSpec, uuid: str, folder: SweepFolder, uri: str, described: Mapping[str, Any]) -> Record:
    """The record of sweep `uuid` in `folder`, at `uri`; `described` is the data, and the commit that runs it."""
    signs = summary.signs(spec)
    dataset, commit = described.get("dataset") or {}, described.get("commit")
    source = Source(
        name=spec.name,
        uuid=uuid,
        spec_yaml=specs.dump(spec),
        objectives=spec.objectives,
        budget=spec.search.trials,
        fits=lambda number: list(_fits(folder, number, spec.search.seed_list)),
        table=lambda trials, front: summary.table(trials, spec, front),
        hypervolume=lambda trials: summary.hypervolume(trials, spec, study.front(trials, signs)),
        provenance={
            "commit": commit,
            "dirty": None if commit is None else commit.endswith("-dirty"),
            "dataset": dataset,
            "versions": _versions(),
        },
        dataset=(spec.data.name, str(dataset["split_hash"])) if "split_hash" in dataset else None,
    )
    remote = uri.startswith(("http://", "https://"))
    return Record(source, uri, artifact_root=None if remote else folder.path.parent / "mlartifacts")


def _fits(folder: SweepFolder, number: int, seeds: Sequence[int]) -> Iterator[FitView]:
    for seed in seeds:
        fit = folder.fit(number, seed)
        result = fit.result()
        weights = fit.weights if fit.weights.is_dir() else None
        if result is None:
            yield FitView(seed, fit.history(), weights=weights)
        else:
            kept = {name: result[name] for name in ("history", "groups", "provenance", "seconds")}
            yield FitView(seed, **kept, weights=weights)


def _versions() -> dict[str, str]:
    return {dist.name: dist.version for dist in map(metadata.distribution, PACKAGES)}
