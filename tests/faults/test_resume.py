"""Resuming: what the interruption cost is said, and what may change of a sweep does."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeper.errors import UserError
from sweeper.results.results import Results
from sweeper.spec import loading
from sweeper.state import lease, opening
from sweeper.state.sweep_folder import SweepFolder
from tests.faults import tiny
from tests.faults.tiny import Silent, Tiny


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.make_tiny(monkeypatch.setattr, record=tiny.Mute)


def killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepFolder:
    """A sweep that ended at once in its third epoch."""
    epochs = iter(range(100))

    class Killed(Tiny):
        def train_epoch(self) -> dict[str, float]:
            if next(epochs) == 2:
                raise KeyboardInterrupt
            return super().train_epoch()

    tiny.make_tiny(monkeypatch.setattr, tuning=Killed, record=tiny.Mute)
    with pytest.raises(KeyboardInterrupt):
        tiny.begin(tmp_path)
    tiny.make_tiny(monkeypatch.setattr, record=tiny.Mute)
    return SweepFolder(tmp_path / tiny.NAME)


def test_resume_says_what_is_paid_again_and_the_next_one_does_not_say_it_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(tmp_path, monkeypatch)
    listener = Silent()
    assert tiny.go_on(tmp_path, listener).exit_code == 0
    assert "resumed: 1 fit was in flight; at most 2 CPU-seconds are paid again" in listener.notes
    assert tiny.go_on(tmp_path, listener).exit_code == 0
    assert "resumed: no fit was in flight, nothing is paid again" in listener.notes


def test_a_resume_may_bring_other_resources_and_stop_rules_and_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, listener = killed(tmp_path, monkeypatch), Silent()
    wanted = tiny.spec(tmp_path, trials=4, more="resources: {max_retries: 7}\n")
    assert len(tiny.go_on(tmp_path, listener, wanted=wanted).results.trials) == 4
    assert "changed: search.trials: was 3, is now 4" in listener.notes
    assert "changed: resources.max_retries: was 3, is now 7" in listener.notes
    assert opening.open_spec(folder).resources.max_retries == 7


def test_a_resume_that_asks_another_question_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = killed(tmp_path, monkeypatch)
    before = folder.spec.read_bytes()
    with pytest.raises(UserError, match=r"groups: was class, is now cell"):
        tiny.go_on(tmp_path, wanted=loading.changed(tiny.spec(tmp_path), {"groups": "cell"}))
    assert folder.spec.read_bytes() == before


def test_a_finished_sweep_takes_a_larger_budget_and_keeps_its_trials(tmp_path: Path) -> None:
    before = tiny.begin(tmp_path).results.trials
    after = tiny.go_on(tmp_path, trials=6).results.trials
    assert after[:3] == before
    assert len(after) == 6


def test_status_says_why_a_sweep_stands_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = killed(tmp_path, monkeypatch)
    monkeypatch.setattr(lease, "born", lambda pid: "gone")
    held = lease.Lease(opening.study_url(opening.open_spec(folder), folder), tiny.NAME)
    held.acquire()
    monkeypatch.setattr(lease, "born", lambda pid: "")
    assert Results.open(folder).progress.why == f"its driver died: {held.holder()}"
    held.release()

    class Broken(Tiny):
        def train_epoch(self) -> dict[str, float]:
            raise RuntimeError("no such kernel")

    tiny.make_tiny(monkeypatch.setattr, tuning=Broken, record=tiny.Mute)
    outcome = tiny.go_on(tmp_path, trials=9)
    assert outcome.results.progress.why == Results.open(folder).progress.why
    assert "5 trials failed in a row; the last: seed 0: raised: no such kernel" in outcome.results.progress.why
    assert "sweeper resume tiny" in outcome.results.progress.why
    tiny.make_tiny(monkeypatch.setattr, record=tiny.Mute)
    tiny.go_on(tmp_path)
    assert Results.open(folder).progress.why is None
