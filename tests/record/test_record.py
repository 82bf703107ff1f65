"""The MLflow record against a real SQLite store: one run per trial whatever happens, and nothing twice."""

from __future__ import annotations

import json
import math
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import mlflow
import numpy as np
import pytest
import safetensors.numpy
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ENDPOINT_NOT_FOUND

from sweeper.errors import UserError
from sweeper.record import content, links, pictures, saved_views
from sweeper.record import store as runs
from sweeper.record.background import Projector
from sweeper.record.record import HYPERVOLUME, Record
from sweeper.record.serving import server
from sweeper.record.store import DIGEST, TRIAL, Store
from sweeper.results.fit import FitResult
from sweeper.results.results import Results
from sweeper.spec import loading
from sweeper.state.atomic import write_json
from sweeper.state.sweep_folder import SweepFolder
from sweeper.trial import State, Trial

T0 = 1_700_000_000_000
SPEC = """
name: {name}
groups: cell
space: {{method: fairlora, lambda: [0.5, 1], rank: [8, 16]}}
objectives: {objectives}
search: {{sampler: random, trials: {budget}, seeds: 2, baselines: [], reference: {reference}}}
"""
PROVENANCE = {
    "commit": "abc",
    "dataset": {
        "name": "digits-on-scenes", "split_hash": "0123456789abcdef", "root": "/data", "splits": {"train": {"n": 5}}
    },
    "versions": {"torch": "2"},
}  # fmt: skip
Real, report = mlflow.MlflowClient, pictures.report
DEAD = "http://127.0.0.1:9"  # the discard port: nobody listens


class Flaky:
    """A real client that counts its calls, and loses the reply of the n-th `lost` one, or refuses all."""

    calls: ClassVar[Counter[str]] = Counter()
    lost: ClassVar[dict[str, int]] = {}
    down = False

    def __init__(self, uri: str) -> None:
        self._real = Real(uri)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if Flaky.down:
                raise ConnectionError("the store is away")
            Flaky.calls[name] += 1
            answer = getattr(self._real, name)(*args, **kwargs)
            if Flaky.calls[name] == Flaky.lost.get(name):
                raise ConnectionError("the reply was lost")
            return answer

        return call


@pytest.fixture(autouse=True)
def flaky(monkeypatch: pytest.MonkeyPatch) -> type[Flaky]:
    Flaky.calls, Flaky.lost, Flaky.down = Counter(), {}, False
    monkeypatch.setattr(mlflow, "MlflowClient", Flaky)
    monkeypatch.setattr(pictures, "report", lambda results: "a page")  # seconds each; one test below has the real one
    return Flaky


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


class Sweep:
    """A sweep of made-up trials, and what MLflow says of it."""

    def __init__(self, store: Path, name: str, budget: int = 4) -> None:
        self.uri = f"sqlite:///{store / 'mlflow.db'}"
        self.client = Real(self.uri)
        self.store, self.name, self.uuid, self.budget = store, name, f"uuid-of-{name}", budget
        self.trials: list[Trial] = []
        self.front: list[int] = []
        self.objectives = {"accuracy": "max", "delta_f1": "min"}
        self.folder = SweepFolder(Path(tempfile.mkdtemp(dir=store)), token=1)
        write_json(self.folder.path / "provenance.json", PROVENANCE)

    def record(self, uri: str | None = None, *, share: float = 1.0) -> Record:
        store = Store(uri or self.uri, self.name, self.uuid, self.store / "mlartifacts")
        return Record(store, drawing_share=share)

    def results(self, front: list[int] | None = None) -> Results:
        reference = {name: {"accuracy": 0.8, "delta_f1": 0.3}[name] for name in self.objectives}
        given = {"objectives": json.dumps(self.objectives), "reference": json.dumps(reference)}
        text = SPEC.format(name=self.name, budget=self.budget, **given)
        return Results(self.folder, loading.parse(text), list(self.trials), self.front if front is None else front)

    def add(self, number: int, state: State = State.COMPLETE, *, epochs: int = 2, **over: Any) -> None:
        done = state is not State.RUNNING
        self.trials = [t for t in self.trials if t.number != number]
        self.trials.append(
            Trial(
                number=number,
                state=state,
                params={"method": "fairlora", "lambda": 0.5, "rank": 8 + number, "learning_rate": 1e-3},
                values={"accuracy": 0.9, "delta_f1": 0.1} if done else {},
                metrics={"accuracy": 0.9, "delta_f1": 0.1, "loss": 0.5, "eod": math.nan} if done else {},
                spread={"accuracy": 0.01, "delta_f1": 0.02, "eod": math.nan} if done else {},
                seeds=2,
                seed_list=(0, 1),
                started_ms=T0 + 1000 * number,
                ended_ms=T0 + 1000 * number + 500 if done else None,
                **over,
            )
        )
        self.trials.sort(key=lambda t: t.number)
        groups = [{"kind": "cell", "name": "gull [land]", "n": 10, "recall": 0.5, "f1": None}] if done else []
        for seed in (0, 1):
            values = {"accuracy": 0.9 - 0.02 * seed, "delta_f1": 0.1}
            self.fit(number, seed, history(number, epochs), {"values": values, "groups": groups} if done else None)

    def fit(self, number: int, seed: int, epochs: list[dict[str, Any]], result: dict[str, Any] | None) -> None:
        """What an actor leaves of a fit: a checkpoint, or at its end the result; and weights."""
        fit = self.folder.fit(number, seed)
        fit.weights.mkdir(parents=True, exist_ok=True)
        for name in ("adapter_model.safetensors", "adapter_config.json", "head.safetensors"):
            (fit.weights / name).write_text("made up")
        if result is None:
            meta = {"meta": json.dumps({"history": epochs, "seconds": 1.0})}
            fit.save_checkpoint(len(epochs), safetensors.numpy.save({"x": np.zeros(1)}, meta))
        else:
            rest = {"reasons": {}, "provenance": {"device": "cpu"}, "seconds": 2.0, "error": None}
            fit.write_result(rest | {"history": epochs} | result)

    def runs(self) -> list[Run]:
        experiment = self.client.get_experiment_by_name(self.name)
        assert experiment is not None
        found = self.client.search_runs([experiment.experiment_id], max_results=1000)
        return [run for run in found if run.data.tags["sweeper.uuid"] == self.uuid]

    def children(self) -> dict[int, Run]:
        found = [run for run in self.runs() if TRIAL in run.data.tags]
        assert len({run.data.tags[TRIAL] for run in found}) == len(found), "a trial has two runs"
        return {int(run.data.tags[TRIAL]): run for run in found}

    def parent(self) -> Run:
        (parent,) = [run for run in self.runs() if run.data.tags["sweeper.role"] == "parent"]
        return parent

    def artifacts(self, run: Run, place: str | None = None) -> set[str]:
        return {file.path for file in self.client.list_artifacts(run.info.run_id, place)}


