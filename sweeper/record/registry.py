"""Members of the front as models of MLflow: one logged model and one registered version each, named points as aliases.

`models:/<sweep>@knee` is then the present knee: what was trained, and a model that `mlflow.pyfunc.load_model` loads in
an environment with the packages of its requirements.txt. What exists is remembered in a tag of the
trial's run, which is written last. Where that tag is missing, the store is asked before anything is created.
"""

from __future__ import annotations

import json
import logging
import platform
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sweeper.models import registered
from sweeper.record import content
from sweeper.record.store import TRIAL, UUID, KnownRun, Store, model_names, owner
from sweeper.results.fit import FitResult
from sweeper.results.results import Results
from sweeper.trial import Trial
from trainables.backbones import find

if TYPE_CHECKING:
    from mlflow.entities import LoggedModel

log = logging.getLogger(__name__)

T = TypeVar("T")
_LACKING = {"ENDPOINT_NOT_FOUND", "FEATURE_DISABLED", "NOT_IMPLEMENTED", "PERMISSION_DENIED"}


class Models:
    """The models of a sweep. A store that keeps no models gets a warning, once, and nothing else."""

    def __init__(self, store: Store) -> None:
        self._store, self._client, self._uuid = store, store.client, store.uuid
        self._name, self._named = store.name, False
        self._lacking = False

    def keep(self, run: KnownRun, trial: Trial, fit: FitResult, results: Results) -> str:
        """The registered version of the trial's model, made of `fit` if it is missing; '' without models."""

        def register() -> str:
            self._claim()
            return self._version(run, self._logged(run, trial, fit, results), trial)

        return self._tried(register, "")

    def point(self, aliases: Mapping[str, str], before: Mapping[str, str]) -> None:
        """Make each alias point at its version, and delete those of `before` that `aliases` lacks."""
        self._claim()
        for alias in before.keys() - aliases.keys():
            self._client.delete_registered_model_alias(self._name, alias)
        for alias, version in aliases.items():
            if before.get(alias) != version:
                self._client.set_registered_model_alias(self._name, alias, version)

    def versions(self) -> int:
        """How many versions are registered."""

        def count() -> int:
            found = (
                self._client.search_model_versions(f"name = '{name}'", max_results=10_000) for name in self._ours()
            )
            return sum(map(len, found))

        return self._tried(count, 0)

    def forget(self) -> None:
        """Delete every model of the sweep."""

        def delete() -> None:
            ours = f"tags.`{UUID}` = '{self._uuid}'"
            while models := self._client.search_logged_models([self._store.experiment], ours):  # a page at a time
                for model in models:
                    self._client.delete_logged_model(model.model_id)
            for name in self._ours():
                self._client.delete_registered_model(name)
            self._named = False

        self._tried(delete, None)

    def _tried(self, work: Callable[[], T], otherwise: T) -> T:
        """What `work` gives, or `otherwise` on a store that keeps no models."""
        from mlflow.exceptions import MlflowException

        if self._lacking:
            return otherwise
        try:
            return work()
        except MlflowException as fault:
            if fault.error_code not in _LACKING:
                raise
            self._lacking = True
            log.warning("record: this MLflow keeps no models (%s). The adapters are artifacts of their runs.", fault)
            return otherwise

    def _ours(self) -> list[str]:
        return [name for name in model_names(self._store.name, self._uuid) if owner(self._client, name) == self._uuid]

    def _claim(self) -> None:
        """The sweep's registered model, made if it is missing. If the name is another sweep's, ours gets a suffix."""
        if self._named:
            return
        for name in model_names(self._store.name, self._uuid):
            found = owner(self._client, name)
            if found is None:
                self._client.create_registered_model(name, tags={UUID: self._uuid})
            if found in (None, self._uuid):
                self._name, self._named = name, True
                return

    def _logged(self, run: KnownRun, trial: Trial, fit: FitResult, results: Results) -> LoggedModel:
        from mlflow.entities import LoggedModelStatus, Metric

        known = self._client.search_logged_models([self._store.experiment], f"source_run_id = '{run.run_id}'")
        model = known[0] if known else self._begin(run, trial)
        if model.status == LoggedModelStatus.READY:
            return model
        with tempfile.TemporaryDirectory(prefix="sweeper-model-") as place:
            folder = Path(place) / "model"
            registered.write(folder, results, trial, fit)
            describe(folder, model.model_id, run.run_id)
            self._client.log_model_artifacts(model.model_id, str(folder))
        numbers = [
            Metric(key, value, time_ms, step, model_id=model.model_id)
            for key, value, time_ms, step in content.main(trial, results.spec.objectives)
        ]
        self._client.log_batch(run.run_id, metrics=numbers)  # the run has them too, with this very time: no second row
        return self._client.finalize_logged_model(model.model_id, "READY")

    def _begin(self, run: KnownRun, trial: Trial) -> LoggedModel:
        name = f"{trial.params.get('method', 'trial')}-{trial.number}"
        tags = {UUID: self._uuid, TRIAL: str(trial.number), "label": trial.label}
        return self._client.create_logged_model(
            self._store.experiment, name, run.run_id, tags, content.params(trial), "adapter"
        )

    def _version(self, run: KnownRun, model: LoggedModel, trial: Trial) -> str:
        for version in self._client.search_model_versions(f"name = '{self._name}' and run_id = '{run.run_id}'"):
            return str(version.version)
        version = self._client.create_model_version(
            self._name,
            model.artifact_location,  # not `models:/<id>`: that is looked up in the process's default store
            run.run_id,
            tags={TRIAL: str(trial.number)},
            description=trial.label,
            await_creation_for=0,
            model_id=model.model_id,
        )
        return str(version.version)


def describe(folder: Path, model_id: str, run_id: str) -> None:
    """Write the MLmodel of what `registered` wrote: a python_function, loaded by the folder's own code, no pickle."""
    import numpy as np
    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, DataType, Schema, TensorSpec

    labels = json.loads((folder / "labels.json").read_text(encoding="utf-8"))
    texts = find(json.loads((folder / "fit.json").read_text(encoding="utf-8"))["backbone"]["name"]).texts
    given = ColSpec(DataType.string, "text") if texts else TensorSpec(np.dtype("uint8"), (-1, -1, -1, 3))
    answers: list[ColSpec | TensorSpec] = [ColSpec(DataType.string, "label")]
    answers += [ColSpec(DataType.double, label) for label in labels]
    model = Model(
        run_id=run_id,
        model_id=model_id,
        model_uuid=model_id,
        signature=ModelSignature(Schema([given]), Schema(answers)),
    )
    release = platform.python_version()
    model.add_flavor(
        "python_function",
        loader_module=registered.LOADER,
        code=registered.CODE,
        data=".",
        python_version=release,
        env={"virtualenv": "python_env.yaml"},
    )
    model.save(str(folder / "MLmodel"))
    (folder / "python_env.yaml").write_text(
        f"python: {release}\ndependencies:\n- -r requirements.txt\n", encoding="utf-8"
    )
