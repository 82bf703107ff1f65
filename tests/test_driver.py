"""Beginning a sweep: what lies there already is never touched, and a fresh start is never assumed."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeper import driver, screen
from sweeper import spec as specs
from sweeper.errors import UserError
from sweeper.folder import SweepFolder, write_bytes
from sweeper.interrupts import Interrupts


def spec(root: Path, more: str = "", name: str = "birds") -> specs.SweepSpec:
    return specs.parse(f"name: {name}\nstorage: {{root: {root}}}\n{more}")


def begin(asked: specs.SweepSpec) -> None:
    driver.run(asked, screen.Lines(asked))


def test_a_folder_with_something_else_in_it_is_refused_and_kept(tmp_path: Path) -> None:
    write_bytes(tmp_path / "birds" / "metadata.csv", b"a dataset")
    with pytest.raises(UserError, match="holds, or will hold, something else"):
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


def test_fits_without_their_study_are_never_taken_for_a_fresh_start(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path / "birds")
    write_bytes(folder.spec, specs.dump(spec(tmp_path)).encode())
    write_bytes(folder.path / "trials" / "00000" / "0" / "result.json", b"{}")
    with pytest.raises(UserError, match="Put the database back"):
        driver.resume(folder, screen.Lines(spec(tmp_path)))
    assert (folder.path / "trials" / "00000" / "0" / "result.json").exists()


def test_a_budget_cannot_shrink(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path / "birds")
    write_bytes(folder.spec, specs.dump(spec(tmp_path)).encode())
    with pytest.raises(UserError, match=r"--trials 3 is less than the 32"):
        driver.resume(folder, screen.Lines(spec(tmp_path)), trials=3)


def test_paths_are_made_absolute_because_a_resume_may_be_typed_elsewhere(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.safetensors").write_bytes(b"")
    more = "data: {name: waterbirds, root: birds-here}\nbackbone: {name: small-vit, weights: small.safetensors}\n"
    asked = specs.changed(spec(tmp_path, more), {"storage.study": "sqlite:///study.db"})
    anchored = driver._anchored(asked)
    assert str(anchored.data.root) == str(tmp_path / "birds-here")
    assert anchored.backbone.weights == str(tmp_path / "small.safetensors")
    assert anchored.storage.study == f"sqlite:///{tmp_path}/study.db"


def test_the_first_signal_acts_and_the_second_stops_at_once() -> None:
    import signal

    heard: list[str] = []
    with Interrupts().caught() as interrupts:
        signal.raise_signal(signal.SIGTERM)
        assert interrupts.number == signal.SIGTERM
        interrupts.then(lambda: heard.append("late listeners hear it too"))
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert heard == ["late listeners hear it too"]
