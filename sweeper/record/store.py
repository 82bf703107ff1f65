"""What MLflow holds of one sweep. The only door to mlflow.

A run is found by its tags, never only by a remembered id: a request whose reply was lost may have been carried out. So
where a run exists twice, the earliest is kept and the others are deleted.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit

from sweeper.record.content import Scalar
from sweeper.spec.urls import sqlite_file, sqlite_url
from trainables import files

if TYPE_CHECKING:  # MLflow takes seconds to import, and reads its settings then: see `opened`
    from mlflow import MlflowClient
    from mlflow.entities import Run

UUID, SWEEP, ROLE, TRIAL, DIGEST = (f"sweeper.{key}" for key in ("uuid", "sweep", "role", "trial", "digest"))
WEIGHTS, MODEL, DESCRIBED = "sweeper.weights", "sweeper.model", "sweeper.described"
STEPS, DRAWN, NAMED = "sweeper.steps", "sweeper.drawn", "sweeper.named"
CONFIRMS = "sweeper.confirms"
NOTE, TABLES = "mlflow.note.content", "mlflow.loggedArtifacts"
PAUSED = "SCHEDULED"  # a run that was begun and waits for a resume
_METRICS, _TEXTS, _PAGE = 900, 100, 1000  # MLflow's limits: 1000 entities a request, 100 texts, 1000 runs a page
SETTINGS = {  # so that a dead server fails in seconds, not minutes, and no telemetry is sent
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_PROFILE = 60_000  # characters, below MLflow's 65,535

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Data:
    """A dataset as MLflow keeps it: name, digest, where it is, how many examples of what."""

    name: str
    digest: str
    place: str = ""
    profile: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class KnownRun:
    """What the store is known to hold of one run."""

    run_id: str
    status: str
    digest: str = ""
    pareto: bool = False
    described: str = ""
    weights: bool = False
    model: str = ""
    steps: int = 0
    drawn: str = ""
    named: dict[str, str] = field(default_factory=dict)
    rows: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, run: Run) -> KnownRun:
        """As a search or a creation returned it."""
        tags = run.data.tags
        return cls(
            run_id=run.info.run_id,
            status=run.info.status,
            digest=tags.get(DIGEST, ""),
            pareto=tags.get("pareto") == "true",
            described=tags.get(DESCRIBED, ""),
            weights=tags.get(WEIGHTS) == "true",
            model=tags.get(MODEL, ""),
            steps=int(tags.get(STEPS, 0)),
            drawn=tags.get(DRAWN, ""),
            named=json.loads(tags.get(NAMED, "{}")),
        )


@dataclass(frozen=True)
class Found:
    """The runs of a sweep: its own, those of the trials by number, and those of its confirmations by both numbers."""

    parent: KnownRun | None
    trials: Mapping[int, KnownRun]
    confirmations: Mapping[str, KnownRun]


def opened(uri: str) -> MlflowClient:
    """A client of the store at `uri`.

    It puts SETTINGS into the environment, except those that are set already. MLflow reads some of them when it is
    imported, so nothing in this room imports it earlier.
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    return MlflowClient(uri)


class _Permitted:
    """MLflow's client, with `permit` called before each request: a driver that was taken over writes nothing more."""

    def __init__(self, client: MlflowClient, permit: Callable[[], None]) -> None:
        self._client, self._permit = client, permit

    def __getattr__(self, name: str) -> Callable[..., Any]:
        request = getattr(self._client, name)

        def permitted(*arguments: Any, **options: Any) -> Any:
            self._permit()
            return request(*arguments, **options)

        return permitted


def make_whole(file: Path) -> None:
    """Make a SQLite store with all of MLflow's tables, where there is none, under another name first.

    A process that dies while MLflow makes them, or a disk that fills, would leave a file that MLflow can never use.
    """
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        files.make(unfinished)  # SQLite's own is not as open as the umask allows
        opened(sqlite_url(unfinished)).search_experiments(max_results=1)
        os.link(unfinished, file)
    except Exception:
        if not file.exists():  # else another sweep of this root was quicker
            raise
    finally:
        for own in file.parent.glob(f"{unfinished.name}*"):
            own.unlink(missing_ok=True)
    for leftover in file.parent.glob(f".{file.name}.*"):  # by whoever died; one who is still at it finds `file`
        leftover.unlink(missing_ok=True)


