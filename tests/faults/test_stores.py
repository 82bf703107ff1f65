"""Stores that are away, locked or full, while fits go on: what must not wait does not, what must not be lost is not."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sweeper.engine import attempt, driver
from sweeper.engine.attempt import Outcome
from sweeper.errors import Paused
from sweeper.screen import live
from sweeper.spec import loading
from sweeper.state import database
from sweeper.state.sweep_folder import SweepFolder
from tests.faults import tiny
from tests.faults.audit import audit
from tests.faults.pretend import Pretend
from tests.faults.test_corruption import Silent

SPEC = """
name: birds
space: {{method: [lora, fairlora], rank: [4, 8, 16, 32], learning_rate: {{low: 1e-3, high: 1e-2}}, epochs: 3}}
search: {{sampler: random, trials: 3, seeds: 2}}
storage: {{root: "{root}", {more}}}
"""


def nothing(instant: str) -> None:
    """Nobody strikes."""


def begin(root: Path, *, at: Callable[[str], None] = nothing, more: str = "") -> Outcome:
    spec = loading.parse(SPEC.format(root=root / "sweeps", more=more))
    return driver.run(spec, live.Lines(spec.name), executor=Pretend(root / "ledger", at=at).executor)


def resume(root: Path) -> Outcome:
    folder = SweepFolder(root / "sweeps" / "birds")
    return driver.resume(folder, live.Lines(folder.name), executor=Pretend(root / "ledger").executor)


def end(study: Path) -> None:
    """What the end of a process does, which these tests share with their driver: the lease's holder is no more."""
    with contextlib.closing(sqlite3.connect(study)) as connection, connection:
        connection.execute("UPDATE sweeper_lease SET born = 'before'")


def faults(root: Path, **stores: str | None) -> list[str]:
    folder, ledger = root / "sweeps" / "birds", root / "ledger"
    return audit(folder, ledger, budget=3, seeds=(0, 1), interruptions=1, **{"record": None, **stores}).faults


def once(instant: str, nth: int, act: Callable[[], None]) -> Callable[[str], None]:
    """Do `act` at the n-th such instant."""
    left = [nth]

    def at(now: str) -> None:
        left[0] -= now == instant
        if now == instant and left[0] == 0:
            act()

    return at


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """No record, where the test is not about it."""
    monkeypatch.setattr(attempt, "Projector", Silent)


# --- the study's SQLite file, locked by somebody else


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.1)
    monkeypatch.setattr(database, "PATIENCE_S", 1.5)


def lock(root: Path) -> sqlite3.Connection:
    """Hold the study as another program would that copies it, or looks at it without ever ending."""
    held = sqlite3.connect(root / "sweeps" / "birds" / "study.db", isolation_level=None, check_same_thread=False)
    held.execute("BEGIN EXCLUSIVE")
    return held


def test_a_study_locked_for_a_moment_is_waited_for(tmp_path: Path, silent: None, monkeypatch) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.1)

    def briefly() -> None:
        threading.Timer(1.0, lock(tmp_path).close).start()

    assert begin(tmp_path, at=once("tell", 3, briefly)).exit_code == 0
    assert faults(tmp_path) == []


def test_a_study_locked_for_too_long_pauses_the_sweep_and_nothing_is_lost(
    tmp_path: Path, silent: None, impatient: None
) -> None:
    held: list[sqlite3.Connection] = []
    with pytest.raises(Paused, match=r"study\.db does not answer .*locked.*End the process that locks it, then resume"):
        begin(tmp_path, at=once("tell", 4, lambda: held.append(lock(tmp_path))))
    with pytest.raises(Paused, match="locked"):
        resume(tmp_path)
    held[0].close()
    end(tmp_path / "sweeps" / "birds" / "study.db")
    assert resume(tmp_path).exit_code == 0
    assert faults(tmp_path) == []


# --- a full disk


@pytest.fixture
def disk() -> Iterator[Path]:
    """A file system of 4 MB."""
    with tempfile.TemporaryDirectory(prefix="disk-") as name:
        mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", name]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("a small file system can only be mounted by root")
        try:
            yield Path(name)
        finally:
            subprocess.run(["umount", "-l", name], check=True)


def fill(disk: Path) -> None:
    """Take all the room there is, to the last byte."""
    with (disk / "filler").open("ab", buffering=0) as file:
        for size in (65536, 512, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"\0" * size)


@pytest.mark.parametrize("instant", ["checkpoint", "result", "tell"])
def test_a_full_disk_under_everything_pauses_the_sweep_and_nothing_is_lost(
    disk: Path, silent: None, instant: str
) -> None:
    with pytest.raises(Paused, match=r"(No space left on device|has no room).*Make room, then resume"):
        begin(disk, at=once(instant, 2, lambda: fill(disk)))
    (disk / "filler").unlink()
    end(disk / "sweeps" / "birds" / "study.db")
    assert resume(disk).exit_code == 0
    assert faults(disk) == []


def test_a_full_disk_under_the_study_alone_pauses_the_sweep(disk: Path, tmp_path: Path, silent: None) -> None:
    more, url = f"study: 'sqlite:///{disk / 'study.db'}'", f"sqlite:///{disk / 'study.db'}"
    with pytest.raises(Paused, match=rf"database {disk}/study\.db has no room .*full"):
        begin(tmp_path, at=once("tell", 3, lambda: fill(disk)), more=more)
    (disk / "filler").unlink()
    end(disk / "study.db")
    assert resume(tmp_path).exit_code == 0
    assert faults(tmp_path, study=url) == []


def test_a_full_disk_in_a_worker_pauses_the_sweep_instead_of_failing_its_trials(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweeper.engine.actor import FitActor
    from sweeper.engine.order import Order, config
    from sweeper.state.fit_folder import FitFolder

    folder = SweepFolder(disk / "birds", token=1)
    folder.claim(loading.dump(loading.parse(SPEC.format(root=disk, more=""))).encode())
    folder.raise_fence()
    params = {"method": "lora", "rank": 4, "learning_rate": 2e-3, "epochs": 2}
    actor = FitActor(config(tiny.node(folder), Order(0, 0, params)))
    fill(disk)
    step = actor.step()
    assert step["done"]
    assert os.strerror(errno.ENOSPC) in step["to_mend"]
    assert str(disk) in step["to_mend"]
    assert FitFolder.result(folder.fit(0, 0)) is None, "it is no failure of the fit's"
