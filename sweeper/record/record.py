"""The MLflow record: one parent run per sweep, in the experiment of its name, one child run per trial and confirmation.

It is written, never read for control. What is there is known from memory, or in a new process from one search: the
last thing written to each run is a digest of what it says. So a pass costs what changed since the one before, and a
finished sweep costs one search.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeper.record import content, note, pictures, saved_views
from sweeper.record.confirmations import ConfirmationRuns
from sweeper.record.content import Scalar
from sweeper.record.links import view_link
from sweeper.record.note import Links
from sweeper.record.registry import Models
from sweeper.record.store import (
    DESCRIBED,
    DIGEST,
    DRAWN,
    NAMED,
    NOTE,
    PAUSED,
    ROLE,
    STEPS,
    TABLES,
    Data,
    KnownRun,
    Store,
)
from sweeper.record.trial_runs import TrialRuns
from sweeper.results import confirmation, held_out, provenance
from sweeper.results.results import Results
from sweeper.spec import loading
from sweeper.spec.model import SweepSpec
from sweeper.state.lease import Lease
from sweeper.state.opening import open_spec, record_uri, study_url
from sweeper.state.study import Study
from sweeper.state.sweep_folder import SweepFolder
from trainables.params import PARAMS

HYPERVOLUME = "pareto/hypervolume"
DRAWING_SHARE = 0.05  # of the time, at most: pictures take seconds, and more with more trials
_AS_TABLE = json.dumps([{"path": pictures.TABLE, "type": "table"}])


class Record:
    """The record of one sweep in its store. Not for two threads at once; one process writes (the sweep's lease).

    Pictures that are out of date are drawn again, in at most `drawing_share` of the time, and at the end.
    """

    def __init__(self, store: Store, *, drawing_share: float = DRAWING_SHARE) -> None:
        self._store, self._models = store, Models(store)
        self._parent: KnownRun | None = None
        self._hypervolumes: list[float] = []  # those that were computed before, as `Results.growth`
        self._share, self._draw_at = drawing_share, -math.inf

    def refresh(self, results: Results, *, draw: bool = True) -> int:
        """Write what the store lacks of these results; how many trials were brought up to date. `draw` them, if due.

        Raises:
            Exception: whatever the store raises. The next call searches the store again, because a request whose reply
                was lost may have been carried out.
        """
        try:
            parent = self._open(results)
            changed = self._trials.refresh(parent, results)
            self._summarise(parent, results)
            self._confirmations.refresh(parent, results)
            if draw and time.monotonic() >= self._draw_at:
                self._draw(parent, results)
        except Exception:
            self._parent = None
            raise
        return changed

    def close(self, results: Results) -> None:
        """The attempt has ended: no run of the sweep stays RUNNING."""
        parent = self._open(results)
        self._trials.pause(results.trials)
        last_ms = max((trial.ended_ms or 0 for trial in results.trials), default=0)
        self._store.set_status(parent, "FINISHED" if results.finished else PAUSED, ended_ms=last_ms or None)

    def illustrate(self, results: Results, *, paused: bool = False) -> None:
        """The last pictures and report of a finished sweep; of a `paused` one they are else drawn when it goes on."""
        if results.finished or paused:
            self._draw(self._open(results), results)

    def versions(self) -> int:
        """How many registered versions of models the sweep has."""
        return self._models.versions()

    def forget(self) -> int:
        """Delete the sweep's runs and models; how many runs there were."""
        self._parent = None
        self._models.forget()
        return self._store.forget()

    def _open(self, results: Results) -> KnownRun:
        """The parent's run, after one search for all runs of the sweep; created if it is missing."""
        if self._parent is None:
            found = self._store.find()
            self._trials = TrialRuns(self._store, self._models, found.trials)
            self._confirmations = ConfirmationRuns(self._store, found.confirmations)
            begun_ms = min((trial.started_ms for trial in results.trials), default=None)
            self._parent = found.parent or self._store.create(self._store.name, {ROLE: "parent"}, begun_ms=begun_ms)
            self._describe(self._parent, results, begun_ms)
        return self._parent

    def _describe(self, parent: KnownRun, results: Results, begun_ms: int | None) -> None:
        """Write spec, provenance, data and saved views, unless the store has them as they are."""
        import mlflow  # the store has opened it

        spec, made_by, data = loading.dump(results.spec), _made_by(results), _data(results)
        wanted = content.digest([content.FORMAT, spec, made_by, vars(data) if data else 0])
        if parent.described == wanted:
            return
        self._store.keep_text(parent, spec, "sweep.yaml")
        self._store.keep_text(parent, json.dumps(made_by, indent=2, default=str), "provenance.json")
        tags = content.provenance({name: value for name, value in made_by.items() if name != "dataset"})
        if data is not None:
            self._store.keep_dataset(parent, data)
            tags |= {"dataset": data.name, "dataset.digest": data.digest}
        if saved_views.understood(mlflow.__version__):
            # MLflow adds a chart for every metric: all but the main ones are folded away.
            folded = [f"seed-{seed}{part}" for seed in results.spec.search.most_seeds for part in ("", "/train_loss")]
            folded += ["val", "test"]
            objectives, name, uuid = results.spec.objectives, self._store.name, self._store.uuid
            searched = [name for name in results.spec.space.dimensions if PARAMS[name].searched]
            views = saved_views.tags(name, uuid, objectives, searched, folded, begun_ms or 0)
            self._store.tag_experiment(views)
        self._store.log(parent, [], params={}, tags=tags | {TABLES: _AS_TABLE, DESCRIBED: wanted})
        parent.described = wanted

    def _summarise(self, parent: KnownRun, results: Results) -> None:
        """Write note, hypervolume, tables and the named points, whenever a trial has ended."""
        ended, wanted = results.ended, self._digest(results)
        if not ended or parent.digest == wanted:
            return
        self._store.set_status(parent, "RUNNING")
        hypervolumes = self._growth(results)
        metrics = [
            Scalar(HYPERVOLUME, hypervolumes[step - 1], ended[step - 1].ended_ms or 0, step)
            for step in range(parent.steps + 1, len(ended) + 1)
            if math.isfinite(hypervolumes[step - 1])  # nan: no front yet
        ]
        with tempfile.TemporaryDirectory(prefix="sweeper-record-") as folder:
            pictures.write_tables(Path(folder), results.summary_table)
            view = view_link("", self._store.experiment, self._store.uuid, saved_views.ALL)
            pictures.write_front(Path(folder), results, view)
            self._store.keep_folder(parent, Path(folder))
        links = Links(self._store.experiment, parent.run_id, self._trials.ids)
        tags = {
            NOTE: note.write(results, links, confirmation.read(results.folder)),
            NAMED: json.dumps(self._point(parent, results)),
        }
        self._store.log(parent, metrics, params={}, tags=tags | {STEPS: str(len(ended)), DIGEST: wanted})
        parent.digest, parent.steps = wanted, len(ended)

    def _digest(self, results: Results) -> str:
        """Changes with everything that the parent's run says."""
        confirmed = [each.to_json() for each in confirmation.read(results.folder)]
        return content.digest([[self._trials.digest(t) for t in results.ended], sorted(results.front), confirmed])

    def _growth(self, results: Results) -> list[float]:
        """The hypervolume after each trial that has ended; none is computed twice."""
        self._hypervolumes = results.growth(known=self._hypervolumes)
        return self._hypervolumes

    def _point(self, parent: KnownRun, results: Results) -> dict[str, str]:
        """The registered model's aliases, moved to the present named points."""
        versions = self._trials.versions
        aliases = {label: versions[number] for label, number in results.named.items() if number in versions}
        if aliases != parent.named:
            self._models.point(aliases, parent.named)
            parent.named = aliases
        return aliases

    def _draw(self, parent: KnownRun, results: Results) -> None:
        """Draw pictures and report, unless they show the sweep as it is."""
        wanted = content.digest([self._digest(results), held_out.count(results)])
        if not results.ended or parent.drawn == wanted:
            return
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="sweeper-record-") as folder:
            pictures.draw(Path(folder), results, self._growth(results))
            if results.front:
                (Path(folder) / pictures.REPORT).write_text(pictures.report(results), encoding="utf-8")
            self._store.keep_folder(parent, Path(folder))
        if results.finished:
            self._trials.conclude(parent, results)
        self._store.log(parent, [], params={}, tags={DRAWN: wanted})
        parent.drawn = wanted
        self._draw_at = time.monotonic() + (time.monotonic() - began) / self._share


