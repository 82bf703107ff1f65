"""Workers of a real Ray that die where no training does, and Ray's own processes: what comes of it, what is said."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sweeper.state import opening
from sweeper.state.sweep_folder import SweepFolder
from sweeper.trial import State
from tests.faults import tiny

ROOT = Path(__file__).parents[2]
RAYS = ("(raylet)", "rpc_client.h", "state-dump", "gcs_server.out", "Traceback")  # words of Ray's own log


def sweep(folder: Path, *deaths: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.faults.dying", str(folder), *deaths],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},  # for its workers: of the folder it stands in they import nothing
        capture_output=True,
        text=True,
        start_new_session=True,
    )


def rays_own(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in (done.stdout + done.stderr).splitlines() if any(word in line for word in RAYS)]


@pytest.mark.timeout(900)  # a busy machine starts a Ray in a minute, and a worker in two
def test_a_worker_that_dies_as_it_starts_or_between_two_fits_costs_no_trial_and_is_one_line(tmp_path: Path) -> None:
    done = sweep(tmp_path, "start", "reset")
    assert done.returncode == 0, done.stderr[-3000:]
    assert {path.name for path in tmp_path.glob("died-at-*")} == {"died-at-start", "died-at-reset"}
    trials = opening.open_study(SweepFolder(tmp_path / tiny.NAME)).trials()
    assert [trial.state for trial in trials] == [State.COMPLETE] * 3
    assert done.stderr.count("its worker died; another one goes on (1 of 1)") == 2
    assert rays_own(done) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_death_of_rays_raylet_or_head_is_one_sentence_and_the_way_on(tmp_path: Path) -> None:
    for process, said in {"raylet": "its raylet", "gcs_server": "its head, the gcs_server"}.items():
        done = sweep(tmp_path, process)
        assert (tmp_path / f"died-at-{process}").exists(), done.stderr[-3000:]
        assert (done.returncode, rays_own(done)) == (3, [])
        sentence = f"paused: Ray's own process on this machine ({said}) died. Nothing that was finished is lost."
        assert done.stdout.splitlines()[-2:] == [
            sentence,
            f"paused; nothing is lost. Go on with: sweeper resume tiny --root {tmp_path}",
        ]
    assert sweep(tmp_path).returncode == 0
    trials = opening.open_study(SweepFolder(tmp_path / tiny.NAME)).trials()
    assert [trial.state for trial in trials] == [State.COMPLETE] * 3