def history(number: int, epochs: int) -> list[dict[str, Any]]:
    return [
        {"epoch": e, "time_ms": T0 + 1000 * number + e, "train_loss": 1 / e, "val_accuracy": 0.5, "val_eod": None}
        for e in range(1, epochs + 1)
    ]


@pytest.fixture
def sweep(store: Path, request: pytest.FixtureRequest) -> Sweep:
    made = Sweep(store, f"sweep-{zlib.crc32(request.node.name.encode())}")
    made.add(0, baseline="lora", feasible=False)  # no front before trial 1
    made.add(1)
    made.front = [1]
    return made


def test_a_trial_has_one_run_with_its_params_metrics_groups_and_tags(sweep: Sweep) -> None:
    assert sweep.record().refresh(sweep.results()) == 2
    run = sweep.children()[1]
    assert run.info.status == "FINISHED"
    assert (run.info.start_time, run.info.end_time) == (T0 + 1000, T0 + 1500)
    assert run.info.run_name == "fairlora λ=0.5 r=9"
    assert run.data.params == {"method": "fairlora", "lambda": "0.5", "rank": "9", "learning_rate": "0.001"}
    assert run.data.metrics == {
        "lambda": 0.5, "log10_lambda": pytest.approx(-0.30103), "rank": 9,
        "val/loss": 0.5, "accuracy": 0.9, "accuracy_std": 0.01, "delta_f1": 0.1, "delta_f1_std": 0.02,
        "seconds": 4.0, "group/cell/gull :5bland:5d/n": 10, "group/cell/gull :5bland:5d/recall": 0.5,
        "seed-0/train_loss": 0.5, "seed-0/val_accuracy": 0.5, "seed-1/train_loss": 0.5, "seed-1/val_accuracy": 0.5,
    }  # fmt: skip
    told = {key: run.data.tags[key] for key in ("pareto", "method", "baseline", "state", "provenance.device")}
    assert told == {"pareto": "true", "method": "fairlora", "baseline": "none", "state": "complete"} | {
        "provenance.device": "cpu"
    }
    assert run.data.tags["mlflow.parentRunId"] == sweep.parent().info.run_id
    assert sweep.children()[0].data.tags["baseline"] == "lora"


