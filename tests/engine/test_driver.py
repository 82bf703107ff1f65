"""Beginning a sweep: what lies there already is never touched, and a fresh start is never assumed."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweeper.engine import driver
from sweeper.engine.attempt import Execute
from sweeper.engine.signals import Interrupts
from sweeper.errors import UserError
from sweeper.record import owed
from sweeper.results.results import Results
from sweeper.screen import live
from sweeper.spec import amending, loading
from sweeper.spec.model import SweepSpec
from sweeper.spec.sections import Resources
from sweeper.state.atomic import write_bytes, write_json
from sweeper.state.sweep_folder import SweepFolder
from tests.faults import tiny


def spec(root: Path, more: str = "", name: str = "birds") -> SweepSpec:
    return loading.parse(f"name: {name}\nstorage: {{root: {root}}}\n{more}")


def begin(asked: SweepSpec) -> None:
    driver.run(asked, live.Lines(asked.name))


def test_a_folder_with_something_else_in_it_is_refused_and_kept(tmp_path: Path) -> None:
    write_bytes(tmp_path / "birds" / "metadata.csv", b"a dataset")
    with pytest.raises(UserError, match="holds something else"):
        begin(spec(tmp_path, "data: {name: waterbirds, root: /nowhere}\n"))
    assert (tmp_path / "birds" / "metadata.csv").read_bytes() == b"a dataset"


@pytest.mark.parametrize("name", ["mlartifacts", "mlflow.db"])
def test_the_records_own_names_are_reserved(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="Choose another name"):
        begin(spec(tmp_path, name=name))


def test_a_sweep_that_is_refused_before_its_first_trial_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="/nowhere"):
        begin(spec(tmp_path, "data: {name: waterbirds, root: /nowhere}\n"))
    assert not (tmp_path / "birds").exists()


def test_an_objective_that_the_data_leaves_undefined_is_refused_before_the_first_trial(tmp_path: Path) -> None:
    asked = spec(tmp_path, "objectives: {worst_accuracy_by_cell: max}\nmetrics: {min_group: 1000}\n")
    with pytest.raises(UserError, match=r"worst_accuracy_by_cell would be undefined .* fewer than min_group"):
        driver.run(asked, live.Lines(asked.name), executor=tiny.in_process)
    assert not (tmp_path / "birds").exists()


def test_a_spec_that_does_not_say_how_to_measure_leaves_that_as_it_was(tmp_path: Path) -> None:
    was = loading.changed(spec(tmp_path), {"metrics.min_group": 1})
    assert amending.amended(was, spec(tmp_path))[0].metrics.min_group == 1
    with pytest.raises(UserError, match=r"metrics.min_group: was 1, is now 10"):
        amending.amended(was, spec(tmp_path, "metrics: {min_group: 10}\n"))


def test_a_sweep_that_began_before_photos_were_turned_goes_on_without(tmp_path: Path) -> None:
    mine = spec(tmp_path, f"data: {{name: folder, root: {tmp_path}}}\n")
    text = loading.dump(mine)
    assert loading.parse(text).identity()["data"]["exif"] is None
    older = re.sub(r",\s+exif: null", "", text)
    assert older != text
    (tmp_path / "spec.yaml").write_text(older)
    kept = loading.load_kept(tmp_path / "spec.yaml")
    assert kept.data.exif == "ignore"
    began = mine.identity()
    del began["data"]["exif"]
    assert loading.difference(loading.completed(began), kept.identity()) == []
    assert amending.amended(kept, mine.model_copy(update={"data": kept.data}))[0].data.exif == "ignore"
    assert amending.amended(kept, loading.parse(older))[0].data.exif == "ignore"


def test_a_sweep_that_began_with_weights_of_this_machine_goes_on_with_them(tmp_path: Path) -> None:
    mine = spec(tmp_path)
    text = loading.dump(mine)
    assert mine.identity()["backbone"]["edition"] == 2
    older = text.replace(", edition: 2", "")
    assert older != text
    (tmp_path / "spec.yaml").write_text(older)
    kept = loading.load_kept(tmp_path / "spec.yaml")
    assert kept.backbone.edition == 1
    began = mine.identity()
    del began["backbone"]["edition"]
    assert loading.difference(loading.completed(began), kept.identity()) == []
    assert amending.amended(kept, loading.parse(older))[0].backbone.edition == 1
    with pytest.raises(UserError, match=r"backbone.edition: was 1, is now 2"):
        amending.amended(kept, spec(tmp_path, "backbone: {edition: 2}\n"))


def test_fits_without_their_study_are_never_taken_for_a_fresh_start(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path / "birds")
    write_bytes(folder.spec, loading.dump(spec(tmp_path)).encode())
    write_bytes(folder.path / "trials" / "00000" / "0" / "result.json", b"{}")
    with pytest.raises(UserError, match="Put the database back"):
        driver.resume(folder, live.Lines("birds"))
    assert (folder.path / "trials" / "00000" / "0" / "result.json").exists()


def test_a_budget_cannot_shrink(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path / "birds")
    write_bytes(folder.spec, loading.dump(spec(tmp_path)).encode())
    with pytest.raises(UserError, match=r"--trials 3 is less than the 32"):
        driver.resume(folder, live.Lines("birds"), trials=3)


def test_a_budget_that_shrank_in_the_sweeps_own_file_is_refused_too(tmp_path: Path, monkeypatch) -> None:
    tiny.make_tiny(monkeypatch.setattr, record=tiny.Mute)
    tiny.begin(tmp_path, trials=2)
    file = tmp_path / tiny.NAME / "spec.yaml"
    file.write_text(file.read_text().replace("trials: 2", "trials: 1"))
    with pytest.raises(UserError, match=r"search.trials gives 1 trials, less than the 2 the sweep has"):
        tiny.go_on(tmp_path)


def test_paths_are_made_absolute_because_a_resume_may_be_typed_elsewhere(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.safetensors").write_bytes(b"")
    more = "data: {name: waterbirds, root: birds-here}\nbackbone: {name: small-vit, weights: small.safetensors}\n"
    databases = {"storage.study": "sqlite:///study.db", "storage.mlflow": "sqlite:///50%25/runs.db"}
    asked = loading.changed(spec(tmp_path, more), databases)
    anchored = amending.anchored(asked)
    assert str(anchored.data.root) == str(tmp_path / "birds-here")
    assert anchored.backbone.weights == str(tmp_path / "small.safetensors")
    assert anchored.storage.study == f"sqlite:///{tmp_path}/study.db"
    assert anchored.storage.mlflow == f"sqlite:///{tmp_path}/50%25/runs.db"


def test_the_first_signal_acts_and_the_second_stops_at_once() -> None:
    heard: list[str] = []
    with Interrupts().caught() as interrupts:
        signal.raise_signal(signal.SIGTERM)
        assert interrupts.number == signal.SIGTERM
        interrupts.then(lambda: heard.append("late listeners hear it too"))
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert heard == ["late listeners hear it too"]


@pytest.mark.parametrize(("before", "number"), [(signal.SIG_DFL, signal.SIGHUP), (signal.SIG_IGN, None)])
def test_a_closed_terminal_is_a_pause_unless_nohup_says_otherwise(before: signal.Handlers, number: int | None) -> None:
    kept = signal.signal(signal.SIGHUP, before)
    try:
        with Interrupts().caught() as interrupts:
            signal.raise_signal(signal.SIGHUP)
            assert interrupts.number == number
    finally:
        signal.signal(signal.SIGHUP, kept)


def test_a_spec_that_asks_another_question_is_refused_with_each_difference(tmp_path: Path) -> None:
    was = spec(tmp_path)
    other = loading.changed(was, {"groups": "cell", "search.seeds": 2, "resources.max_concurrent": 1})
    with pytest.raises(UserError, match=r"(?s)not be comparable:\n  groups: was class, is now cell\n.*seeds: was 1"):
        amending.amended(was, other)


def test_resources_budget_and_stop_rules_may_change_and_are_shown(tmp_path: Path) -> None:
    was = spec(tmp_path, "search: {sampler: nsga2, trials: 40}\n")
    asked = "name: another\nsearch: {sampler: nsga2, trials: 64, max_failures: 9}\nresources: {max_retries: 0}\n"
    now, changes = amending.amended(was, loading.parse(asked))
    assert (now.name, now.storage) == (was.name, was.storage)
    assert now.search.population == was.search.population == 10, "a default of the budget that it began with"
    assert changes == [
        "search.trials: was 40, is now 64",
        "search.max_failures: was 5, is now 9",
        "resources.max_retries: was 3, is now 0",
    ]


def test_the_memory_of_a_sweep_cannot_be_moved_by_a_spec(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot change: the sweep's memory is there"):
        amending.amended(spec(tmp_path), loading.changed(spec(tmp_path), {"storage.study": "sqlite:////tmp/other.db"}))


def test_data_may_lie_elsewhere_as_long_as_it_is_the_same(tmp_path: Path) -> None:
    was = spec(tmp_path, "data: {name: waterbirds, root: /old}\n")
    assert was.identity() == loading.changed(was, {"data.root": "/new"}).identity()


def test_a_claim_is_whole_or_absent_and_no_second_one_gets_in(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path / "birds")
    (tmp_path / "birds").mkdir()
    folder.claim(b"name: birds\n")
    with pytest.raises(FileExistsError):
        SweepFolder(tmp_path / "birds").claim(b"name: other\n")
    assert folder.spec.read_bytes() == b"name: birds\n"
    assert [path.name for path in tmp_path.iterdir()] == ["birds"]


# --- a finished sweep


@contextlib.contextmanager
def never(resources: Resources) -> Iterator[Execute]:
    """Machines that nobody may ask for."""
    raise AssertionError("machines were made ready")
    yield


@pytest.fixture(scope="module")
def over(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SweepFolder]:
    """A tiny sweep that is finished and recorded, as an attempt leaves it."""
    root = tmp_path_factory.mktemp("over")
    with pytest.MonkeyPatch.context() as patch:
        tiny.make_tiny(patch.setattr)
        assert tiny.begin(root).exit_code == 0
        folder = SweepFolder(root / tiny.NAME)
        write_json(folder.path / "provenance.json", {"dataset": tiny.DATA})
        shutil.rmtree(folder.path / "attempts")
        yield folder


def test_a_resume_with_nothing_to_do_starts_no_machines_and_writes_nothing(over: SweepFolder) -> None:
    before = {path: path.stat().st_mtime_ns for path in over.path.parent.rglob("*") if path.is_file()}
    outcome = driver.resume(over, tiny.Silent(), executor=never)
    assert (outcome.exit_code, outcome.results.state) == (0, "finished")
    assert outcome.notes == ["nothing was left to do."]
    after = {path: path.stat().st_mtime_ns for path in over.path.parent.rglob("*") if path.is_file()}
    assert after == before


def test_a_record_that_is_owed_is_written_without_machines(over: SweepFolder) -> None:
    (over.path / "recorded.json").unlink()
    assert owed.is_owed(Results.open(over))
    assert driver.resume(over, tiny.Silent(), executor=never).exit_code == 0
    assert not owed.is_owed(Results.open(over))
    assert not list(over.path.glob("attempts/*"))


def test_a_record_is_owed_when_its_own_file_is_gone(over: SweepFolder) -> None:
    file, aside = over.path.parent / "mlflow.db", over.path.parent / "aside.db"
    file.rename(aside)
    assert owed.is_owed(Results.open(over))
    aside.rename(file)
    assert not owed.is_owed(Results.open(over))


def test_a_record_is_owed_while_it_lacks_a_confirmation_or_a_test_number(over: SweepFolder) -> None:
    results = Results.open(over)
    assert not owed.is_owed(results)
    number, seed = results.front[0], results.spec.search.seed_list[0]
    kept = over.held_out(number, seed).read_bytes()
    over.held_out(number, seed).unlink()
    assert owed.is_owed(results)
    with pytest.raises(AssertionError, match="machines were made ready"):  # it is measured again
        driver.resume(over, tiny.Silent(), executor=never)
    over.held_out(number, seed).write_bytes(kept)
    assert not owed.is_owed(results)


def test_what_is_damaged_in_a_finished_sweep_is_told_though_nothing_is_done(over: SweepFolder) -> None:
    result = over.fit(0, 0).path / "result.json"
    kept = result.read_bytes()
    result.write_bytes(kept[:-9])
    outcome = driver.resume(over, tiny.Silent(), executor=never)
    result.write_bytes(kept)
    assert outcome.exit_code == 1
    assert "result.json is damaged" in outcome.notes[0]


def test_a_larger_budget_is_something_to_do(over: SweepFolder) -> None:
    with pytest.raises(AssertionError, match="machines were made ready"):
        driver.resume(over, tiny.Silent(), trials=9, executor=never)
