"""Durable files cut, with a bit flipped, or gone: reported with the file and the mend, never a fresh start."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sweeper.cli import main
from sweeper.engine import attempt, driver
from sweeper.engine.attempt import Outcome
from sweeper.errors import Corrupt, Paused, UserError
from sweeper.screen import live
from sweeper.spec import loading
from sweeper.state import opening
from sweeper.state.study import Study
from sweeper.state.sweep_folder import SweepFolder
from tests.faults.audit import audit
from tests.faults.pretend import Pretend

SPEC = """
name: half
space: {{method: [lora, fairlora], rank: [4, 8, 16, 32], learning_rate: {{low: 1e-3, high: 1e-2}}, epochs: 3}}
search: {{sampler: random, trials: 4, seeds: 2}}
storage: {{root: "{root}"}}
"""
TOLD, OPEN = "trials/00001/0", "trials/00002/1"  # a fit of a trial that was told; one that had two of its three epochs


class Struck(Exception):
    """What ends the attempt in the middle."""


class Silent:
    """No record: these tests are not about MLflow, and its tables take longer than all of them."""

    last, whole = "", False

    def __init__(self, make: object, look: object, guard: object) -> None: ...
    def start(self, after_s: float = 0.0) -> None: ...
    def poke(self) -> None: ...
    def finish(self, timeout_s: float) -> bool:
        return True


@pytest.fixture(autouse=True)
def _no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "Projector", Silent)


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trials 0 and 1 told; 2 with one result, and one fit struck in its third epoch; 3 not asked yet."""
    root = tmp_path_factory.mktemp("halves")
    left = [18]

    def strike(instant: str) -> None:
        left[0] -= instant == "checkpoint"
        if not left[0]:
            raise Struck

    spec = loading.parse(SPEC.format(root=root))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attempt, "Projector", Silent)
        with pytest.raises(Struck):
            driver.run(spec, live.Lines(spec.name), executor=Pretend(root / "ledger", at=strike).executor)
    return root


@pytest.fixture
def half(halves: Path, tmp_path: Path) -> Path:
    """A copy of it to harm."""
    shutil.copytree(halves / "half", tmp_path / "half")
    shutil.copy(halves / "ledger", tmp_path / "ledger")
    return tmp_path / "half"


def resume(path: Path) -> Outcome:
    folder = SweepFolder(path)
    listener = live.Lines(path.name)
    return driver.resume(folder, listener, executor=Pretend(path.parent / "ledger").executor)


def results(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("result.json"))}


def only(path: Path, pattern: str) -> Path:
    """The newest of the files of that name."""
    return sorted(path.glob(pattern))[-1]


# --- the harms


def cut(path: Path) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def delete(path: Path) -> None:
    path.unlink()


@dataclass(frozen=True)
class Case:
    """A file, what happens to it, and what is said; `goes_on` where the sweep mends it itself, and says so."""

    file: str
    harm: Callable[[Path], None]
    says: str
    goes_on: bool = False

    def __str__(self) -> str:
        return f"{self.harm.__name__} {self.file}"


REFUSED = [
    Case("trials/00002/0/result.json", cut, r"result\.json is damaged .* delete it: while its trial is open"),
    Case("trials/00002/0/result.json", flip, r"result\.json is damaged"),
    Case("spec.yaml", cut, r"spec\.yaml is cut off .* The record has a copy"),
    Case("spec.yaml", delete, r"spec\.yaml is missing\. Put it back"),
    Case("study.db", cut, r"study\.db is damaged .* Put back a copy"),
    Case("study.db", delete, r"study\.db is missing\. Put the database back"),
]


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_a_damaged_file_is_refused_with_its_name_and_mend_and_put_back_all_is_well(half: Path, case: Case) -> None:
    file, before = half / case.file, results(half)
    kept = file.read_bytes()
    case.harm(file)
    with pytest.raises(Paused, match=case.says) as told:
        resume(half)
    assert told.value.exit_code == 3
    assert case.file in str(told.value)
    file.write_bytes(kept)
    outcome = resume(half)
    assert (outcome.exit_code, outcome.notes) == (0, [])
    assert before.items() <= results(half).items(), "nothing that was done is done again"
    assert audit(half, half.parent / "ledger", budget=4, seeds=(0, 1), interruptions=1, record=None).faults == []