def test_a_trials_note_says_what_it_is_whether_it_is_on_the_front_and_by_how_much_it_is_ahead(sweep: Sweep) -> None:
    record = sweep.record(share=1e-9)
    sweep.add(0, baseline="lora")
    for seed, accuracy in ((0, 0.80), (1, 0.82)):
        sweep.fit(0, seed, [], {"values": {"accuracy": accuracy, "delta_f1": 0.1}, "groups": []})
    record.refresh(sweep.results([0]))
    sweep.add(2, State.FAILED, reason="diverged: the loss became nan")
    record.refresh(sweep.results([1]))

    def note(number: int) -> str:
        return sweep.children()[number].data.tags["mlflow.note.content"]

    assert "baseline, not on the front" in note(0)
    assert "on the front (knee, most-accurate, fairest)." in note(1)
    assert f"runs/{sweep.parent().info.run_id}?" in note(1)
    # 0.90 and 0.88 less 0.80 and 0.82: 0.08 ± 12.706 x 0.0283 / sqrt(2)
    assert "(95 %: -0.174 … +0.334)" in note(1)
    assert "failed: diverged: the loss became nan." in note(2)


def test_a_finished_sweeps_trials_have_test_numbers_and_their_chances(sweep: Sweep) -> None:
    sweep.budget = 2
    for seed in (0, 1):
        path = sweep.folder.held_out(1, seed)
        write_json(path, {"values": {"accuracy": 0.7 + 0.1 * seed, "delta_f1": 0.1}, "groups": []})
    sweep.record().refresh(sweep.results())
    run = sweep.children()[1]
    tested = {name: value for name, value in run.data.metrics.items() if name.startswith("test/")}
    assert tested == {
        "test/accuracy": pytest.approx(0.75), "test/accuracy_std": pytest.approx(0.0707, abs=1e-4),
        "test/delta_f1": 0.1, "test/delta_f1_std": 0,
    }  # fmt: skip
    assert (
        "on the true front with a chance of 100%, with the noise of the 2 seeds" in run.data.tags["mlflow.note.content"]
    )


def test_the_parent_holds_spec_data_front_pictures_and_hypervolume_by_trial(sweep: Sweep) -> None:
    sweep.record().refresh(sweep.results())
    parent = sweep.parent()
    expected = {"sweep.yaml", "provenance.json", "trials.csv", "front.csv", "front.json", "front.html", "front.png"}
    assert expected | {"report.html"} | {
        "front.svg",
        "front-small.png",
        "hypervolume.png",
        "trials.json",
    } == sweep.artifacts(parent)
    local = Path(sweep.client.download_artifacts(parent.info.run_id, "front.json"))
    assert [row["number"] for row in json.loads(local.read_text())] == [1]
    steps = sweep.client.get_metric_history(parent.info.run_id, HYPERVOLUME)
    (step,) = steps  # no front yet after the first trial
    assert (step.step, step.value, step.timestamp) == (2, pytest.approx(0.02), T0 + 1500)
    (data,) = parent.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("digits-on-scenes", "0123456789abcdef")
    assert parent.data.tags["provenance.versions.torch"] == "2"


def test_only_front_members_carry_their_adapters(sweep: Sweep) -> None:
    sweep.record().refresh(sweep.results())
    children = sweep.children()
    assert sweep.artifacts(children[0]) == set()
    place = "adapter/seed-1"
    names = {f"{place}/{n}" for n in ("adapter_model.safetensors", "adapter_config.json", "head.safetensors")}
    assert sweep.artifacts(children[1], place) == names


@pytest.mark.parametrize("fresh", [False, True], ids=["same-process", "new-process"])
def test_pareto_tags_follow_the_front(sweep: Sweep, fresh: bool) -> None:
    record = sweep.record()
    record.refresh(sweep.results([0]))
    record = sweep.record() if fresh else record
    assert record.refresh(sweep.results([1])) == 2
    children = sweep.children()
    assert {n: run.data.tags["pareto"] for n, run in children.items()} == {0: "false", 1: "true"}
    assert sweep.artifacts(children[1], "adapter") == {"adapter/seed-0", "adapter/seed-1"}


def test_a_planted_duplicate_is_deleted_and_the_earliest_run_stays(sweep: Sweep) -> None:
    sweep.record().refresh(sweep.results())
    original = sweep.children()[1]
    tags = {key: original.data.tags[key] for key in ("sweeper.uuid", "sweeper.sweep", "sweeper.role", TRIAL)}
    sweep.client.create_run(original.info.experiment_id, start_time=T0 + 9000, tags=tags)
    sweep.record().refresh(sweep.results())
    assert sweep.children()[1].info.run_id == original.info.run_id


def test_of_two_runs_begun_in_the_same_millisecond_the_fuller_one_stays(sweep: Sweep) -> None:
    sweep.record().refresh(sweep.results())
    original = sweep.children()[1]
    tags = {key: original.data.tags[key] for key in ("sweeper.uuid", "sweeper.sweep", "sweeper.role", TRIAL)}
    for _ in range(4):
        sweep.client.create_run(original.info.experiment_id, start_time=original.info.start_time, tags=tags)
    sweep.record().refresh(sweep.results())
    assert sweep.children()[1].info.run_id == original.info.run_id


