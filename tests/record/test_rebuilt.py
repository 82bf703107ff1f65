"""What the record says: the parent's note, the typical seed, intervals, and a record made again from the folder."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run

from sweeper.cli import main
from sweeper.front.intervals import wilson
from sweeper.record import note, pictures, saved_views, store
from sweeper.record.note import Links
from sweeper.record.record import open_record, rebuild
from sweeper.results.results import Results
from sweeper.spec import loading
from sweeper.state import opening
from sweeper.state.atomic import write_json
from sweeper.state.lease import Lease
from sweeper.state.study import Study
from sweeper.state.sweep_folder import SweepFolder
from sweeper.trial import State, Trial, typical
from tests import finished, hostile

SPEC = loading.parse(
    "name: a-sweep\ngroups: cell\nspace: {method: [lora, fairlora], rank: [4, 8]}\n"
    "constraints: {accuracy: '>= 0.5'}\nsearch: {trials: 40, seeds: 2, baselines: [lora]}\n"
)
VAL = {"n": 600, "class": {"0-7": 480, "8-9": 120}, "cell": {"0-7|land": 540, "8-9|water": 60}}


def trial(number: int, accuracy: float, delta_f1: float) -> Trial:
    values = {"accuracy": accuracy, "delta_f1": delta_f1}
    params = {"method": "fairlora", "lambda": 0.5, "rank": 8}
    spread = {"accuracy": 0.01, "delta_f1": math.nan}
    return Trial(
        number,
        State.COMPLETE,
        params,
        values,
        values,
        spread,
        seeds=2,
        seed_list=(0, 1),
        baseline="lora" if number == 0 else None,
    )


def told(folder: Path, count: int) -> str:
    """The note of a front of `count` members on a line; the knee is the middle one, or the first of two."""
    write_json(folder / "provenance.json", {"dataset": {"splits": {"val": VAL}}})
    trials = [trial(n, 0.8 + n / 1000, 0.2 + n / 1000) for n in range(count)]
    results = Results(SweepFolder(folder), SPEC, trials, list(range(count)))
    return note.write(results, Links("7", "parent", {n: f"run{n}" for n in range(count)}))


def test_the_note_tells_what_was_asked_where_it_stands_and_which_point_with_links_to_the_runs(tmp_path: Path) -> None:
    text = told(tmp_path, 2)
    assert "Which `method`, `lambda`, `rank` of a fine-tuning of `small-vit` on `digits-on-scenes` give most" in text
    assert "most accuracy and least delta\\_f1 with accuracy ≥ 0.5? Groups: cell. 40 trials" in text
    assert "2 complete of 40; 2 on the front." in text
    row = "| [1](#/experiments/7/runs/run1?workflowType=machine_learning) | fairlora λ=0.5 r=8 | 0.801 ± 0.010 |"
    assert f"{row} 0.201 | most-accurate |" in text
    assert "0.200 | knee, fairest |" in text
    assert "fairlora λ=0.5 r=8 (baseline lora)" in text
    assert "](get-artifact?path=front-small.png&run_uuid=parent)" in text
    assert "**#0 fairlora λ=0.5 r=8**, by the knee: from here on" in text


def test_the_note_warns_of_the_smallest_group_with_its_interval(tmp_path: Path) -> None:
    text = told(tmp_path, 2)
    assert "smallest group of the validation split is `8-9|water`, 60 images" in text
    assert "anything from 0.68 to 0.88" in text  # Wilson, 48 of 60


@pytest.mark.parametrize("count", [1, 30, 300])
def test_the_note_stays_below_what_mlflow_cuts_and_says_how_many_it_left_out(tmp_path: Path, count: int) -> None:
    text = told(tmp_path, count)
    assert len(text) < 8000
    assert ("more in `front.csv`" in text) == (count > 25)


@pytest.mark.parametrize("name", hostile.NAMES)
def test_a_name_is_text_in_the_note(tmp_path: Path, name: str) -> None:
    """The name of a group, and a method's, which is in the label of each trial."""

    def note_of(name: str) -> hostile.Page:
        write_json(tmp_path / "provenance.json", {"dataset": {"splits": {"val": {"n": 9, "cell": {name: 9}}}}})
        trials = [replace(trial(n, 0.8 + n / 10, 0.2 + n / 10), params={"method": name}) for n in range(2)]
        results = Results(SweepFolder(tmp_path), SPEC, trials, [0, 1])
        return hostile.rendered(note.write(results, Links("7", "parent", {0: "run0", 1: "run1"})))

    harmless, page = note_of("abc"), note_of(name)
    assert page.tags == harmless.tags
    assert page.addresses == harmless.addresses
    assert " ".join(page.text.split()) == " ".join(harmless.text.split()).replace("abc", " ".join(name.split()))


