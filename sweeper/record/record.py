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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import mlflow
import pandas as pd

from sweeper.record import content, pictures, saved_views
from sweeper.record.content import FitView, Scalar
from sweeper.record.note import Place
from sweeper.record.registry import Models
from sweeper.record.store import DESCRIBED, DIGEST, DRAWN, NAMED, NOTE, PAUSED, ROLE, STEPS, TABLES, Data, Held, Runs
from sweeper.record.trial_runs import Children
from sweeper.trial import Trial

HYPERVOLUME = "pareto/hypervolume"
DRAWING_SHARE = 0.05  # of the time, at most: pictures take seconds, and more with more trials
_AS_TABLE = json.dumps([{"path": pictures.TABLE, "type": "table"}])


@dataclass(frozen=True)
class Source:
    """All that the record reads of a sweep: a narrow view, so that it depends on no other part.

    `uuid` tells the sweep from others of its name. `fits` gives what there is of a trial's fits so far; `table` one
    row per trial, as `figures.front_numbers` takes it; `hypervolume` that of the front of the given trials
    (nan where they have none); `named` the trials of the front that have a name (`knee`, ...); `note` the parent's
    note; `report` a page that tells all ('' where there is nothing to tell), which also changes with `tested`, the
    number of fits measured on the test split. Charts of metrics whose prefix is `folded` are not shown at first.
    `permit` is asked before each request, and raises to forbid it.
    """

    name: str
    uuid: str
    spec_yaml: str
    objectives: Mapping[str, Literal["min", "max"]]
    budget: int
    fits: Callable[[int], Sequence[FitView]]
    table: Callable[[Sequence[Trial], Sequence[int]], pd.DataFrame]
    hypervolume: Callable[[Sequence[Trial]], float]
    named: Callable[[Sequence[Trial], Sequence[int]], Mapping[str, int]]
    note: Callable[[Sequence[Trial], Sequence[int], Place], str]
    report: Callable[[Sequence[Trial], Sequence[int]], str] = lambda trials, front: ""
    tested: Callable[[], int] = lambda: 0
    folded: Sequence[str] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    dataset: Data | None = None
    permit: Callable[[], None] = lambda: None