MENDED = [
    Case(f"{OPEN}/checkpoint-000002-*", cut, "damaged; the fit goes on from the checkpoint before it"),
    Case(f"{OPEN}/checkpoint-000002-*", flip, "damaged; the fit goes on from the checkpoint before it"),
    Case("fence", cut, "fence is damaged"),
    Case("fence", flip, "fence is damaged"),
    Case("manifest.csv", cut, "was not as it was written; it is written again"),
    Case("manifest.csv", flip, "was not as it was written; it is written again"),
]


@pytest.mark.parametrize("case", MENDED, ids=str)
def test_what_the_sweep_can_mend_itself_it_mends_and_says(half: Path, case: Case, caplog, capfd) -> None:
    file = only(half, case.file)
    case.harm(file)
    outcome = resume(half)
    assert (outcome.exit_code, outcome.notes) == (0, [])
    heard = capfd.readouterr()
    assert case.says in " ".join((heard.err + heard.out + caplog.text).split())
    assert str(file) in heard.err + heard.out + caplog.text
    found = audit(half, half.parent / "ledger", budget=4, seeds=(0, 1), interruptions=1, back=2, record=None)
    assert found.faults == []


@pytest.mark.parametrize("gone", ["fence", "manifest.csv", f"{OPEN}/checkpoint-000002-*", "provenance.json"])
def test_what_can_be_made_again_may_be_missing(half: Path, gone: str) -> None:
    delete(only(half, gone))
    assert resume(half).exit_code == 0
    found = audit(half, half.parent / "ledger", budget=4, seeds=(0, 1), interruptions=1, back=2, record=None)
    assert found.faults == []


def test_a_fit_all_of_whose_checkpoints_are_damaged_is_not_begun_afresh_without_being_told_to(half: Path) -> None:
    for checkpoint in (half / OPEN).glob("checkpoint-*"):
        flip(checkpoint)
    with pytest.raises(Corrupt, match=rf"no checkpoint in .*{OPEN} is whole .* delete that folder"):
        resume(half)
    shutil.rmtree(half / OPEN)
    assert resume(half).exit_code == 0


@pytest.mark.parametrize("harm", [cut, flip, delete])
def test_a_damaged_result_of_a_told_trial_changes_no_number_and_is_no_silent_success(half: Path, harm) -> None:
    harm(half / TOLD / "result.json")
    outcome = resume(half)
    assert outcome.exit_code == 1
    (note,) = outcome.notes
    assert f"{TOLD}/result.json is" in note
    assert "The numbers of its trial are in the study." in note
    assert [trial.state.value for trial in outcome.results.trials] == ["complete"] * 4


@pytest.mark.parametrize("harm", [cut, flip])
def test_a_damaged_test_number_is_reported_and_measured_again_once_it_is_deleted(half: Path, harm) -> None:
    assert resume(half).exit_code == 0
    measured = only(half, "held-out/*/0.json")
    harm(measured)
    outcome = resume(half)
    assert outcome.exit_code == 1
    assert outcome.notes == [
        f"{measured} is damaged (its checksum does not fit). Delete it: the next resume measures it again."
    ]
    measured.unlink()
    assert resume(half).exit_code == 0
    assert measured.exists()


def test_a_fence_that_breaks_in_the_middle_stops_the_writers(half: Path) -> None:
    folder = SweepFolder(half, token=9)
    folder.raise_fence()
    flip(half / "fence")
    with pytest.raises(Corrupt, match=r"fence is damaged .* The next resume writes it again"):
        folder.fit(3, 0).write_result({"params": {}})
    assert not (half / "trials" / "00003").exists()