def test_a_sweep_without_a_front_has_a_note_too(tmp_path: Path) -> None:
    text = note.write(Results(SweepFolder(tmp_path), SPEC, [], []), Links("7", "p"))
    assert "nothing yet of 40" in text
    assert "Which one" not in text


SENSES = {"accuracy": "max", "f1": "min"}


def test_the_typical_seed_is_the_one_nearest_to_the_mean_not_the_best() -> None:
    rows = {0: {"accuracy": 0.9, "f1": 0.1}, 3: {"accuracy": 0.6, "f1": 0.1}, 5: {"accuracy": 0.8, "f1": 0.1}}
    assert typical(rows, SENSES) == 5  # the mean is .767
    assert typical({2: {"accuracy": 0.5}}, {"accuracy": "max"}) == 2


@pytest.mark.parametrize("better", [0, 1])
def test_of_two_seeds_which_always_tie_the_worse_is_the_typical_one(better: int) -> None:
    good, bad = {"accuracy": 0.6, "f1": 0.1}, {"accuracy": 0.4, "f1": 0.1}
    assert typical({better: good, 1 - better: bad}, {"accuracy": "max"}) == 1 - better
    assert typical({1 - better: bad, better: good}, {"accuracy": "max"}) == 1 - better
    assert typical({better: {"f1": 0.1}, 1 - better: {"f1": 0.2}}, {"f1": "min"}) == 1 - better


def test_of_two_seeds_each_better_in_one_objective_the_first_is_taken() -> None:
    rows = {4: {"accuracy": 0.6, "f1": 0.2}, 2: {"accuracy": 0.4, "f1": 0.1}}
    assert typical(rows, SENSES) == 4


def test_wilsons_interval_is_the_published_one() -> None:
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)  # Newcombe 1998, method 3
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 20)[0] == 0.0
    assert wilson(0, 20)[1] == pytest.approx(0.1611, abs=1e-4)


@pytest.mark.parametrize(("version", "read"), [("3.17.0", True), ("4.0.1", True), ("3.16.9", False), ("dev", False)])
def test_saved_views_are_for_the_releases_that_were_looked_at_and_later(version: str, read: bool) -> None:
    assert saved_views.understood(version) == read


# --- made again from the study and the folders

DATASET = {
    "name": "digits-on-scenes",
    "root": "/data",
    "split_hash": "0123456789abcdef",
    "licence": "BSD-3-Clause",
    "splits": dict.fromkeys(("train", "val", "test"), VAL),
}


def result(seed: int, accuracy: float) -> dict:
    row = {"epoch": 1, "time_ms": 1_700_000_000_000 + seed, "train_loss": 0.5, "val_accuracy": accuracy}
    values = {"accuracy": accuracy + seed / 100, "delta_f1": 1 - accuracy}
    groups = [{"kind": "cell", "name": "0-7|land", "n": 540, "accuracy": accuracy}]
    return {"values": values, "groups": groups, "history": [row], "provenance": {"device": "cpu"}, "seconds": 1.0}


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    """A real study and real folders of 4 trials with 2 seeds; nothing is recorded yet."""
    made = SweepFolder(tmp_path / "a-sweep", token=1)
    made.path.mkdir()
    made.spec.write_text(loading.dump(loading.changed(SPEC, {"search.trials": 5})))
    write_json(made.path / "provenance.json", {"dataset": DATASET, "notes": [], "commit": "abc", "versions": {}})
    study = Study(opening.open_spec(made), opening.study_url(opening.open_spec(made), made), create=True)
    for number in range(4):
        proposal = study.propose()
        assert proposal is not None
        rows = [result(seed, 0.6 + number / 10) for seed in (0, 1)]
        for seed, row in enumerate(rows):
            fit = made.fit(number, seed)
            weights = fit.path / "made"
            weights.mkdir(parents=True)
            (weights / "adapter_config.json").write_text("{}")
            fit.keep_weights(weights)
            fit.write_result(row | {"params": dict(proposal.params), "reasons": {}, "error": None})
        study.complete(number, [row["values"] for row in rows])
    assert study.propose() is not None  # one more is open
    return made


