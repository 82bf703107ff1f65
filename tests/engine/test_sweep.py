"""A real sweep, end to end: Ray, Optuna, MLflow, real digits; whole, interrupted, killed."""

from __future__ import annotations

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from sweeper import running_code
from sweeper.front import recommend
from sweeper.results import provenance
from sweeper.results.results import Results
from sweeper.state.sweep_folder import SweepFolder

SPEC = """
name: {name}
groups: cell
space: {{method: [lora, fairlora], rank: [4, 8], learning_rate: 2e-3, epochs: {epochs}}}
search: {{sampler: tpe, trials: 4, seeds: 2, baselines: [lora]}}
resources: {{max_concurrent: {slots}}}
"""


def start(*arguments: str, root: Path) -> subprocess.Popen[str]:
    """The command, typed in a folder full of files with the names of what it imports."""
    command = [str(Path(sys.executable).parent / "sweeper"), *arguments, "--root", str(root)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=shadows(root), **pipes, text=True, start_new_session=True)


def shadows(root: Path) -> Path:
    folder = root.parent / "shadows"
    for name in ("sweeper", "trainables", "peft", "timm", "torch", "numpy", "ray", "mlflow", "random", "json"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "__init__.py").write_text(f"open({str(folder / 'imported')!r}, 'a').write({name!r})\n")
    return folder


def sweeper(*arguments: str, root: Path) -> tuple[int, str, str]:
    process = start(*arguments, root=root)
    out, err = process.communicate(timeout=280)
    return process.returncode, out, err


def write_spec(folder: Path, name: str, epochs: int = 2, slots: str = "auto") -> str:
    path = folder / f"{name}.yaml"
    path.write_text(SPEC.format(name=name, epochs=epochs, slots=slots))
    return str(path)