@pytest.mark.parametrize(
    ("call", "nth"),
    [
        *(("create_experiment", 1), ("create_run", 1), ("create_run", 2), ("create_run", 3)),
        *(("log_batch", 1), ("log_batch", 2), ("log_batch", 4), ("set_terminated", 1), ("log_artifacts", 1)),
    ],
)
def test_a_lost_reply_leaves_one_run_per_trial_and_each_number_once(
    sweep: Sweep, flaky: type[Flaky], call: str, nth: int
) -> None:
    record = sweep.record()
    flaky.lost = {call: nth}
    with pytest.raises(ConnectionError, match="reply was lost"):
        record.refresh(sweep.results())
    record.refresh(sweep.results())
    children = sweep.children()
    assert set(children) == {0, 1}
    assert all(run.data.tags[DIGEST] for run in children.values())
    rows = sweep.client.get_metric_history(children[1].info.run_id, "seed-0/train_loss")
    assert [(row.step, row.timestamp) for row in rows] == [(1, T0 + 1001), (2, T0 + 1002)]
    assert sweep.parent().data.metrics == {HYPERVOLUME: pytest.approx(0.02)}


def test_a_second_sweep_of_one_name_has_a_parent_and_runs_of_its_own(sweep: Sweep) -> None:
    sweep.record().refresh(sweep.results())
    other = Sweep(sweep.store, sweep.name)
    other.uuid = "another"
    other.add(0, baseline="fft")
    other.record().refresh(other.results([0]))
    assert {sweep.parent().info.experiment_id} == {run.info.experiment_id for run in other.runs()}
    assert (set(sweep.children()), set(other.children())) == ({0, 1}, {0})
    assert sweep.parent().info.run_id != other.parent().info.run_id
    assert [s.children()[0].data.tags["baseline"] for s in (sweep, other)] == ["lora", "fft"]


def test_a_replay_from_nothing_known_makes_no_second_row(sweep: Sweep) -> None:
    sweep.record().refresh(sweep.results())
    run_id = sweep.children()[1].info.run_id
    sweep.client.set_tag(run_id, DIGEST, "forgotten")
    assert sweep.record().refresh(sweep.results()) == 1
    for key, count in {"seed-0/train_loss": 2, "accuracy": 1, "lambda": 1}.items():
        assert len(sweep.client.get_metric_history(run_id, key)) == count


def test_a_new_process_on_a_finished_sweep_searches_once_and_writes_nothing(sweep: Sweep, flaky: type[Flaky]) -> None:
    sweep.budget = 2
    first = sweep.record()
    first.refresh(sweep.results())
    first.close(sweep.results())
    flaky.calls.clear()
    second = sweep.record()
    assert second.refresh(sweep.results()) == 0
    second.close(sweep.results())
    assert dict(flaky.calls) == {"get_experiment_by_name": 1, "search_runs": 1}


def test_nothing_new_costs_nothing(sweep: Sweep, flaky: type[Flaky]) -> None:
    sweep.add(2, State.RUNNING)
    record = sweep.record()
    record.refresh(sweep.results())
    flaky.calls.clear()
    assert record.refresh(sweep.results()) == 0
    assert not flaky.calls


def test_a_running_trial_is_followed_epoch_by_epoch_in_one_request_each(sweep: Sweep, flaky: type[Flaky]) -> None:
    sweep.add(2, State.RUNNING, epochs=1)
    record = sweep.record()
    record.refresh(sweep.results())
    assert sweep.children()[2].info.status == "RUNNING"
    assert sweep.children()[2].data.params["rank"] == "10"
    sweep.add(2, State.RUNNING, epochs=3)
    flaky.calls.clear()
    assert record.refresh(sweep.results()) == 1
    assert dict(flaky.calls) == {"log_batch": 1}
    rows = sweep.client.get_metric_history(sweep.children()[2].info.run_id, "seed-1/val_accuracy")
    assert [row.step for row in rows] == [1, 2, 3]


def test_no_run_stays_running_after_an_interruption_and_a_resume_opens_it_again(sweep: Sweep) -> None:
    sweep.add(2, State.RUNNING)
    record = sweep.record()
    record.refresh(sweep.results())
    record.close(sweep.results())
    assert (sweep.children()[2].info.status, sweep.parent().info.status) == ("SCHEDULED", "SCHEDULED")
    resumed = sweep.record()
    resumed.refresh(sweep.results())
    assert (sweep.children()[2].info.status, sweep.parent().info.status) == ("RUNNING", "RUNNING")
    sweep.add(2)
    sweep.add(3)
    resumed.refresh(sweep.results())
    resumed.close(sweep.results())
    assert {run.info.status for run in sweep.runs()} == {"FINISHED"}


