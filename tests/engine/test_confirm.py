"""Confirming: a point and the baseline with new seeds, trained once, compared seed by seed, seen by no search."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sweeper import running_code
from sweeper.cli import main
from sweeper.engine import attempt, driver
from sweeper.engine.attempt import Confirmed
from sweeper.errors import UserError
from sweeper.record import note, record
from sweeper.results import confirmation, provenance
from sweeper.results.confirmation import Confirmation
from sweeper.results.results import Results
from sweeper.spec import loading
from sweeper.state.atomic import write_json
from sweeper.state.sweep_folder import SweepFolder
from tests import finished
from tests.faults import tiny
from trainables.errors import FitError
from trainables.params import Params

POINT, BASELINE, NEW = 1, 0, (2, 3, 4)  # a trial of fairlora and lora's, of a sweep with the seeds 0 and 1
Trained = Counter[tuple[str, int, int]]  # (method, seed, epoch)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Trained:
    """What this process trains from now on."""
    counted = Trained()

    class Counting(tiny.Tiny):
        def train_epoch(self) -> dict[str, float]:
            counted[self._params.method, self._seed, self.epoch + 1] += 1
            return super().train_epoch()

    tiny.make_tiny(monkeypatch.setattr, tuning=Counting, record=tiny.Mute)
    return counted


def swept(root: Path, **changes: Any) -> SweepFolder:
    """A finished sweep of three trials."""
    spec = loading.changed(tiny.spec(root), changes)
    assert driver.run(spec, tiny.Silent(), executor=tiny.in_process).exit_code == 0
    return SweepFolder(root / tiny.NAME)


def confirm(folder: SweepFolder, which: str = str(POINT), seeds: int = 3, **options: Any) -> Confirmed:
    return driver.confirm(folder, which, seeds, **({"executor": tiny.in_process} | options))


@contextlib.contextmanager
def no_machines(resources: object) -> Iterator[None]:
    raise AssertionError("machines were asked for")
    yield


def truth(folder: SweepFolder, number: int, split: str) -> np.ndarray:
    """Accuracy and delta F1 [S, 2] of the trial with the new seeds, trained here by hand."""
    rows = []
    for seed in NEW:
        fit = tiny.Tiny(None, device="cpu", threads=1)
        fit.aim(Params.from_flat(dict(Results.open(folder).by_number[number].params)), seed)
        while not fit.done:
            fit.train_epoch()
        rows.append([fit.evaluate(split).values[name] for name in ("accuracy", "delta_f1")])
    return np.array(rows)


def test_both_are_trained_with_seeds_that_the_sweep_never_used_and_the_difference_is_students(
    tmp_path: Path, trained: Trained
) -> None:
    folder = swept(tmp_path)
    trained.clear()
    told = confirm(folder)
    assert trained == {(method, seed, epoch): 1 for method in ("lora", "fairlora") for seed in NEW for epoch in (1, 2)}
    assert (told.exit_code, told.confirmation.seeds) == (0, NEW)
    assert (told.confirmation.point, told.confirmation.baseline) == (POINT, BASELINE)
    for split, name in (("validation", "val"), ("test", "test")):
        apart_SM = truth(folder, POINT, name) - truth(folder, BASELINE, name)
        for m, each in enumerate(told.confirmation.of(split)):
            scale = apart_SM[:, m].std(ddof=1) / 3**0.5
            assert each.value == pytest.approx(apart_SM[:, m].mean())
            assert (each.low, each.high) == pytest.approx(stats.t.interval(0.95, 2, apart_SM[:, m].mean(), scale))
            assert not each.examples
    assert [each.metric for each in told.confirmation.of("test")] == ["accuracy", "delta_f1"]


def test_a_finished_confirmation_costs_nothing_and_more_seeds_cost_what_is_new(
    tmp_path: Path, trained: Trained
) -> None:
    folder = swept(tmp_path)
    first = confirm(folder, seeds=2)
    trained.clear()
    again = confirm(folder, seeds=2, executor=no_machines)
    assert (again.confirmation, sum(trained.values())) == (first.confirmation, 0)
    more = confirm(folder, seeds=3)
    assert {seed for _, seed, _ in trained} == {4}
    assert more.confirmation.seeds == NEW
    assert confirm(folder, seeds=1, executor=no_machines).confirmation == more.confirmation, "none are given up"


def test_an_interrupted_confirmation_goes_on_where_it_was_and_ends_as_an_unbroken_one(
    tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "unbroken").mkdir()
    unbroken = confirm(swept(tmp_path / "unbroken"))
    folder = swept(tmp_path)
    trained.clear()
    epochs, counting = iter(range(100)), tiny.finetuning.FineTuning

    class Interrupted(counting):
        def train_epoch(self) -> dict[str, float]:
            if next(epochs) == 4:
                signal.raise_signal(signal.SIGINT)
            return super().train_epoch()

    monkeypatch.setattr(tiny.finetuning, "FineTuning", Interrupted)
    broken = confirm(folder)
    assert broken.exit_code == 130
    assert not broken.confirmation.finished
    assert confirmation.read(folder)[0].ended_ms is None
    whole = confirm(folder)
    assert set(trained.values()) == {1}, "no epoch is trained twice"
    assert whole.confirmation.differences == unbroken.confirmation.differences


def test_the_search_sees_nothing_of_it(tmp_path: Path, trained: Trained) -> None:
    folder = swept(tmp_path, **{"storage.keep_weights": "front"})
    before = Results.open(folder)
    files = {path: path.read_bytes() for path in folder.path.glob("*.csv")}
    confirm(folder)
    after = Results.open(folder)
    assert (after.trials, after.front, len(after.fits)) == (before.trials, before.front, len(before.fits))
    assert after.recommendation() == before.recommendation()
    assert {path: path.read_bytes() for path in files} == files
    assert not list(folder.path.glob("trials/*/[234]/weights")), "they have served"
    assert tiny.go_on(tmp_path, trials=4).results.trials[:3] == before.trials


def test_a_fit_that_comes_to_nothing_is_told_and_nothing_is_measured_on_test(
    tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, counting = swept(tmp_path), tiny.finetuning.FineTuning

    class Diverging(counting):
        def train_epoch(self) -> dict[str, float]:
            if (self._params.method, self._seed) == ("fairlora", 3):
                raise FitError("diverged", "the loss became nan in epoch 1")
            return super().train_epoch()

    monkeypatch.setattr(tiny.finetuning, "FineTuning", Diverging)
    trained.clear()
    told = confirm(folder)
    assert {method for method, *_ in trained} == {"fairlora"}, "there would be nothing to compare lora with"
    assert told.exit_code == 1
    assert told.confirmation.failed == "trial 1, seed 3: diverged: the loss became nan in epoch 1"
    assert told.confirmation.differences == ()
    assert not list(folder.path.glob("held-out/*/[234].json"))
    shutil.rmtree(folder.fit(POINT, 3).path)  # the cause is mended
    monkeypatch.setattr(tiny.finetuning, "FineTuning", counting)
    mended = confirm(folder)
    assert (mended.exit_code, mended.confirmation.failed) == (0, None)
    assert mended.confirmation.finished


# --- what it refuses


def test_what_cannot_be_confirmed_is_told_with_its_mend(tmp_path: Path, trained: Trained) -> None:
    folder = swept(tmp_path)
    for which, seeds, options, said in [
        ("1", 0, {}, r"--seeds is 0\. Use 1 or more"),
        ("kne", 3, {}, r"the point 'kne' of 'tiny' is unknown\. Did you mean 'knee'\?"),
        ("0", 3, {}, r"tiny@0 is trial 0 \(lora r=8\), which is the baseline itself"),
        ("1", 3, {"method": "fft"}, r"no finished trial of 'fft' to compare with\. Of these it has: .*fairlora"),
    ]:
        with pytest.raises(UserError, match=said):
            confirm(folder, which, seeds, **options)
    spec = loading.changed(tiny.spec(tmp_path), {"search.trials": 4})
    folder.spec.write_bytes(loading.dump(spec).encode())
    with pytest.raises(UserError, match=r"has not ended \(3 of 4 trials\).*sweeper resume tiny"):
        confirm(folder)


def test_a_sweep_without_a_baseline_says_how_to_have_one_and_a_method_that_was_tried_will_do(
    tmp_path: Path, trained: Trained
) -> None:
    folder = swept(tmp_path, **{"search.baselines": [], "space.method": ["lora", "fairlora"], "search.trials": 6})
    methods = [str(trial.params["method"]) for trial in Results.open(folder).trials]
    point = str(methods.index("fairlora"))
    with pytest.raises(UserError, match=r"has no baseline to compare with\..*--baseline.*baselines: {lora: 5}"):
        confirm(folder, point)
    assert methods[confirm(folder, point, 2, method="lora").confirmation.baseline] == "lora"


def test_other_data_and_other_code_are_refused(
    tmp_path: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, now = swept(tmp_path), running_code.found()
    older = replace(now, parts={**now.parts, "trainables/finetuning.py": "an older one"})
    write_json(folder.path / "provenance.json", {"code": older.to_json()})
    with pytest.raises(UserError, match=r"was run with other code, .*trainables/finetuning\.py in .*: --new-code"):
        confirm(folder)
    other = {"dataset": tiny.DATA | {"split_hash": "other"}, "notes": []}
    with monkeypatch.context() as patch:
        patch.setattr(provenance, "describe", lambda spec, place, changes: other)
        with pytest.raises(UserError, match=r"(?s)has changed since it began.*split_hash: was tiny, is now other"):
            confirm(folder, new_code=True)
    assert confirm(folder, new_code=True).exit_code == 0


def test_a_confirmation_of_a_newer_release_is_refused() -> None:
    body = Confirmation(1, 0, (2,), "knee", "the knee").to_json()
    assert Confirmation.from_json(json.loads(json.dumps(body))) == Confirmation(1, 0, (2,), "knee", "the knee")
    with pytest.raises(UserError, match=r"has schema 2; this release reads 1\. Use the release that wrote it"):
        Confirmation.from_json(body | {"schema": 2})


# --- where it is shown


def test_the_record_has_a_run_of_it_with_each_number_and_rebuilt_it_has_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.make_tiny(monkeypatch.setattr, record=tiny.Mute)
    folder = swept(tmp_path)
    monkeypatch.setattr(attempt, "Projector", tiny.Prompt)
    told = confirm(folder).confirmation
    shown = []
    for _ in range(2):
        with sqlite3.connect(tmp_path / "mlflow.db") as store:
            shown.append(store.execute(
                "select r.status, m.key, m.value, m.timestamp, m.step from runs r join metrics m using (run_uuid) "
                "join tags t using (run_uuid) where t.key = 'sweeper.confirms' and t.value = '1-0' "
                "and r.lifecycle_stage = 'active' order by m.key"
            ).fetchall())  # fmt: skip
        record.rebuild(folder)
    assert shown[0] == shown[1]
    values = {key: value for _, key, value, _, _ in shown[0]}
    (accuracy, _) = told.of("test")
    assert values["test/accuracy/difference"] == pytest.approx(accuracy.value)
    assert values["test/accuracy/low"] == pytest.approx(accuracy.low)
    assert {(status, step) for status, *_, step in shown[0]} == {("FINISHED", 3)}


def test_the_report_and_the_command_tell_it_by_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Right of 40, seeds 2 and 3: trial 2 has 25 + 10 and 24 + 10, lora's trial 0 27 + 6 and 26 + 7; on test 2 less."""
    finished.sweep(tmp_path / "birds")
    folder = SweepFolder(tmp_path / "birds", token=1)
    finished.confirmed(folder, 2, 0, (2, 3))
    (told,) = confirmation.read(folder)
    accuracy = next(each for each in told.of("validation") if each.metric == "accuracy")
    assert (accuracy.point, accuracy.baseline) == pytest.approx((0.8625, 0.825))
    assert accuracy.low < accuracy.value < accuracy.high
    assert accuracy.examples
    root = ["--root", str(tmp_path)]
    assert main.main(["confirm", "birds@knee", "--seeds", "2", *root]) == 0
    said = capsys.readouterr().out
    assert "(knee) against #0 lora" in said
    assert "with seeds 2 to 3, which the sweep never used" in said
    assert "On test over 2 new seeds (neither its examples nor the seeds have chosen anything): accuracy" in said
    links = note.Links("1", "parent", dict.fromkeys(range(7), "run"))
    assert "#2 against #0: On test over 2 new seeds" in note.write(Results.open(folder), links, [told])
    assert main.main(["report", "birds", *root, "-o", str(tmp_path / "r.md")]) == 0
    assert "Trained again with new seeds" in (tmp_path / "r.md").read_text()
    assert main.main(["export", "birds", *root, "-o", str(tmp_path / "birds.json")]) == 0
    (exported,) = json.loads((tmp_path / "birds.json").read_text())["confirmations"]
    assert Confirmation.from_json(exported) == told
    capsys.readouterr()
    assert main.main(["confirm", "birds@knee", "--seeds", "2", "--json", *root]) == 0
    assert json.loads(capsys.readouterr().out)["point"] == 2