def trials(root: Path, name: str) -> list[dict[str, str]]:
    with (root / name / "trials.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="module")
def whole(root: Path) -> tuple[int, str, str]:
    """One finished sweep that the tests below look at."""
    return sweeper("run", write_spec(root, "whole"), root=root)


def runs(root: Path, name: str) -> list[tuple[str, str]]:
    """(trial, status) of every child run of the sweep in MLflow's database, read without MLflow."""
    with sqlite3.connect(root / "mlflow.db") as store:
        return store.execute(
            "select t.value, r.status from runs r join tags t on t.run_uuid = r.run_uuid and t.key = 'sweeper.trial'"
            " join experiments e on e.experiment_id = r.experiment_id"
            " where e.name = ? and r.lifecycle_stage = 'active'",
            (name,),
        ).fetchall()


def test_a_sweep_ends_with_a_front_and_exit_code_0(whole: tuple[int, str, str], root: Path) -> None:
    code, out, err = whole
    assert code == 0, err
    assert "whole: finished, 4/4 trials" in out
    assert "Pareto front" in out
    rows = trials(root, "whole")
    assert [row["state"] for row in rows] == ["complete"] * 4
    assert rows[0]["baseline"] == "lora"
    assert all(float(row["accuracy_std"]) >= 0 and row["seeds"] == "2" for row in rows)


def test_driver_and_workers_import_nothing_of_the_folder_they_stand_in_and_say_what_they_run(
    whole: tuple[int, str, str], root: Path
) -> None:
    folder = SweepFolder(root / "whole")
    assert not (shadows(root) / "imported").exists()
    digests = {folder.fit(number, seed).result()["code"]["digest"] for number in range(4) for seed in (0, 1)}
    assert digests == {provenance.code(folder.path).digest} == {running_code.found().digest}


def test_the_record_has_exactly_one_finished_run_per_trial(whole: tuple[int, str, str], root: Path) -> None:
    assert sorted(runs(root, "whole")) == [(str(n), "FINISHED") for n in range(4)]


def test_front_members_have_weights_and_the_dominated_do_not(whole: tuple[int, str, str], root: Path) -> None:
    for row in trials(root, "whole"):
        kept = row["on_front"] == "True" or row["baseline"] != ""
        for seed in (0, 1):
            weights = root / "whole" / "trials" / f"{int(row['number']):05d}" / str(seed) / "weights"
            assert weights.exists() == kept


def test_test_numbers_are_there_for_the_front_the_baseline_and_each_methods_points(
    whole: tuple[int, str, str], root: Path
) -> None:
    measured = {int(path.name) for path in (root / "whole" / "held-out").iterdir()}
    shown = {int(r["number"]) for r in trials(root, "whole") if r["on_front"] == "True" or r["baseline"]}
    results = Results.open(SweepFolder(root / "whole"))
    assert measured == shown | recommend.measured_per_method(results.trials, results.spec.objectives)


def test_status_list_and_pareto_speak_json(whole: tuple[int, str, str], root: Path) -> None:
    code, out, _ = sweeper("status", "whole", "--json", root=root)
    status = json.loads(out)
    assert (code, status["state"], status["counts"]["complete"]) == (0, "finished", 4)
    front = json.loads(sweeper("pareto", "whole", "--json", root=root)[1])
    assert [member["number"] for member in front["front"]] == [m["number"] for m in status["front"]]
    assert set(front["held_out"]) >= {str(m["number"]) for m in front["front"]}
    assert "whole: finished" in sweeper("list", root=root)[1]


def test_a_point_is_confirmed_with_new_seeds_once_and_the_front_stays(whole: tuple[int, str, str], root: Path) -> None:
    before = trials(root, "whole")
    point = next(row["number"] for row in before if row["method"] == "fairlora")
    code, out, err = sweeper("confirm", f"whole@{point}", "--seeds", "2", root=root)
    assert code == 0, err
    assert "each was trained again with seeds 2 to 3, which the sweep never used" in out
    assert "On test over 2 new seeds (neither its examples nor the seeds have chosen anything): accuracy" in out
    code, out, err = sweeper("confirm", f"whole@{point}", "--seeds", "2", "--json", root=root)
    told = json.loads(out)
    assert (code, told["seeds"], told["failed"]) == (0, [2, 3], None)
    on_test = {row["metric"]: row for row in told["differences"] if row["split"] == "test"}
    assert on_test["accuracy"]["low"] < on_test["accuracy"]["high"]
    assert on_test["accuracy"]["examples"]
    assert trials(root, "whole") == before
    assert json.loads(sweeper("status", "whole", "--json", root=root)[1])["state"] == "finished"


def test_a_taken_name_is_refused_with_both_ways_out(whole: tuple[int, str, str], root: Path) -> None:
    code, _, err = sweeper("run", write_spec(root, "whole"), root=root)
    assert code == 2
    assert "Go on with it: 'sweeper resume whole'" in err
    assert "Traceback" not in err


def test_a_finished_sweep_can_be_given_a_larger_budget(whole: tuple[int, str, str], root: Path) -> None:
    before = trials(root, "whole")
    code, _, err = sweeper("resume", "whole", "--trials", "6", root=root)
    assert code == 0, err
    after = trials(root, "whole")
    assert len(after) == 6
    assert [row["accuracy"] for row in after[:4]] == [row["accuracy"] for row in before]
    assert sorted(runs(root, "whole")) == [(str(n), "FINISHED") for n in range(6)]


def wait_for_a_checkpoint(root: Path, name: str) -> None:
    until = time.monotonic() + 120
    while not list((root / name / "trials").rglob("checkpoint-*.safetensors")):
        assert time.monotonic() < until, "no fit began"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def unbroken(root: Path) -> list[dict[str, str]]:
    """The sweep that the interrupted ones must equal: one fit at a time."""
    assert sweeper("run", write_spec(root, "unbroken", epochs=6, slots="1"), root=root)[0] == 0
    return trials(root, "unbroken")


def test_an_interrupted_sweep_refuses_a_second_driver_says_how_to_go_on_and_ends_as_if_unbroken(
    root: Path, unbroken: list[dict[str, str]]
) -> None:
    process = start("run", write_spec(root, "interrupted", epochs=6, slots="1"), root=root)
    wait_for_a_checkpoint(root, "interrupted")
    code, _, refused = sweeper("resume", "interrupted", root=root)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the whole process group
    out, err = process.communicate(timeout=120)
    assert code == 2
    assert f"is being driven by process {process.pid} on " in refused
    assert process.returncode == 130, err
    assert "sweeper resume interrupted" in out
    assert "RUNNING" not in {status for _, status in runs(root, "interrupted")}
    assert sweeper("resume", "interrupted", root=root)[0] == 0
    assert trials(root, "interrupted") == unbroken


@pytest.mark.parametrize("how", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)])
def test_a_signal_to_the_whole_process_group_pauses_a_sweep_at_once_and_is_its_exit_code(
    root: Path, how: signal.Signals
) -> None:
    name = how.name.lower()
    process = start("run", write_spec(root, name, epochs=30, slots="1"), root=root)
    wait_for_a_checkpoint(root, name)
    os.killpg(process.pid, how)  # as a service manager, or a terminal that is closed
    out, err = process.communicate(timeout=45)  # Ray's servers live on: nobody waits for them in vain
    assert process.returncode == 128 + how, err
    assert f"sweeper resume {name}" in out
    assert "RUNNING" not in {status for _, status in runs(root, name)}
    rays = Path(os.environ.get("RAY_TMPDIR", tempfile.gettempdir())) / "ray"
    assert not list(rays.glob(f"session_*_{process.pid}")), "Ray's folder stayed"