def test_how_a_trial_ended_is_its_status_and_its_reason(sweep: Sweep) -> None:
    sweep.add(2, State.FAILED, reason="diverged: " + "x" * 9000)
    sweep.add(3, State.PRUNED, reason="hopeless")
    sweep.record().refresh(sweep.results())
    children = sweep.children()
    assert [children[n].info.status for n in (2, 3)] == ["FAILED", "KILLED"]
    assert children[2].data.tags["reason"].startswith("diverged: xxx")
    assert children[2].data.tags["reason"].endswith("…")


def test_a_sweep_with_one_objective_is_recorded_without_a_front_picture(sweep: Sweep) -> None:
    sweep.objectives = {"accuracy": "max"}
    sweep.record().refresh(sweep.results())
    assert "front.png" not in sweep.artifacts(sweep.parent())
    assert "front.csv" in sweep.artifacts(sweep.parent())


def test_more_numbers_than_a_request_holds_go_in_few_requests(sweep: Sweep, flaky: type[Flaky]) -> None:
    record = sweep.record(share=1e-9)  # no second picture
    record.refresh(sweep.results())
    sweep.add(2, epochs=1000)  # 2 seeds x 1000 epochs x 2 numbers
    flaky.calls.clear()
    record.refresh(sweep.results())
    assert flaky.calls["log_batch"] == 5 + 1  # ceil(4000 / 900), and the parent's
    assert len(sweep.client.get_metric_history(sweep.children()[2].info.run_id, "seed-0/train_loss")) == 1000


def test_one_more_trial_costs_the_same_calls_after_40_as_after_4(sweep: Sweep, flaky: type[Flaky]) -> None:
    record, costs = sweep.record(share=1e-9), []
    for upto in (4, 40):
        for number in range(upto):
            sweep.add(number)
        record.refresh(sweep.results())
        flaky.calls.clear()
        sweep.add(upto)
        record.refresh(sweep.results())
        costs.append(dict(flaky.calls))
    assert costs[0] == costs[1] == {"create_run": 1, "log_batch": 2, "set_terminated": 1, "log_artifacts": 1}


# --- the front, followed


def test_the_trials_are_a_table_that_is_replaced_and_the_note_links_to_the_front(sweep: Sweep) -> None:
    record = sweep.record()
    for trial in (2, 3):
        record.refresh(sweep.results())
        sweep.add(trial)
    record.refresh(sweep.results([3]))
    parent, run = sweep.parent(), sweep.children()[3].info
    shown = json.loads(Path(sweep.client.download_artifacts(parent.info.run_id, "trials.json")).read_text())
    assert [dict(zip(shown["columns"], row, strict=True))["number"] for row in shown["data"]] == [0, 1, 2, 3]
    assert json.loads(parent.data.tags["mlflow.loggedArtifacts"]) == [{"path": "trials.json", "type": "table"}]
    assert f"[3](#/experiments/{run.experiment_id}/runs/{run.run_id}?" in parent.data.tags["mlflow.note.content"]


def test_a_front_member_is_a_model_with_its_numbers_and_the_typical_seeds_adapter(sweep: Sweep) -> None:
    sweep.record().refresh(sweep.results())
    run = sweep.children()[1].info
    (model,) = sweep.client.search_logged_models([run.experiment_id], f"source_run_id = '{run.run_id}'")
    assert (model.status, model.params["rank"]) == ("READY", "9")
    assert {m.key: m.value for m in model.metrics} == {"accuracy": 0.9, "delta_f1": 0.1}
    assert "adapter_config.json" in {
        Path(f.path).name for f in sweep.client.list_logged_model_artifacts(model.model_id)
    }
    (found,) = sweep.client.search_logged_models([run.experiment_id], "metrics.accuracy > 0.8 AND params.rank = '9'")
    assert found.model_id == model.model_id


@pytest.mark.parametrize("fresh", [False, True], ids=["same-process", "new-process"])
def test_the_alias_follows_the_knee_and_goes_with_the_front(sweep: Sweep, fresh: bool) -> None:
    name = sweep.name
    record = sweep.record()
    seen = []
    for front in ([0], [1], [0, 1], []):
        record.refresh(sweep.results(front))
        record = sweep.record() if fresh else record
        aliases = sweep.client.get_registered_model(name).aliases
        seen.append({alias: sweep.client.get_model_version(name, v).tags[TRIAL] for alias, v in aliases.items()})
    names = ("knee", "most-accurate", "fairest")
    assert seen == [dict.fromkeys(names, "0"), dict.fromkeys(names, "1"), dict.fromkeys(names, "0"), {}]
    assert len(sweep.client.search_model_versions(f"name = '{name}'")) == 2


def test_models_of_a_second_sweep_of_one_name_are_kept_apart(sweep: Sweep) -> None:
    sweep.record().refresh(sweep.results([1]))
    other = Sweep(sweep.store, sweep.name)
    other.uuid = "another-sweep"
    other.add(0)
    other.record().refresh(other.results([0]))
    assert sweep.client.get_model_version_by_alias(sweep.name, "knee").tags[TRIAL] == "1"
    assert sweep.client.get_model_version_by_alias(f"{sweep.name}-another-", "knee").tags[TRIAL] == "0"