class Store:
    """The runs of one sweep in the store at `uri`. Not for two threads at once.

    The experiment has the sweep's name. In it, the sweep's runs are those with its `uuid`: another sweep of the same
    name has its own runs. A store without a server keeps files in `artifact_root`; a server decides for itself.
    `permit` is called before each request, and raises to forbid it.
    """

    def __init__(
        self, uri: str, name: str, uuid: str, artifact_root: Path, permit: Callable[[], None] = lambda: None
    ) -> None:
        if (file := sqlite_file(uri)) is not None:
            make_whole(file)
        self.client = cast("MlflowClient", _Permitted(opened(uri), permit))
        self.name, self.uuid = name, uuid
        remote = uri.startswith(("http://", "https://"))
        self._artifacts = None if remote else f"{artifact_root.resolve().as_uri()}/{name}"
        self._experiment = ""

    @property
    def experiment(self) -> str:
        """The id of the experiment with the sweep's name; created if it is missing."""
        if not self._experiment:
            experiment = self.client.get_experiment_by_name(self.name)
            if experiment is None:
                self._experiment = str(self.client.create_experiment(self.name, artifact_location=self._artifacts))
            else:
                if experiment.lifecycle_stage == "deleted":
                    self.client.restore_experiment(experiment.experiment_id)
                self._experiment = str(experiment.experiment_id)
        return self._experiment

    def find(self) -> Found:
        """Every run of the sweep, found by one search. Duplicates are deleted."""
        runs: dict[tuple[str, str], list[Run]] = {}
        for run in self._search():
            tags = run.data.tags
            runs.setdefault((tags[ROLE], tags.get(TRIAL) or tags.get(CONFIRMS, "")), []).append(run)
        known = {key: self._only(same) for key, same in runs.items()}
        return Found(
            parent=known.get(("parent", "")),
            trials={int(key): run for (role, key), run in known.items() if role == "trial"},
            confirmations={key: run for (role, key), run in known.items() if role == "confirmation"},
        )

    def forget(self) -> int:
        """Delete every run of the sweep; how many there were."""
        runs = self._search()
        for run in runs:
            self.client.delete_run(run.info.run_id)
        return len(runs)

    def places(self) -> list[Path]:
        """Where files of the sweep's runs and models lie on this disk; none on a server's."""
        if self._artifacts is None:
            return []
        found = [run.info.artifact_uri for run in self._search()]
        ours = f"tags.`{UUID}` = '{self.uuid}'"
        token = None
        while True:
            page = self.client.search_logged_models([self.experiment], ours, page_token=token)
            found += [model.artifact_location for model in page]
            if not (token := page.token):
                break
        paths = [Path(unquote(urlsplit(uri).path)).parent for uri in found]  # `.../ID/artifacts`
        root = Path(unquote(urlsplit(self._artifacts).path))
        return [path for path in paths if path.is_dir() and root in path.parents]

    def drop_experiment(self) -> None:
        """Delete the experiment if no run of another sweep is left in it.

        It gets another name first: one that is restored for a new sweep of the name brings its deleted runs back.
        """
        if not self.client.search_runs([self.experiment], max_results=1):
            self.client.rename_experiment(self.experiment, f"{self.name}-deleted-{secrets.token_hex(8)}")
            self.client.delete_experiment(self.experiment)
            self._experiment = ""

    def _search(self) -> list[Run]:
        runs: list[Run] = []
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment], f"tags.`{UUID}` = '{self.uuid}'", max_results=_PAGE, page_token=token
            )
            runs += page
            token = page.token
            if not token:
                return runs

    def _only(self, same: Sequence[Run]) -> KnownRun:
        """The earliest of runs that say the same, on a tie one with a digest; the others are deleted."""
        first, *others = sorted(same, key=lambda r: (r.info.start_time, DIGEST not in r.data.tags, r.info.run_id))
        for other in others:
            self.client.delete_run(other.info.run_id)
        return KnownRun.of(first)

    def create(self, label: str, tags: Mapping[str, str], *, begun_ms: int | None) -> KnownRun:
        """A new run, RUNNING."""
        tags = {UUID: self.uuid, SWEEP: self.name} | dict(tags)
        return KnownRun.of(self.client.create_run(self.experiment, start_time=begun_ms, tags=tags, run_name=label))

    def set_status(self, run: KnownRun, status: str, *, ended_ms: int | None = None) -> None:
        """Does nothing where the run has that status. `ended_ms` is for a status that ends it; None is now."""
        if run.status == status:
            return
        if status in ("RUNNING", PAUSED):
            self.client.update_run(run.run_id, status=status)
        else:
            self.client.set_terminated(run.run_id, status, end_time=ended_ms)
        run.status = status

    def log(
        self, run: KnownRun, metrics: Sequence[Scalar], *, params: Mapping[str, str], tags: Mapping[str, str]
    ) -> None:
        """Write in as few requests as MLflow allows. The last tag goes last: where it is, all the rest is."""
        from mlflow.entities import Metric, Param, RunTag

        texts = [*(Param(*item) for item in params.items()), *(RunTag(*item) for item in tags.items())]
        metric_pages = [metrics[i : i + _METRICS] for i in range(0, len(metrics), _METRICS)]
        text_pages = [texts[i : i + _TEXTS] for i in range(0, len(texts), _TEXTS)]
        requests = max(len(metric_pages), len(text_pages))
        metric_pages += [[]] * (requests - len(metric_pages))
        text_pages = [[]] * (requests - len(text_pages)) + text_pages
        for metric_page, text_page in zip(metric_pages, text_pages, strict=True):
            self.client.log_batch(
                run.run_id,
                metrics=[Metric(*scalar) for scalar in metric_page],
                params=[text for text in text_page if isinstance(text, Param)],
                tags=[text for text in text_page if isinstance(text, RunTag)],
            )

    def keep_folder(self, run: KnownRun, folder: Path, place: str | None = None) -> None:
        """Write the files of `folder` as artifacts under `place`; those of the same name are replaced."""
        self.client.log_artifacts(run.run_id, str(folder), place)

    def keep_text(self, run: KnownRun, text: str, place: str) -> None:
        """Write `text` as one artifact."""
        self.client.log_text(run.run_id, text, place)

    def keep_dataset(self, run: KnownRun, data: Data) -> None:
        """Write what was trained on, as an input of the run. MLflow's digests hold 36 characters."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        source = json.dumps({"uri": data.place})
        profile = json.dumps(data.profile)[:_PROFILE]
        dataset = Dataset(data.name, data.digest[:36], "local", source, profile=profile)
        self.client.log_inputs(run.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])

    def tag_experiment(self, tags: Mapping[str, str]) -> None:
        """Set tags for the experiment's page. Best effort: only the page's views depend on them."""
        from mlflow.exceptions import MlflowException

        try:
            for key, value in tags.items():
                self.client.set_experiment_tag(self.experiment, key, value)
        except MlflowException as fault:
            log.warning("record: MLflow did not take the saved views (%s). Everything else is there.", fault)


def whereabouts(uri: str, name: str, uuid: str) -> tuple[str, str, str] | None:
    """The ids of experiment and parent run of the sweep `name` with `uuid`, and the name of its registered model.

    None where nothing was recorded yet.

    Raises:
        mlflow.exceptions.MlflowException: the store at `uri` does not answer.
    """
    client = opened(uri)
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return None
    wanted = f"tags.`{UUID}` = '{uuid}' and tags.`{ROLE}` = 'parent'"
    parents = client.search_runs([experiment.experiment_id], wanted, order_by=["start_time"], max_results=1)
    if not parents:
        return None
    model = next((model for model in model_names(name, uuid) if owner(client, model) == uuid), name)
    return str(experiment.experiment_id), str(parents[0].info.run_id), model


def model_names(name: str, uuid: str) -> tuple[str, str]:
    """What the registered model of a sweep may be called: as the sweep, or, where another sweep has that, longer."""
    return name, f"{name}-{uuid[:8]}"


def owner(client: MlflowClient, model: str) -> str | None:
    """The uuid of the sweep whose registered model it is; '' for somebody else's, None where there is none."""
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_registered_model(model).tags.get(UUID, ""))
    except MlflowException as fault:
        if fault.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    return None