def open_record(spec: SweepSpec, folder: SweepFolder, uuid: str, permit: Callable[[], None] = lambda: None) -> Record:
    """The record of sweep `uuid`, where its spec says. `permit` is called before each request; it raises to forbid."""
    root = folder.path.parent
    return Record(Store(record_uri(spec, root), spec.name, uuid, root / "mlartifacts", permit))


@dataclass(frozen=True)
class Rebuilt:
    """How many runs were deleted and how many trials written, and where the record is."""

    deleted: int
    written: int
    uri: str

    def __str__(self) -> str:
        return f"{self.written} trials written to {self.uri}, after {self.deleted} runs were deleted."


def rebuild(folder: SweepFolder) -> Rebuilt:
    """Delete this sweep's runs and models, and write them again: the same numbers at the same times.

    It holds the sweep's lease meanwhile. Repeated after a crash, it ends in the same record. MLflow keeps what is
    deleted, hidden, until `mlflow gc`.

    Raises:
        UserError: there is no such sweep, or another process drives it (`lease.Held`).
    """
    spec = open_spec(folder)
    url = study_url(spec, folder)
    lease = Lease(url, spec.name)
    lease.acquire()
    try:
        study = Study(spec, url, guard=lease.check)
        provenance.kept(spec, folder.path)  # described again if the note was lost
        record = open_record(spec, folder, study.uuid)
        deleted = record.forget()
        results = Results.now(folder, spec, study)
        written = record.refresh(results, draw=False)  # status first, pictures last
        record.close(results)
        record.illustrate(results, paused=True)
        return Rebuilt(deleted, written, record_uri(spec, folder.path.parent))
    finally:
        lease.release()


def _made_by(results: Results) -> dict[str, Any]:
    """What made the sweep: commit, code, data, versions."""
    commit = results.provenance.get("commit")
    return {
        "commit": commit,
        "code": results.provenance.get("code", {}).get("digest"),
        "code_changes": results.provenance.get("code_changes", []),
        "dirty": None if commit is None else commit.endswith("-dirty"),
        "dataset": dict(results.dataset),
        "versions": results.provenance.get("versions", {}),
    }


def _data(results: Results) -> Data | None:
    dataset = results.dataset
    if "split_hash" not in dataset:
        return None
    counts = {split: counts["n"] for split, counts in dataset["splits"].items()}
    profile = {"num_rows": sum(counts.values()), **counts, "licence": dataset.get("licence", "unknown")}
    return Data(str(dataset["name"]), str(dataset["split_hash"]), str(dataset["root"]), profile)