def test_a_lost_reply_leaves_one_model_per_member(sweep: Sweep, flaky: type[Flaky]) -> None:
    for call in ("create_registered_model", "create_logged_model", "finalize_logged_model", "create_model_version"):
        record, flaky.calls, flaky.lost = sweep.record(), Counter(), {call: 1}
        with pytest.raises(ConnectionError, match="reply was lost"):
            record.refresh(sweep.results())
    record.refresh(sweep.results())
    experiment = sweep.parent().info.experiment_id
    (model,) = sweep.client.search_logged_models([experiment], f"tags.`sweeper.uuid` = '{sweep.uuid}'")
    assert model.status == "READY"
    assert len(sweep.client.search_model_versions(f"name = '{sweep.name}'")) == 1


def test_a_store_without_models_is_told_once_and_keeps_everything_else(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise MlflowException("no such endpoint", error_code=ENDPOINT_NOT_FOUND)

    monkeypatch.setattr(Real, "create_logged_model", refuse)
    sweep.record().refresh(sweep.results([0, 1]))
    assert sum("keeps no models" in line for line in caplog.messages) == 1
    assert "adapter/seed-0" in sweep.artifacts(sweep.children()[1], "adapter")


def test_pictures_are_paced_the_page_of_the_front_is_not_and_the_last_ones_are_of_the_finished_sweep(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "report", lambda results: f"front: {list(results.front)}")
    record = sweep.record(share=1e-9)

    def shown(page: str) -> str:
        path = sweep.client.download_artifacts(sweep.parent().info.run_id, page)
        return Path(path).read_text(encoding="utf-8")

    def front() -> list[int]:
        (drawn,) = re.findall('class="explorer">(.*?)</script>', shown("front.html"))
        told = json.loads(drawn)
        return [row[0] for row, place in zip(told["rows"], told["place"], strict=True) if place == "front"]

    record.refresh(sweep.results())
    sweep.add(2)
    record.refresh(sweep.results([2]))
    record.illustrate(sweep.results([2]))
    assert shown("report.html") == "front: [1]"  # paused: nobody is kept waiting
    assert front() == [2]
    assert f"viewStateShareKey={saved_views.key(sweep.uuid, 'all')}" in shown("front.html")
    sweep.add(3)
    record.refresh(sweep.results([2]))
    record.illustrate(sweep.results([2]))
    assert shown("report.html") == "front: [2]"


def test_the_report_is_written_again_when_the_test_split_was_measured(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "report", report)
    sweep.budget = 2
    record = sweep.record(share=1e-9)

    def shown() -> str:
        path = sweep.client.download_artifacts(sweep.parent().info.run_id, "report.html")
        return Path(path).read_text(encoding="utf-8")

    record.refresh(sweep.results())
    assert "0.777" not in shown()
    for seed in (0, 1):
        write_json(sweep.folder.held_out(1, seed), {"values": {"accuracy": 0.777, "delta_f1": 0.1}, "groups": []})
    record.illustrate(sweep.results())
    assert "0.777" in shown()


def test_two_saved_views_of_the_sweep_are_on_its_experiment(sweep: Sweep) -> None:
    sweep.add(2)
    sweep.record().refresh(sweep.results())  # 0 is a baseline, 1 on the front
    experiment = sweep.client.get_experiment(sweep.parent().info.experiment_id)
    for view, name in (("front", "Pareto front and baselines"), ("all", "all trials")):
        saved = json.loads(experiment.tags[f"mlflow.sharedViewState.{saved_views.key(sweep.uuid, view)}"])
        assert saved["name"] == f"{sweep.name}: {name}"
        state = json.loads(saved["state"])
        scatter, by_lambda, _, parallel = state["compareRunCharts"]
        assert (scatter["xaxis"]["key"], scatter["yaxis"]["key"]) == ("accuracy", "delta_f1")
        assert (by_lambda["xaxis"]["key"], by_lambda["yaxis"]["key"]) == ("log10_lambda", "accuracy")
        assert parallel["selectedMetrics"] == ["log10_lambda", "rank", "accuracy", "delta_f1"]
        assert {"metrics.`lambda`", "metrics.`log10_lambda`", "metrics.`accuracy_std`"} < set(state["selectedColumns"])
        found = sweep.client.search_runs([experiment.experiment_id], state["searchFilter"])
        assert {int(run.data.tags[TRIAL]) for run in found} == ({0, 1} if view == "front" else {0, 1, 2})


def test_a_sweep_that_is_forgotten_is_written_again_with_the_same_numbers_and_times(sweep: Sweep) -> None:
    record = sweep.record()
    told = []
    for _ in range(2):
        record.refresh(sweep.results())
        record.close(sweep.results())
        told.append(
            {n: (run.data.metrics, run.data.params, run.info.start_time) for n, run in sweep.children().items()}
        )
        told[-1] |= {-1: (sweep.parent().data.metrics, sweep.parent().info.end_time)}
        assert record.forget() == 3
    assert told[0] == told[1]
    assert sweep.runs() == []


# --- names


def test_group_names_of_any_spelling_stay_apart_and_are_accepted(sweep: Sweep) -> None:
    names = ["F/A-18", "F A-18", "F:A-18", "..", "", "é @ [x]", "a" * 300]
    groups = [{"kind": "class", "name": name, "n": 10, "recall": i} for i, name in enumerate(names)]
    for seed in (0, 1):
        sweep.fit(1, seed, [], {"values": {"accuracy": 0.9, "delta_f1": 0.1}, "groups": groups})
    sweep.record().refresh(sweep.results())
    metrics = sweep.children()[1].data.metrics
    assert sorted(v for k, v in metrics.items() if k.endswith("/recall")) == list(range(len(names)))


def test_a_group_undefined_for_one_seed_is_left_out() -> None:
    rows = [[{"kind": "class", "name": "a", "f1": f1, "recall": 0.25}] for f1 in (0.5, None)]
    trial = Trial(0, State.COMPLETE, {})
    scalars = content.final(trial, [FitResult(0, i, groups=r, seconds=1.0) for i, r in enumerate(rows)], ["accuracy"])
    assert {s.key: s.value for s in scalars} == {"group/class/a/recall": 0.25, "seconds": 2.0}


def test_the_fingerprint_changes_with_the_trial_and_only_then() -> None:
    def trial(**over: Any) -> Trial:
        return Trial(1, State.COMPLETE, {"rank": np.int64(8)}, **({"spread": {"accuracy": math.nan}} | over))

    assert content.fingerprint(trial()) == content.fingerprint(trial())
    assert content.fingerprint(trial()) != content.fingerprint(trial(feasible=False))


# --- the thread


@pytest.fixture
def projectors() -> Iterator[Callable[..., Projector]]:
    made: list[Projector] = []

    def build(*args: Any) -> Projector:
        made.append(Projector(*args, period_s=0.02, share=1.0, first_s=0.02, longest_s=0.05))
        made[-1].start()
        return made[-1]

    yield build
    for projector in made:
        projector.finish(0.0)


def test_the_thread_writes_what_is_there_and_closes_the_record(sweep: Sweep, projectors: Any) -> None:
    projector = projectors(sweep.record, sweep.results)
    assert projector.finish(30)
    assert set(sweep.children()) == {0, 1}
    assert sweep.parent().info.status == "SCHEDULED"  # 2 of 4 trials


def test_what_a_dead_store_missed_is_written_when_it_comes_back(
    sweep: Sweep, projectors: Any, flaky: type[Flaky], caplog: pytest.LogCaptureFixture
) -> None:
    flaky.down = True
    projector = projectors(sweep.record, sweep.results)
    deadline = time.monotonic() + 20
    while projector.faults["ConnectionError"] < 3 and time.monotonic() < deadline:
        projector.poke()
        time.sleep(0.01)
    assert projector.faults["ConnectionError"] >= 3
    assert sum("the store is away" in line for line in caplog.messages) == 1  # told once
    flaky.down = False
    assert projector.finish(30)
    assert set(sweep.children()) == {0, 1}


def test_a_dead_server_delays_nobody_and_the_end_says_that_something_is_missing(sweep: Sweep, projectors: Any) -> None:
    projector = projectors(lambda: sweep.record(DEAD), sweep.results)
    began = time.monotonic()
    for _ in range(1000):
        projector.poke()
    assert time.monotonic() - began < 0.5
    assert not projector.finish(0.5)
    assert time.monotonic() - began < 3


def test_a_dead_server_is_given_up_in_seconds(sweep: Sweep) -> None:
    began = time.monotonic()
    with pytest.raises(Exception, match=r"127\.0\.0\.1"):
        sweep.record(DEAD).refresh(sweep.results())
    assert time.monotonic() - began < 5


class Slow:
    """A record of many requests, or of one that hangs until it is `freed`, and of pictures that take their time."""

    def __init__(self, ask: Callable[[], None] = lambda: None) -> None:
        self.ask, self.freed, self.did = ask, threading.Event(), list[str]()
        self.requests, self.drawing_s = 0, 0.0

    def refresh(self, results: Results, *, draw: bool = True) -> int:
        for _ in range(self.requests):
            time.sleep(0.05)
            self.ask()
        if not self.requests:
            self.freed.wait(20)
            self.ask()
        self.did.append("refreshed")
        return 0

    def close(self, results: Results) -> None:
        self.did.append("closed")

    def illustrate(self, results: Results) -> None:
        time.sleep(self.drawing_s)
        self.did.append("drawn")


@pytest.mark.parametrize("wakes", ["poke", "finish"])
def test_a_record_that_begins_later_begins_at_the_first_trial_or_the_end(sweep: Sweep, wakes: str) -> None:
    record, made = Slow(), threading.Event()
    record.freed.set()
    projector = Projector(lambda: made.set() or record, sweep.results)
    projector.start(after_s=600)
    assert not made.wait(0.3), "MLflow is imported while the cores are needed for the first fit"
    if wakes == "poke":
        projector.poke()
        assert made.wait(20)
    assert projector.finish(20)


def test_whoever_gets_on_is_waited_for_however_long_it_takes(sweep: Sweep, projectors: Any) -> None:
    record = Slow()
    record.requests = 30
    projector = projectors(lambda: record, sweep.results)
    record.ask = projector.permit
    assert projector.finish(0.5)
    assert record.did[-1] == "drawn"


def test_pictures_are_last_and_have_more_patience_and_that_they_fail_says_nothing_of_the_rest(
    sweep: Sweep, projectors: Any
) -> None:
    record = Slow()
    record.requests, record.drawing_s = 1, 1.0
    projector = projectors(lambda: record, sweep.results)
    assert projector.finish(0.3)
    assert projector.whole
    record.illustrate = lambda results: {}[2]
    projector = projectors(lambda: record, sweep.results)
    assert projector.finish(30)
    assert not projector.whole


def test_what_was_given_up_writes_nothing_more_and_says_nothing(
    sweep: Sweep, projectors: Any, caplog: pytest.LogCaptureFixture
) -> None:
    record = Slow()
    projector = projectors(lambda: record, sweep.results)
    record.ask = projector.permit
    assert not projector.finish(0.3)
    record.freed.set()
    projector._thread.join(20)
    assert (record.did, caplog.messages) == ([], [])


def test_a_record_that_cannot_even_be_opened_is_tried_again(sweep: Sweep, projectors: Any) -> None:
    tries = iter([ImportError("no mlflow today"), None])

    def make() -> Record:
        if (fault := next(tries)) is not None:
            raise fault
        return sweep.record()

    assert projectors(make, sweep.results).finish(30)


# --- the store's first minute, and its window


def test_a_first_record_says_nothing_on_the_terminal(tmp_path: Path) -> None:
    code = (
        "import sys; from sweeper.record.store import Store; from pathlib import Path; "
        "Store('sqlite:///' + sys.argv[1] + '/m.db', 'x', 'u', Path(sys.argv[1])).find()"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=280)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "m.db").exists()


