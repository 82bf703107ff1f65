"""What people do to a sweep: interrupt it, twice, freeze it, drive it twice, change its spec, its budget, the clock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sweeper.engine import driver
from sweeper.engine.attempt import Outcome
from sweeper.errors import UserError
from sweeper.screen import live
from sweeper.spec import loading
from sweeper.state import lease as leases
from sweeper.state.atomic import write_bytes
from sweeper.state.lease import Held, Lease
from sweeper.state.sweep_folder import SweepFolder
from tests.faults import arms
from tests.faults.audit import audit, read
from tests.faults.ledger import environment
from tests.faults.pretend import EPOCHS, Pretend

SPEC = """
name: {name}
groups: cell
space: {{method: lora, rank: [4, 8, 16, 32], learning_rate: {{low: 1e-3, high: 1e-2}}, epochs: 3}}
search: {{sampler: random, trials: {trials}, seeds: 2}}
storage: {{root: "{root}"}}
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all: making MLflow's tables takes longer than the tests."""
    return tmp_path_factory.mktemp("root")


def begin(root: Path, name: str, trials: int = 2) -> Outcome:
    spec = loading.parse(SPEC.format(name=name, trials=trials, root=root))
    return driver.run(spec, live.Lines(spec.name), executor=Pretend(root / f"{name}.jsonl").executor)


def go_on(root: Path, name: str, trials: int | None = None) -> Outcome:
    folder = SweepFolder(root / name)
    listener = live.Lines(folder.name)
    return driver.resume(folder, listener, trials=trials, executor=Pretend(root / f"{name}.jsonl").executor)


def faults(root: Path, name: str, trials: int, interruptions: int = 0) -> list[str]:
    return audit(root / name, root / f"{name}.jsonl", budget=trials, seeds=(0, 1), interruptions=interruptions).faults


def start(root: Path, name: str, *options: str) -> subprocess.Popen[str]:
    """A driver in a process of its own."""
    path = root / f"{name}.yaml"
    path.write_text(SPEC.format(name=name, trials=2, root=root))
    command = [sys.executable, "-m", "tests.faults.pretend", str(path), "--ledger", str(root / f"{name}.jsonl")]
    return subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def frozen(process: subprocess.Popen[str]) -> None:
    """Wait until it has stopped itself."""
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status), "it ended before it was frozen"


