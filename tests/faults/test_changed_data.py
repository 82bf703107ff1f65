"""Images or weights that change under a sweep stop it: at a resume, and on each machine; what changed is named."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sweeper.engine import attempt, driver
from sweeper.engine.actor import FitActor
from sweeper.engine.order import Order, config
from sweeper.engine.packs import member
from sweeper.errors import UserError
from sweeper.results import provenance
from sweeper.spec import on_data
from sweeper.spec.model import SweepSpec
from sweeper.state import opening, rows
from sweeper.state.atomic import write_json
from sweeper.state.sweep_folder import SweepFolder
from tests.data.trees import picture
from tests.faults import tiny
from trainables import finetuning
from trainables.backbones import BackboneConfig, weights
from trainables.data import DataConfig
from trainables.data.images import pixels
from trainables.finetuning import FineTuning
from trainables.task import Task

CLASSES = ("cat", "dog")
SPLITS = ("train", "val", "test")


class Real(tiny.Tiny):
    """Two numbers, but the provenance of the real data and of weights that `VERSION` names."""

    VERSION = "1"

    def __init__(self, task: Task, *, device: str, threads: int, prefix: str = "auto") -> None:
        super().__init__(task, device=device, threads=threads, prefix=prefix)
        self._task = task

    def prepare(self) -> None:
        """Hash the files, as the real one does."""
        from trainables import data
        from trainables.data import report

        self._files = report.file_digests(data.load(self._task.data))
        self._digest = report.data_digest(self._files)

    def changed_files(self, manifest: Path) -> str:
        """As the real one does."""
        from trainables.data import report

        return report.changed_files(self._files, manifest)

    def provenance(self) -> dict[str, Any]:
        """What made the numbers."""
        return {"split_hash": "tiny", "data_digest": self._digest, "backbone_digest": self.VERSION}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for split in SPLITS:
        for label in CLASSES:
            for i in range(2):
                picture(tmp_path / "images" / split / label / f"{i}.png", f"{split} {label} {i}")
    return tmp_path / "images"


@pytest.fixture
def spec(images: Path, tmp_path: Path) -> SweepSpec:
    more = f"data: {{name: folder, root: {images}}}\nobjectives: {{accuracy: max}}\nmetrics: {{min_group: 1}}\n"
    return tiny.spec(tmp_path / "sweeps", trials=2, more=more)


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The real `describe` and data, tiny trainings."""
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path_factory.mktemp("cache")))
    describe = provenance.describe
    tiny.make_tiny(monkeypatch.setattr, tuning=Real, record=tiny.Mute)
    monkeypatch.setattr(provenance, "describe", describe)


def begin(spec: SweepSpec) -> SweepFolder:
    outcome = driver.run(spec, tiny.Silent(), executor=tiny.in_process)
    assert len(outcome.results.trials) == 2
    return SweepFolder(Path(spec.storage.root) / tiny.NAME)


def go_on(folder: SweepFolder, trials: int = 3) -> tuple[attempt.Outcome, tiny.Silent]:
    listener = tiny.Silent()
    return driver.resume(folder, listener, trials=trials, executor=tiny.in_process), listener


