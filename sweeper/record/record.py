"""The MLflow record: one parent run per sweep, in the experiment of its name, and one child run per trial.

It is written, never read for control. What is already there is known from memory, and in a new
process from one search: each run carries, as the last thing written, a digest of what it says. So a
pass costs what changed since the last, and a finished sweep costs one search.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sweeper.record import content, note, pictures, saved_views
from sweeper.record.content import Scalar
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
from sweeper.results import held_out
from sweeper.results.results import Results
from sweeper.spec import loading
from sweeper.spec.model import SweepSpec
from sweeper.state.opening import record_uri
from sweeper.state.sweep_folder import SweepFolder

HYPERVOLUME = "pareto/hypervolume"
DRAWING_SHARE = 0.05  # of the time, at most: pictures take seconds, and more with more trials
_AS_TABLE = json.dumps([{"path": pictures.TABLE, "type": "table"}])


class Record:
    """The record of one sweep in its store. Not for two threads at once; one process writes (the sweep's lease).

    Pictures are drawn again when they are out of date, in at most `drawing_share` of the time, and at the end.
    """

    def __init__(self, store: Store, *, drawing_share: float = DRAWING_SHARE) -> None:
        self._store, self._models = store, Models(store)
        self._parent: KnownRun | None = None
        self._series: list[float] = []  # hypervolumes that are known already
        self._share, self._draw_at = drawing_share, -math.inf

    def refresh(self, results: Results) -> int:
        """Write what the store lacks of these results; how many trials were brought up to date.

        Raises:
            Exception: whatever the store raises. The next call looks at the store again, since a
                request whose reply was lost may have been done.
        """
        try:
            parent = self._open(results)
            changed = self._trials.refresh(parent, results)
            self._summarise(parent, results)
            if time.monotonic() >= self._draw_at:
                self._draw(parent, results)
        except Exception:
            self._parent = None
            raise
        return changed

    def close(self, results: Results) -> None:
        """Nobody works on the sweep from now on: no run of it stays RUNNING."""
        parent = self._open(results)
        self._trials.pause(results.trials)
        last_ms = max((trial.ended_ms or 0 for trial in results.trials), default=0)
        self._store.set_status(parent, "FINISHED" if results.finished else PAUSED, ended_ms=last_ms or None)

    def illustrate(self, results: Results) -> None:
        """The last pictures and report of a finished sweep; of a paused one they are drawn when it goes on."""
        if results.finished:
            self._draw(self._open(results), results)

    def forget(self) -> int:
        """Delete the sweep's runs and models; how many runs there were."""
        self._parent = None
        self._models.forget()
        return self._store.forget()

    def _open(self, results: Results) -> KnownRun:
        """The parent, after a look at everything of this sweep; created where it is missing."""
        if self._parent is None:
            parent, known = self._store.find()
            self._trials = TrialRuns(self._store, self._models, known)
            begun_ms = min((trial.started_ms for trial in results.trials), default=None)
            self._parent = parent or self._store.create(self._store.name, {ROLE: "parent"}, begun_ms=begun_ms)
            self._describe(self._parent, results, begun_ms)
        return self._parent

    def _describe(self, parent: KnownRun, results: Results, begun_ms: int | None) -> None:
        """Spec, provenance, data and saved views; again only if one of them changes."""
        import mlflow  # the store has opened it

        spec, provenance, data = loading.dump(results.spec), _provenance(results), _data(results)
        wanted = content.digest([spec, provenance, vars(data) if data else 0])
        if parent.described == wanted:
            return
        self._store.keep_text(parent, spec, "sweep.yaml")
        self._store.keep_text(parent, json.dumps(provenance, indent=2, default=str), "provenance.json")
        tags = content.provenance({name: value for name, value in provenance.items() if name != "dataset"})
        if data is not None:
            self._store.keep_dataset(parent, data)
            tags |= {"dataset": data.name, "dataset.digest": data.digest}
        if saved_views.understood(mlflow.__version__):
            # MLflow adds a chart for every metric by itself: those of single seeds are folded away.
            folded = [f"seed-{seed}{part}" for seed in results.spec.search.seed_list for part in ("", "/train_loss")]
            objectives, name, uuid = results.spec.objectives, self._store.name, self._store.uuid
            views = saved_views.tags(name, uuid, objectives, content.FILTERABLE, folded, begun_ms or 0)
            self._store.tag_experiment(views)
        self._store.log(parent, [], params={}, tags=tags | {TABLES: _AS_TABLE, DESCRIBED: wanted})
        parent.described = wanted

    def _summarise(self, parent: KnownRun, results: Results) -> None:
        """Note, hypervolume, tables and the named points, after any trial has ended."""
        ended, wanted = results.ended, self._digest(results)
        if not ended or parent.digest == wanted:
            return
        self._store.set_status(parent, "RUNNING")
        series = self._grown(results)
        new = [
            Scalar(HYPERVOLUME, series[step - 1], ended[step - 1].ended_ms or 0, step)
            for step in range(parent.steps + 1, len(ended) + 1)
        ]
        with tempfile.TemporaryDirectory(prefix="sweeper-record-") as folder:
            pictures.write_tables(Path(folder), results.summary_table)
            self._store.keep_folder(parent, Path(folder))
        links = Links(self._store.experiment, parent.run_id, self._trials.ids)
        tags = {NOTE: note.write(results, links), NAMED: json.dumps(self._point(parent, results))}
        metrics = [scalar for scalar in new if math.isfinite(scalar.value)]  # nan: no front yet
        self._store.log(parent, metrics, params={}, tags=tags | {STEPS: str(len(ended)), DIGEST: wanted})
        parent.digest, parent.steps = wanted, len(ended)

    def _digest(self, results: Results) -> str:
        """Changes with all that the parent tells."""
        return content.digest([[self._trials.digest(trial) for trial in results.ended], sorted(results.front)])

    def _grown(self, results: Results) -> list[float]:
        """The hypervolume after each trial that has ended; what is known is not computed again."""
        self._series = results.growth(known=self._series)
        return self._series

    def _point(self, parent: KnownRun, results: Results) -> dict[str, str]:
        """The registered model's aliases, moved to where the names point now."""
        versions = self._trials.versions
        aliases = {label: versions[number] for label, number in results.named.items() if number in versions}
        if aliases != parent.named:
            self._models.point(aliases, parent.named)
            parent.named = aliases
        return aliases

    def _draw(self, parent: KnownRun, results: Results) -> None:
        """Pictures and report, unless they show the sweep as it is."""
        wanted = content.digest([self._digest(results), held_out.count(results)])
        if not results.ended or parent.drawn == wanted:
            return
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="sweeper-record-") as folder:
            pictures.draw(Path(folder), results, self._grown(results))
            if results.front:
                (Path(folder) / pictures.REPORT).write_text(pictures.report(results), encoding="utf-8")
            self._store.keep_folder(parent, Path(folder))
        self._store.log(parent, [], params={}, tags={DRAWN: wanted})
        parent.drawn = wanted
        self._draw_at = time.monotonic() + (time.monotonic() - began) / self._share


def open_record(spec: SweepSpec, folder: SweepFolder, uuid: str, permit: Callable[[], None] = lambda: None) -> Record:
    """The record of sweep `uuid`, where its spec says. `permit` is asked before each request, and may refuse."""
    root = folder.path.parent
    return Record(Store(record_uri(spec, root), spec.name, uuid, root / "mlartifacts", permit))


def _provenance(results: Results) -> dict[str, Any]:
    commit = results.provenance.get("commit")
    return {
        "commit": commit,
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