def test_a_killed_driver_loses_nothing_and_the_resumed_sweep_equals_the_unbroken_one(
    root: Path, unbroken: list[dict[str, str]]
) -> None:
    process = start("run", write_spec(root, "killed", epochs=6, slots="1"), root=root)
    wait_for_a_checkpoint(root, "killed")
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    code, _out, err = sweeper("resume", "killed", root=root)
    assert code == 0, err
    assert trials(root, "killed") == unbroken
    assert sorted(runs(root, "killed")) == [(str(n), "FINISHED") for n in range(4)]


@pytest.mark.slow
@pytest.mark.parametrize("pack", ["3", "auto"])
def test_a_sweep_of_packs_ends_with_the_numbers_of_one_whose_fits_are_trained_one_by_one(root: Path, pack: str) -> None:
    for name, more in (("alone", "off"), ("packed", pack)):
        spec = root / f"{name}-{pack}.yaml"
        text = SPEC.format(name=f"{name}-{pack}", epochs=2, slots="1").replace("sampler: tpe", "sampler: random")
        spec.write_text(text.replace("max_concurrent: 1", f"max_concurrent: 1, pack: {more}"))
        code, _, err = sweeper("run", str(spec), root=root)
        assert code == 0, err
    alone, packed = trials(root, f"alone-{pack}"), trials(root, f"packed-{pack}")
    assert [row["rank"] for row in packed] == [row["rank"] for row in alone]
    for one, other in zip(alone, packed, strict=True):
        assert float(other["accuracy"]) == pytest.approx(float(one["accuracy"]), abs=0.03)
    folder = SweepFolder(root / f"packed-{pack}")
    kept = [folder.fit(number, seed).result()["provenance"].get("packed") for number in range(4) for seed in (0, 1)]
    said = sweeper("status", f"packed-{pack}", root=root)[1]
    if pack == "auto":
        assert "packing: " in said
        assert all(kept) is ("fits at once" in said)
    else:
        assert all(each["epochs"] == [1, 2] for (each,) in kept)


EARLY = """
name: early
objectives: {accuracy: max, min_f1: max}
space: {method: lora, rank: [4, 8], learning_rate: [2e-3, 1e-6], epochs: 3}
search: {sampler: grid, trials: 4, seeds: 1, stopping: {first: 1, factor: 2}}
resources: {max_concurrent: 1}
"""


def test_a_fit_that_falls_behind_is_stopped_and_its_actor_takes_the_next(root: Path, tmp_path: Path) -> None:
    (tmp_path / "early.yaml").write_text(EARLY)
    code, _, err = sweeper("run", str(tmp_path / "early.yaml"), root=root)
    assert code == 0, err
    found = trials(root, "early")
    untrained = [row["state"] for row in found if float(row["learning_rate"]) < 1e-3]
    assert untrained == ["pruned", "pruned"]
    assert all(row["state"] == "complete" for row in found if float(row["learning_rate"]) > 1e-3)
    assert sorted(status for _, status in runs(root, "early")) == ["FINISHED", "FINISHED", "KILLED", "KILLED"]
    assert not list((root / "early" / "trials").rglob("checkpoint-*"))