def test_the_link_opens_runs_not_the_page_about_genai() -> None:
    assert links.link("http://127.0.0.1:5000/", "3") == (
        "http://127.0.0.1:5000/#/experiments/3/runs?workflowType=machine_learning"
    )
    assert links.link("http://h", "3", "ab", "front.html").endswith(
        "/3/runs/ab/artifacts/front.html?workflowType=machine_learning"
    )
    assert links.link("http://h", "3", "ab") == "http://h/#/experiments/3/runs/ab?workflowType=machine_learning"


def test_a_view_is_opened_by_its_key_with_its_charts() -> None:
    assert links.view_link("http://h", "3", "0123456789abcdef", "front") == (
        "http://h/#/experiments/3/runs?workflowType=machine_learning"
        "&viewStateShareKey=0123456789ab-front&compareRunsMode=CHART"
    )


def test_the_front_is_found_where_the_record_put_it(sweep: Sweep) -> None:
    assert runs.whereabouts(sweep.uri, sweep.name, sweep.uuid) is None
    sweep.record().refresh(sweep.results())
    parent = sweep.parent()
    found = parent.info.experiment_id, parent.info.run_id, sweep.name
    assert runs.whereabouts(sweep.uri, sweep.name, sweep.uuid) == found


def test_a_sweep_that_was_never_recorded_cannot_be_shown(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no record of 'x' yet"):
        server.serve(f"sqlite:///{tmp_path / 'mlflow.db'}", "x", "uuid", tmp_path, 5000)
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_refused(sweep: Sweep) -> None:
    sweep.record().refresh(sweep.results())
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} on 127.0.0.1 is taken"):
            server.serve(sweep.uri, sweep.name, sweep.uuid, sweep.store, port)


def test_the_server_listens_here_only_and_runs_no_jobs(tmp_path: Path) -> None:
    command = server.serve_command("sqlite:///x.db", tmp_path, 5001)
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert command[command.index("--allowed-hosts") + 1] == "127.0.0.1:5001,localhost:5001"
    safe = server.environment({"KEPT": "1", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "true"})
    assert safe["KEPT"] == "1"
    assert safe["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] == safe["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