def recorded(folder: SweepFolder) -> list[Run]:
    client = mlflow.MlflowClient(f"sqlite:///{folder.path.parent / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(folder.name)
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], order_by=["start_time", "tags.`sweeper.trial`"]))


def facts(runs: list[Run]) -> list[tuple]:
    kept = ("pareto", "sweeper.trial", "provenance.device", "mlflow.runName", "sweeper.digest")
    return [
        (
            run.info.status,
            run.info.start_time,
            run.info.end_time,
            run.data.metrics,
            run.data.params,
            [run.data.tags.get(tag) for tag in kept],
        )
        for run in runs
    ]


def test_a_record_made_again_is_the_record_that_was_and_a_second_time_too(
    folder: SweepFolder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "report", lambda results: "")  # seconds each; the next test has it
    spec = opening.open_spec(folder)
    study = opening.open_study(folder)
    write_json(folder.path / "provenance.json", {"dataset": DATASET, "commit": "abc"})
    record = open_record(spec, folder, study.uuid)
    results = Results(folder, spec, *study.look())
    record.refresh(results)
    record.close(results)
    record.illustrate(results)
    before = facts(recorded(folder))
    assert [row[0] for row in before].count("FINISHED") == 4
    assert {row[0] for row in before} == {"FINISHED", "SCHEDULED"}  # the open trial, and the sweep
    for _ in range(2):
        assert main.main(["rebuild-record", "a-sweep", "--root", str(folder.path.parent)]) == 0
        assert "5 trials written to sqlite" in capsys.readouterr().out
        assert facts(recorded(folder)) == before


def test_a_record_is_made_in_an_empty_store_with_the_front_named(folder: SweepFolder) -> None:
    assert main.main(["rebuild-record", "a-sweep", "--root", str(folder.path.parent)]) == 0
    (parent,) = [run for run in recorded(folder) if run.data.tags["sweeper.role"] == "parent"]
    note = parent.data.tags["mlflow.note.content"]
    assert "4 complete of 5; 1 on the front." in note
    assert "Recommended" not in note
    assert "**#3 " in note
    client = mlflow.MlflowClient(f"sqlite:///{folder.path.parent / 'mlflow.db'}")
    assert "report.html" in {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert set(client.get_registered_model("a-sweep").aliases) == {"knee", "most-accurate", "fairest"}


@pytest.mark.parametrize("gone", [(2,), (2, 3, 5)])
def test_a_record_is_whole_though_the_folders_of_front_members_are_gone(tmp_path: Path, gone: tuple[int, ...]) -> None:
    finished.sweep(tmp_path / "birds")
    for number in gone:
        shutil.rmtree(tmp_path / "birds" / "trials" / f"{number:05d}")
    rebuild(SweepFolder(tmp_path / "birds"))
    client = store.opened(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (experiment,) = (found for found in client.search_experiments() if found.name == "birds")
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 8
    assert {run.info.status for run in runs} == {"FINISHED", "FAILED"}
    (parent,) = (run for run in runs if run.data.tags.get(store.ROLE) == "parent")
    assert {"report.html", "front.html"} <= {file.path for file in client.list_artifacts(parent.info.run_id)}


def test_a_record_is_not_made_again_under_a_living_driver(
    folder: SweepFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    lease = Lease(opening.study_url(opening.open_spec(folder), folder), "a-sweep")
    lease.acquire()
    try:
        assert main.main(["rebuild-record", "a-sweep", "--root", str(folder.path.parent)]) == 2
    finally:
        lease.release()
    assert "is being driven by process" in capsys.readouterr().err
    assert not (folder.path.parent / "mlflow.db").exists()