def stores(root: Path, name: str) -> dict[str, bytes]:
    """Every durable byte of the sweep but the lease's own renewals."""
    folder = root / name
    files = [path for part in ("trials", "held-out") for path in (folder / part).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize(("instant", "refusal"), [("checkpoint", "Fenced"), ("result", "Fenced"), ("tell", "Held")])
def test_a_driver_frozen_past_its_lease_is_fenced_and_its_late_writes_are_refused(
    root: Path, instant: str, refusal: str
) -> None:
    name = f"frozen-{instant}"
    process = start(root, name, "--lease-s", "1.5", "--freeze", instant)
    frozen(process)
    with pytest.raises(Held, match=f"is being driven by process {process.pid}"):
        go_on(root, name)
    lease = Lease(f"sqlite:///{root / name / 'study.db'}", name)
    while lease.holder().alive:
        time.sleep(0.1)
    lease.close()
    assert go_on(root, name).results.state == "finished"
    before = stores(root, name)
    os.kill(process.pid, signal.SIGCONT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert refusal in err
    assert "taken over" in err
    assert stores(root, name) == before
    assert go_on(root, name).exit_code == 0  # what was frozen may have held MLflow's database
    # One fit was under way in two places at once; it has one result, and that one is told.
    assert [said for said in faults(root, name, 2, interruptions=1) if not said.startswith("again")] == []


def test_a_second_interrupt_ends_it_at_once_and_nothing_is_lost(root: Path) -> None:
    process = start(root, "twice", "--epoch-s", "60")
    while not read(root / "twice.jsonl"):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None, "the first waits for the epoch that is on its way"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert go_on(root, "twice").exit_code == 0
    assert faults(root, "twice", 2, interruptions=1) == []


def test_what_makes_trials_comparable_cannot_change_and_the_difference_is_shown(root: Path) -> None:
    begin(root, "changed")
    path = SweepFolder(root / "changed").spec
    kept = path.read_bytes()
    asked = loading.changed(loading.load(path), {"space.rank": [4, 64], "train.clip_norm": 0.5})
    write_bytes(path, loading.dump(asked).encode())
    with pytest.raises(UserError) as refused:
        go_on(root, "changed", trials=3)
    assert "space.rank: was [4, 8, 16, 32], is now [4, 64]" in str(refused.value)
    assert "train.clip_norm: was 1.0, is now 0.5" in str(refused.value)
    write_bytes(path, kept)
    assert faults(root, "changed", 2) == []


def test_resources_and_stop_rules_may_change(root: Path) -> None:
    begin(root, "resources")
    path = SweepFolder(root / "resources").spec
    changes = {"resources.max_concurrent": 1, "resources.max_retries": 9, "search.max_failures": 2}
    write_bytes(path, loading.dump(loading.changed(loading.load(path), changes)).encode())
    assert go_on(root, "resources", trials=3).exit_code == 0
    assert faults(root, "resources", 3) == []


def test_a_raised_budget_is_exact_and_keeps_what_there_is(root: Path) -> None:
    begin(root, "raised")
    before = stores(root, "raised")
    assert go_on(root, "raised", trials=5).exit_code == 0
    after = stores(root, "raised")
    assert {name: after[name] for name in before if name.startswith("trials")} == {
        name: body for name, body in before.items() if name.startswith("trials")
    }
    assert len(read(root / "raised.jsonl")) == 5 * 2 * (EPOCHS + 1)
    assert faults(root, "raised", 5) == []


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_sweep_survives_a_clock_that_was_an_hour_off(root: Path, monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    name = f"clock{hours:+d}".replace("+", "-plus-").replace("--", "-minus-")
    real, real_ns = time.time, time.time_ns
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: real() + hours * 3600)
        patch.setattr(time, "time_ns", lambda: real_ns() + hours * 3600 * 10**9)
        assert begin(root, name).exit_code == 0
    assert go_on(root, name, trials=3).exit_code == 0
    assert faults(root, name, 3) == []


def test_only_the_databases_clock_says_when_a_lease_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    holder = Lease(url, "a")
    holder.acquire()
    for off_s in (-3600.0, 3600.0):
        monkeypatch.setattr(time, "time", lambda off_s=off_s: 1.8e9 + off_s)
        with pytest.raises(Held):
            Lease(url, "a").acquire()
    monkeypatch.setitem(leases._NOW, "sqlite", f"({leases._NOW['sqlite']}) + 3600")  # the database's own says: over
    assert Lease(url, "a").acquire() == 2
    assert not holder.held()
    holder.release()


# --- on real Ray


def real(tmp_path: Path) -> tuple[arms.Arm, arms.Case]:
    return arms.sweeper(trials=2, seeds=1), arms.Case(0, slots=1, lane=tmp_path)


def launch(arm: arms.Arm, case: arms.Case) -> subprocess.Popen[str]:
    return subprocess.Popen(
        arm.command(case),
        env=environment(case.ledger, case.lane / "bytecode"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def at_work(case: arms.Case) -> None:
    until = time.monotonic() + 200
    while len(read(case.ledger)) < 2:
        assert time.monotonic() < until, "no fit began"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("how", "code"), [("int", 130), ("term", 143), ("int twice", 130), ("int, group", 130)])
def test_a_sweep_that_was_told_to_stop_says_so_and_goes_on_where_it_was(tmp_path: Path, how: str, code: int) -> None:
    arm, case = real(tmp_path)
    process = launch(arm, case)
    at_work(case)
    number = signal.SIGINT if how.startswith("int") else signal.SIGTERM
    send = os.killpg if how.endswith("group") else os.kill
    send(process.pid, number)
    if how.endswith("twice"):
        time.sleep(0.1)
        send(process.pid, number)
    out, _ = process.communicate(timeout=200)
    assert process.returncode == code, out
    assert "sweeper resume" in out
    process = launch(arm, case)
    assert (process.communicate(timeout=280)[0], process.returncode)[1] == 0
    tally = arm.audit(case, 1)
    assert tally.good, tally.said


@pytest.mark.slow
def test_a_real_driver_frozen_past_its_lease_is_fenced_with_all_of_its_actors(tmp_path: Path) -> None:
    arm, case = real(tmp_path)
    first = launch(arm, case)
    at_work(case)
    os.kill(first.pid, signal.SIGSTOP)  # its actor goes on: it is the fence that has to stop it
    lease = Lease(f"sqlite:///{case.folder / 'study.db'}", case.name)
    while lease.holder().alive:
        time.sleep(1)
    lease.close()
    second = launch(arm, case)
    assert (second.communicate(timeout=280)[0], second.returncode)[1] == 0
    os.kill(first.pid, signal.SIGCONT)
    out, _ = first.communicate(timeout=280)
    assert first.returncode not in (0, None), out
    tally = arm.audit(case, 1)
    assert (tally.lost, tally.zombies, tally.duplicates, tally.orphans, tally.disagreements) == (0, 0, 0, 0, 0)