class Record:
    """The record of one sweep. Not for two threads at once; one process writes (the sweep's lease).

    `artifact_root` is where a store without a server keeps files; a server decides for itself (None).
    Pictures are drawn again when they are out of date, in at most `drawing_share` of the time, and at the end.
    """

    def __init__(
        self, source: Source, uri: str, *, artifact_root: Path | None = None, drawing_share: float = DRAWING_SHARE
    ) -> None:
        self.source = source
        self._runs = Runs(uri, source.name, source.uuid, artifact_root, source.permit)
        self._models = Models(self._runs.client, source.name, source.uuid)
        self._parent: Held | None = None
        self._series: list[float] = []
        self._share, self._draw_at = drawing_share, -math.inf

    def refresh(self, trials: Sequence[Trial], front: Sequence[int]) -> int:
        """Write what the store lacks of these trials; how many were brought up to date.

        Raises:
            Exception: whatever the store raises. The next call looks at the store anew, since a
                request whose reply was lost may have been done.
        """
        try:
            parent = self._open(trials)
            members = set(front)
            stale = [trial for trial in trials if self._children.stale(trial, trial.number in members)]
            changed = sum(self._children.project(parent, trial, trial.number in members) for trial in stale)
            self._summarise(parent, trials, front)
            if time.monotonic() >= self._draw_at:
                self._draw(parent, trials, front)
        except Exception:
            self._parent = None
            raise
        return changed

    def close(self, trials: Sequence[Trial]) -> None:
        """Nobody works on the sweep from now on: no run of it stays RUNNING."""
        parent = self._open(trials)
        self._children.pause(trials)
        done = self._done(trials)
        last = max((trial.ended_ms or 0 for trial in trials), default=0)
        self._runs.set_status(parent, "FINISHED" if done else PAUSED, ended_ms=last or None)

    def illustrate(self, trials: Sequence[Trial], front: Sequence[int]) -> None:
        """The last pictures and report of a finished sweep; of a paused one they are drawn when it goes on."""
        if self._done(trials):
            self._draw(self._open(trials), trials, front)

    def _done(self, trials: Sequence[Trial]) -> bool:
        return len(trials) >= self.source.budget and all(trial.state.finished for trial in trials)

    def forget(self) -> int:
        """Delete the sweep's runs and models; how many runs there were."""
        self._parent = None
        self._models.forget(self._runs.experiment)
        return self._runs.forget()

    def _open(self, trials: Sequence[Trial]) -> Held:
        """The parent, after a look at everything of this sweep; created where it is missing."""
        if self._parent is None:
            parent, children = self._runs.find()
            self._children = Children(self._runs, self._models, self.source.fits, children)
            begun = min((trial.started_ms for trial in trials), default=None)
            self._parent = parent or self._runs.create(self.source.name, {ROLE: "parent"}, begun_ms=begun)
            self._describe(self._parent, begun)
        return self._parent

    def _describe(self, parent: Held, begun_ms: int | None) -> None:
        """Spec, provenance, data and saved views; again only if one of them changes."""
        source = self.source
        wanted = content.digest([source.spec_yaml, source.provenance, vars(source.dataset) if source.dataset else 0])
        if parent.described == wanted:
            return
        self._runs.keep_text(parent, source.spec_yaml, "sweep.yaml")
        self._runs.keep_text(parent, json.dumps(dict(source.provenance), indent=2, default=str), "provenance.json")
        tags = content.flat({name: told for name, told in source.provenance.items() if name != "dataset"})
        if source.dataset is not None:
            self._runs.keep_dataset(parent, source.dataset)
            tags |= {"dataset": source.dataset.name, "dataset.digest": source.dataset.digest}
        if saved_views.understood(mlflow.__version__):
            saved = saved_views.tags(
                source.name, source.uuid, source.objectives, content.FILTERABLE, source.folded, begun_ms or 0
            )
            self._runs.tag_experiment(saved)
        self._runs.log(parent, [], params={}, tags=tags | {TABLES: _AS_TABLE, DESCRIBED: wanted})
        parent.described = wanted

    def _summarise(self, parent: Held, trials: Sequence[Trial], front: Sequence[int]) -> None:
        """Note, hypervolume, tables and the named points, after any trial has ended."""
        ended, wanted = self._state(trials, front)
        if not ended or parent.digest == wanted:
            return
        self._runs.set_status(parent, "RUNNING")
        series = self._grown(ended)
        new = [
            Scalar(HYPERVOLUME, series[step - 1], ended[step - 1].ended_ms or 0, step)
            for step in range(parent.steps + 1, len(ended) + 1)
        ]
        with tempfile.TemporaryDirectory(prefix="sweeper-record-") as folder:
            pictures.write_tables(Path(folder), self.source.table(trials, front))
            self._runs.keep_folder(parent, Path(folder))
        place = Place(self._runs.experiment, parent.run_id, self._children.ids)
        tags = {NOTE: self.source.note(trials, front, place), NAMED: json.dumps(self._point(parent, trials, front))}
        metrics = [scalar for scalar in new if math.isfinite(scalar.value)]  # nan: no front yet
        self._runs.log(parent, metrics, params={}, tags=tags | {STEPS: str(len(ended)), DIGEST: wanted})
        parent.digest, parent.steps = wanted, len(ended)

    def _state(self, trials: Sequence[Trial], front: Sequence[int]) -> tuple[list[Trial], str]:
        """The trials that have ended, in that order, and a digest of all that the parent tells."""
        ended = sorted((t for t in trials if t.state.finished), key=lambda t: (t.ended_ms or 0, t.number))
        return ended, content.digest([[self._children.digest(trial) for trial in ended], sorted(front)])

    def _grown(self, ended: Sequence[Trial]) -> list[float]:
        """The hypervolume after each trial that has ended; what is known is not computed again."""
        for count in range(len(self._series), len(ended)):
            self._series.append(self.source.hypervolume(ended[: count + 1]))
        return self._series

    def _point(self, parent: Held, trials: Sequence[Trial], front: Sequence[int]) -> dict[str, str]:
        """The registered model's aliases, moved to where the names point now."""
        versions = self._children.versions
        named = self.source.named(trials, front)
        aliases = {label: versions[number] for label, number in named.items() if number in versions}
        if aliases != parent.named:
            self._models.point(aliases, parent.named)
            parent.named = aliases
        return aliases

    def _draw(self, parent: Held, trials: Sequence[Trial], front: Sequence[int]) -> None:
        """Pictures and report, unless they show the sweep as it is."""
        ended, told = self._state(trials, front)
        wanted = content.digest([told, self.source.tested()])
        if not ended or parent.drawn == wanted:
            return
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="sweeper-record-") as folder:
            table = self.source.table(trials, front)
            pictures.draw(Path(folder), self.source.name, table, self.source.objectives, self._grown(ended))
            if page := self.source.report(trials, front):
                (Path(folder) / pictures.REPORT).write_text(page, encoding="utf-8")
            self._runs.keep_folder(parent, Path(folder))
        self._runs.log(parent, [], params={}, tags={DRAWN: wanted})
        parent.drawn = wanted
        self._draw_at = time.monotonic() + (time.monotonic() - began) / self._share