def test_a_database_that_is_older_than_the_fence_is_refused(half: Path) -> None:
    SweepFolder(half, token=9).raise_fence()
    with pytest.raises(UserError, match=r"fence is of attempt 9, the database says 2\. .* Put the newest back"):
        resume(half)


def test_the_spec_of_another_sweep_is_not_taken_for_this_ones(half: Path) -> None:
    other = loading.changed(loading.load(half / "spec.yaml"), {"name": "other"})
    (half / "spec.yaml").write_text(loading.dump(other))
    with pytest.raises(Corrupt, match="is that of a sweep 'other', in the folder of 'half'"):
        resume(half)


def test_no_flipped_bit_of_the_spec_is_taken_for_another_question(half: Path) -> None:
    asked, raw, seen = loading.load(half / "spec.yaml"), (half / "spec.yaml").read_bytes(), 0
    chance = random.Random(0)
    for _ in range(40):
        harmed = bytearray(raw)
        harmed[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
        (half / "spec.yaml").write_bytes(harmed)
        try:
            found = opening.open_spec(SweepFolder(half))
        except UserError:
            seen += 1
            continue
        differences = loading.difference(asked.identity(), found.identity())  # these a resume shows and refuses
        free = {"resources", "storage", "search"}  # what may change between two attempts
        was, now = asked.model_dump(), found.model_dump()
        now["data"]["root"] = was["data"]["root"]  # the digest of the data says whether it is the same elsewhere
        changed = {key for key in was if was[key] != now[key]}
        assert differences or changed <= free
    assert seen > 20


def test_no_flipped_bit_of_the_study_changes_what_it_tells(half: Path) -> None:
    spec, url, raw = (
        loading.load(half / "spec.yaml"),
        f"sqlite:///{half / 'study.db'}",
        (half / "study.db").read_bytes(),
    )
    truth, seen = told(Study(spec, url)), 0
    chance = random.Random(0)
    used = [i for i in range(len(raw)) if raw[i]]  # most of a database is empty
    for _ in range(50):
        harmed = bytearray(raw)
        harmed[chance.choice(used)] ^= 1 << chance.randrange(8)
        (half / "study.db").write_bytes(harmed)
        try:
            assert told(Study(spec, url)) == truth
        except UserError:
            seen += 1
    assert seen > 3, "nothing that mattered was hit"


def told(study: Study) -> tuple[object, ...]:
    """All that a search and a front are made from."""
    rows = [(t.number, t.state, t.params, t.values, t.metrics, t.feasible, t.baseline) for t in study.trials()]
    return rows, study.identity, study.uuid


def test_a_damaged_sweep_is_named_and_does_not_hide_the_others(half: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(half, half.with_name("other"))
    spec = loading.changed(loading.load(half / "spec.yaml"), {"name": "other"})
    (half.with_name("other") / "spec.yaml").write_text(loading.dump(spec))
    cut(half / "spec.yaml")
    assert main.main(["list", "--root", str(half.parent)]) == 3
    heard = capsys.readouterr()
    assert "half: " in heard.err
    assert "spec.yaml is cut off" in heard.err
    assert "other: " in heard.out


@pytest.mark.parametrize(("harm", "says"), [(cut, "is damaged"), (flip, "is damaged"), (delete, "is missing")])
def test_weights_that_the_result_does_not_vouch_for_are_not_measured(half: Path, harm, says: str) -> None:
    fit, made = SweepFolder(half, token=9).fit(7, 0), half / "trials" / "00007" / "0" / ".made"
    made.mkdir(parents=True)
    (made / "adapter_model.safetensors").write_bytes(bytes(range(64)))
    fit.keep_weights(made)
    fit.write_result({"weights": fit.digests()})
    fit.check_weights()
    harm(fit.weights / "adapter_model.safetensors")
    with pytest.raises(Corrupt, match=rf"weights/adapter_model\.safetensors {says}.* Put back a copy"):
        fit.check_weights()
