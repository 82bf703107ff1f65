"""Sweeps are looked after: what their fits said, a copy of their question, their end."""

from __future__ import annotations

import io
import json
import logging
import shutil
import sqlite3
import time
from pathlib import Path

import pytest

from sweeper.cli import main
from sweeper.record import deletion, pictures
from sweeper.record.record import open_record
from sweeper.record.store import Store, opened
from sweeper.results import fit_log
from sweeper.results.results import Results
from sweeper.spec import loading
from sweeper.spec.urls import sqlite_url
from sweeper.state import opening
from sweeper.state.lease import Lease
from sweeper.state.sweep_folder import Fenced, SweepFolder
from tests import finished

TWO = {0: (29, 4), 1: (28, 4)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    finished.sweep(tmp_path / "birds", right=TWO, **{"search.baselines": []})
    return tmp_path


def say(*lines: str, fit: Path) -> None:
    with fit_log.kept(fit, lambda: None):
        for line in lines:
            print(line)


# --- logs


def test_what_a_fit_logs_prints_and_warns_of_is_kept_without_secrets(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_API_TOKEN", "correct-horse")
    fit = SweepFolder(root / "birds").fit(1, 0).path
    with fit_log.kept(fit, lambda: None):
        fit_log.FIT.info("epoch %d", 1)
        print("with correct-horse at https://me:secret@host/ and hf_", "a" * 30, sep="")
        logging.getLogger("some.library").warning("two\nlines")
        print("10%\r20%\r", end="")
    print("not of the fit")
    entries = fit_log.read(SweepFolder(root / "birds"), 1)
    assert [(entry.trial, entry.seed, entry.level, entry.text) for entry in entries] == [
        (1, 0, "INFO", "epoch 1"),
        (1, 0, "PRINTED", "with <MY_API_TOKEN> at https://...@host/ and <a token>"),
        (1, 0, "WARNING", "two\n  lines"),
    ]
    assert "correct-horse" in capsys.readouterr().out, "what is printed is printed too"


def test_a_log_is_bounded_and_keeps_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_log, "LIMIT_BYTES", 4_000)
    say(*(f"line {number}" for number in range(1_000)), fit=tmp_path / "trials" / "00000" / "0")
    assert sorted(file.name for file in (tmp_path / "trials" / "00000" / "0").iterdir()) == ["log.1.txt", "log.txt"]
    texts = [entry.text for entry in fit_log.read(SweepFolder(tmp_path))]
    assert texts == [f"line {number}" for number in range(1_000 - len(texts), 1_000)]
    assert 50 < len(texts) < 300


def test_an_attempt_that_was_taken_over_writes_no_log(tmp_path: Path) -> None:
    def permit() -> None:
        raise Fenced("taken over")

    with fit_log.kept(tmp_path / "fit", permit):
        print("a ghost's")
    assert list(tmp_path.iterdir()) == []


def test_the_logs_of_a_sweep_are_in_the_order_of_time_and_of_a_trial_its_own(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = SweepFolder(root / "birds")
    for number, seed in ((1, 0), (0, 1), (1, 1)):
        say(f"I am {number}/{seed}", fit=folder.fit(number, seed).path)
        time.sleep(0.002)  # times have milliseconds
    assert main.main(["logs", "birds", "--root", str(root)]) == 0
    shown = capsys.readouterr().out.splitlines()[3:]  # the first three are what was printed itself
    assert [line.split("Z ", 1)[1] for line in shown] == [
        f"#{n} seed {s} PRINTED I am {n}/{s}" for n, s in ((1, 0), (0, 1), (1, 1))
    ]
    assert main.main(["logs", "birds", "1", "--root", str(root), "--json"]) == 0
    assert [entry["seed"] for entry in json.loads(capsys.readouterr().out)] == [0, 1]
    assert main.main(["logs", "birds", "--follow", "--root", str(root)]) == 0  # of a sweep that ended it ends too
    assert capsys.readouterr().out.splitlines() == shown
    assert main.main(["logs", "birds", "7", "--root", str(root)]) == 2
    assert "trial 7 of 'birds' has no fits. Those there are: 0 to 1." in capsys.readouterr().err


def test_a_failed_fit_of_an_older_release_shows_its_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finished.sweep(tmp_path / "old", right={0: None}, **{"search.baselines": []})
    assert main.main(["logs", "old", "0", "--root", str(tmp_path)]) == 0
    assert "seed 0 ERROR the loss became nan" in capsys.readouterr().out


# --- clone


def test_a_clone_is_the_same_question_under_a_new_name(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = root / "More-birds.yaml"
    words = ["clone", "birds", "-o", str(file), "--root", str(root)]
    assert main.main(words) == 0
    copy, spec = loading.load(file), opening.open_spec(SweepFolder(root / "birds"))
    assert copy.name == "more-birds"
    assert copy == loading.changed(spec, {"name": "more-birds"})
    assert len(file.read_text().splitlines()) < len(loading.dump(copy).splitlines())
    assert main.main(words) == 2
    assert "is there already" in capsys.readouterr().err
    assert main.main(["clone", "birds", "-o", str(root / "birds.yaml"), "--root", str(root)]) == 2
    assert "would be called 'birds'" in capsys.readouterr().err


def test_every_preset_is_short_without_a_change() -> None:
    from sweeper.spec import presets

    for name in presets.names():
        spec = loading.load(presets.path(name))
        assert loading.parse(loading.short(spec)) == spec


# --- delete


def recorded(root: Path, name: str) -> Results:
    """A sweep with its record in the store beside it."""
    folder = SweepFolder(root / name)
    results, uuid = Results.open(folder), opening.open_study(folder).uuid
    record = open_record(results.spec, folder, uuid)
    record.refresh(results)
    record.close(results)
    return results


def left(root: Path) -> tuple[int, int, list[str]]:
    """Runs and registered models in the store, and what lies in the root beside it."""
    client = opened(sqlite_url(root / "mlflow.db"))
    experiments = [each.experiment_id for each in client.search_experiments()]
    runs, models = client.search_runs(experiments), client.search_registered_models()
    files = [path.name for path in root.iterdir() if path.name not in ("mlflow.db", "mlartifacts")]
    return len(runs), len(models), sorted(files)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """`birds` and `bees`, recorded without pictures; and a copy of all that, since a store knows its files by path."""
    made = tmp_path_factory.mktemp("made")
    root, copy = made / "root", made / "copy"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pictures, "draw", lambda *_: None)
        patch.setattr(pictures, "report", lambda *_: "")
        for name in ("birds", "bees"):
            finished.sweep(root / name, right=TWO, **{"search.baselines": []})
            recorded(root, name)
    shutil.copytree(root, copy)
    return root, copy


@pytest.fixture
def two(kept: tuple[Path, Path]) -> Path:
    """`birds`, recorded, and another sweep beside it."""
    root, copy = kept
    for path in root.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    with sqlite3.connect(copy / "mlflow.db") as before, sqlite3.connect(root / "mlflow.db") as now:
        before.backup(now)  # MLflow keeps the file open
    return Path(shutil.copytree(copy, root, ignore=shutil.ignore_patterns("mlflow.db"), dirs_exist_ok=True))


def test_a_deleted_sweep_leaves_nothing_and_its_neighbour_all(
    two: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, models, _ = left(two)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert main.main(["delete", "birds", "--root", str(two)]) == 1, "nobody can answer here"
    assert (two / "birds" / "spec.yaml").exists()
    capsys.readouterr()
    assert main.main(["delete", "birds", "--root", str(two), "--yes", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["deleted"]
    assert (told["runs"], told["models"]) == (runs // 2, 1)
    assert left(two) == (runs // 2, models // 2, ["bees"])
    assert [path.name for path in (two / "mlartifacts").iterdir()] == ["bees"]
    assert told["files"] > 10
    assert main.main(["delete", "birds", "--root", str(two), "--yes"]) == 2
    finished.sweep(two / "birds", right={0: (20, 9)}, **{"search.baselines": []})  # the same name, another sweep
    recorded(two, "birds")
    assert left(two)[0] == runs // 2 + 2


def test_a_sweep_that_is_driven_is_not_deleted(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lease = Lease(sqlite_url(two / "birds" / "study.db"), "birds")
    lease.acquire()
    before = left(two)
    assert main.main(["delete", "birds", "--root", str(two), "--yes"]) == 2
    assert "is being driven by process" in capsys.readouterr().err
    assert left(two) == before
    lease.release()


@pytest.mark.parametrize("at", ["delete_run", "delete_registered_model", "drop", "rename", "rmtree"])
def test_a_deletion_that_was_killed_is_finished_by_the_same_command(
    at: str, two: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Killed(BaseException):
        pass

    def kill(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if at == "rename":
            patch.setattr(Path, "rename", kill)
        elif at == "rmtree":
            patch.setattr(deletion.shutil, "rmtree", lambda path, **_: kill() if ".deleted" in path.name else None)
        elif at == "drop":
            patch.setattr(Store, "drop_experiment", kill)
        else:
            patch.setattr(f"mlflow.MlflowClient.{at}", kill)
        with pytest.raises(Killed):
            deletion.delete(SweepFolder(two / "birds"))
    assert main.main(["list", "--root", str(two)]) == (0 if at == "rmtree" else 2)
    told = capsys.readouterr()
    assert "bees: finished" in told.out
    assert "birds: finished" not in told.out
    if at != "rmtree":
        assert main.main(["resume", "birds", "--root", str(two)]) == 2
        assert "'birds' is half deleted. Finish that: sweeper delete birds" in capsys.readouterr().err
    assert main.main(["delete", "birds", "--root", str(two), "--yes"]) == 0
    assert left(two)[2] == ["bees"]
    assert left(two)[:2] == (3, 1)


def test_of_a_record_that_does_not_answer_nothing_is_deleted(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = loading.changed(opening.open_spec(SweepFolder(root / "birds")), {"storage.mlflow": "http://127.0.0.1:9"})
    (root / "birds" / "spec.yaml").write_text(loading.dump(spec))
    assert main.main(["delete", "birds", "--root", str(root), "--yes"]) == 3
    assert "nothing is deleted" in capsys.readouterr().err
    assert Results.open(SweepFolder(root / "birds")).finished


def test_a_sweep_that_was_never_recorded_or_begun_is_deleted_too(root: Path) -> None:
    assert main.main(["delete", "birds", "--root", str(root), "--yes"]) == 0
    finished.sweep(root / "stub", right=TWO, **{"search.baselines": []})
    shutil.rmtree(root / "stub" / "trials")
    (root / "stub" / "study.db").unlink()
    assert main.main(["delete", "stub", "--root", str(root), "--yes"]) == 0
    assert list(root.iterdir()) == []