def replace(image: Path) -> None:
    """By another image of the same size, with the same time."""
    before, stat = image.read_bytes(), image.stat()
    other = image.with_name("x.png")
    i = 0
    while not other.exists() or other.stat().st_size > len(before):
        picture(other, f"another {i}")
        i += 1
    image.write_bytes(other.read_bytes().ljust(len(before), b"\0"))
    other.unlink()
    os.utime(image, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def test_a_sweep_whose_data_is_as_it_was_goes_on(spec: SweepSpec, images: Path, tmp_path: Path) -> None:
    folder = begin(spec)
    for image in images.rglob("*.png"):
        os.utime(image, (1, 1))  # a copy has other times
    shutil.move(images, tmp_path / "elsewhere")
    (tmp_path / "images").symlink_to(tmp_path / "elsewhere")
    outcome, _ = go_on(folder)
    assert len(outcome.results.trials) == 3


def test_images_replaced_under_their_names_stop_a_resume_which_names_them(spec: SweepSpec, images: Path) -> None:
    folder = begin(spec)
    kept = {name: (images / name).read_bytes() for name in ("train/cat/0.png", "test/dog/1.png")}
    for name in kept:
        replace(images / name)
    for _ in range(2):  # and the second time too
        with pytest.raises(UserError, match=r"changed under it.*: other bytes: 2 \(test/dog/1\.png, train/cat/0"):
            go_on(folder)
    for name, content in kept.items():
        (images / name).write_bytes(content)
    assert len(go_on(folder)[0].results.trials) == 3


def test_images_that_are_gone_or_new_are_named(spec: SweepSpec, images: Path) -> None:
    folder = begin(spec)
    (images / "train/cat/1.png").rename(images / "train/cat/9.png")
    with pytest.raises(UserError, match=r"gone: 1 \(train/cat/1\.png\); new: 1 \(train/cat/9\.png\)"):
        go_on(folder)


def test_the_study_remembers_too_where_the_folders_note_is_lost(spec: SweepSpec, images: Path) -> None:
    folder = begin(spec)
    replace(images / "train/cat/0.png")
    (folder.path / "provenance.json").unlink()
    with pytest.raises(UserError, match=r"data_digest: was \w{16}, is now \w{16}"):
        go_on(folder)


def older(folder: SweepFolder) -> None:
    """As a release left it that knew no digests."""
    study = opening.open_study(folder)
    signed = {key: value for key, value in study._signed["identity"].items() if key != "data_digest"}
    study._study.set_user_attr("sweeper", rows.sealed({**study._signed, "identity": signed}))
    note = provenance.noted(folder.path)
    del note["dataset"]["data_digest"]
    write_json(folder.path / "provenance.json", note)
    table = folder.path / "manifest.csv"
    lines = [line.rsplit(",", 1)[0] for line in table.read_text().splitlines()]
    table.write_text("".join(f"{line},{'sha256' * (i == 0)}\n" for i, line in enumerate(lines)))
    for number in range(2):
        for seed in tiny.SEEDS:
            fit = folder.fit(number, seed)
            result = fit.result()
            del result["provenance"]["data_digest"], result["provenance"]["backbone_digest"]
            write_json(fit.path / "result.json", result)


def test_a_sweep_of_an_older_release_goes_on_and_is_held_to_its_data_from_then_on(
    spec: SweepSpec, images: Path
) -> None:
    folder = begin(spec)
    older(folder)
    outcome, listener = go_on(folder)
    assert len(outcome.results.trials) == 3
    assert not any("not as it was written" in note for note in listener.notes)
    assert len(opening.open_study(folder).identity["data_digest"]) == 16
    replace(images / "val/dog/0.png")
    with pytest.raises(UserError, match=r"other bytes: 1 \(val/dog/0\.png\)"):
        go_on(folder, 4)


def test_a_machine_with_other_images_trains_nothing_and_names_them(
    spec: SweepSpec, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver has looked at its own copy; the worker's is another one."""
    described = provenance.describe

    def then_changed(spec: SweepSpec, folder: Path, changes: Sequence[str]) -> dict[str, Any]:
        note = described(spec, folder, changes)
        replace(images / "train/dog/1.png")
        return note

    monkeypatch.setattr(provenance, "describe", then_changed)
    outcome = driver.run(spec, tiny.Silent(), executor=tiny.in_process)
    assert outcome.exit_code == 3
    folder = SweepFolder(Path(spec.storage.root) / tiny.NAME)
    assert not list(folder.path.glob("trials/*/*/result.json"))
    said = str(vars(outcome))
    assert "the bytes of the data's files (data_digest" in said
    assert "Files: other bytes: 1 (train/dog/1.png)." in said


def test_a_worker_with_another_backbone_trains_nothing(spec: SweepSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = begin(spec)
    monkeypatch.setattr(Real, "VERSION", "2")
    outcome, _ = go_on(folder)
    assert outcome.exit_code == 3
    assert "the backbone's weights (backbone_digest 2, elsewhere 1)" in str(vars(outcome))


def test_two_first_fits_on_two_machines_with_other_backbones_do_not_share_a_front(
    spec: SweepSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither knew of the other when it began: the second result is refused when it comes back."""
    versions = iter("12345678")

    class Elsewhere(Real):
        def provenance(self) -> dict[str, Any]:
            return super().provenance() | {"backbone_digest": self.version}

        def save(self, folder: Path) -> None:
            self.version = next(versions)
            super().save(folder)

        version = "1"

    monkeypatch.setattr(finetuning, "FineTuning", Elsewhere)
    monkeypatch.setattr(member, "unlike", lambda same, made: [])  # as where nothing was known yet
    outcome = driver.run(spec, tiny.Silent(), executor=tiny.in_process)
    assert outcome.exit_code == 3
    assert "was trained on something else than the sweep's other fits" in str(vars(outcome))
    assert not [trial for trial in outcome.results.trials if trial.reason is None and trial.state.finished]


def test_the_digest_of_a_backbone_is_of_its_weights_and_not_of_its_head_or_file() -> None:
    def model(seed: int, head: int) -> torch.nn.Module:
        torch.manual_seed(seed)
        made = torch.nn.ModuleDict({"body": torch.nn.Linear(3, 4), "norm": torch.nn.BatchNorm1d(4)})
        torch.manual_seed(head)
        made["head"] = torch.nn.Linear(4, head)
        return made

    first = weights.digest(model(0, 2), ["head"])
    assert first == weights.digest(model(0, 5), ["head"])
    assert first != weights.digest(model(1, 2), ["head"])
    nudged = model(0, 2)
    nudged["norm"].running_mean[0] += 1e-7
    assert first != weights.digest(nudged, ["head"])
    assert first != weights.digest(model(0, 2).to(torch.bfloat16), ["head"])


def test_the_real_fine_tuning_notes_both_digests_and_says_what_has_changed(images: Path, tmp_path: Path) -> None:
    from trainables import data
    from trainables.data import report
    from trainables.params import Params

    def tuned() -> FineTuning:
        config = DataConfig(name="folder", root=images)
        backbone = BackboneConfig(name="small-vit", weights="none")
        tuning = FineTuning(Task(data=config, backbone=backbone), device="cpu", threads=1)
        tuning.prepare()
        tuning.aim(Params(method="lora", epochs=1), seed=0)
        return tuning

    report.manifest(data.load(DataConfig(name="folder", root=images)), tmp_path / "m.csv", contents=True)
    before = tuned()
    assert before.changed_files(tmp_path / "m.csv") == ""
    assert before.changed_files(tmp_path / "none.csv") == ""
    replace(images / "train/cat/0.png")
    after = tuned()
    assert after.changed_files(tmp_path / "m.csv") == "other bytes: 1 (train/cat/0.png)"
    was, now = before.provenance(), after.provenance()
    assert was["data_digest"] != now["data_digest"]
    assert was["backbone_digest"] == now["backbone_digest"]
    assert len(was["backbone_digest"]) == 16


def test_a_leak_is_said_by_validate_and_run_and_stops_neither(spec: SweepSpec, images: Path) -> None:
    said = "1 image is in more than one split, with the same bytes: train/cat/0.png (train), test/cat/1.png (test)."
    assert said not in on_data.check(spec)
    shutil.copy(images / "train/cat/0.png", images / "test/cat/1.png")
    assert said in on_data.check(spec)
    listener = tiny.Silent()
    driver.run(spec, listener, executor=tiny.in_process)
    assert any(said in note for note in listener.notes)


def test_an_order_says_to_its_actor_what_must_be_the_same(spec: SweepSpec) -> None:
    folder = begin(spec)
    actor = FitActor.__new__(FitActor)
    actor.setup(config(tiny.node(folder), Order(7, 0, {"method": "lora", "rank": 4}, same={"data_digest": "other"})))
    report = actor.step()
    assert "the bytes of the data's files (data_digest" in report["to_mend"]
    assert "elsewhere other" in report["to_mend"]
    assert not folder.fit(7, 0).result()


def test_a_sweep_of_a_release_that_made_other_pixels_of_its_images_is_not_gone_on_with(
    spec: SweepSpec, images: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "sweeps" / spec.name
    (folder / "trials").mkdir(parents=True)

    def resumed(**before: object) -> None:
        """As a sweep whose last attempt noted that of its pixels."""
        note = provenance.describe(spec, folder)
        assert note["dataset"].pop("pixel_rules") == pixels.RULES
        note["dataset"] = {key: value for key, value in note["dataset"].items() if key != "upright"} | before
        write_json(folder / "provenance.json", note)
        provenance.describe(spec, folder)

    resumed()  # its images are those of any rules
    picture(images / "train" / "cat" / "0.png", "train cat 0", mode="RGBA")
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(images / "val" / "dog" / "1.png")
    (folder / "provenance.json").unlink()
    resumed(upright=False)  # the release that began to note this had the rules of today
    with pytest.raises(UserError, match=r"other pixels of 2 of its images, those of more than 8 bits or with"):
        resumed()
    with pytest.raises(UserError, match=r"\(0.png, 1.png\), so that new trials could not be compared"):
        resumed(upright=False, pixel_rules=1)
    (folder / "trials").rmdir()
    resumed()  # nothing was trained yet
