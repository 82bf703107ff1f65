"""Workers of a real Ray that die where no training does: before their first fit, and between two."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from sweeper.state import opening
from sweeper.state.sweep_folder import SweepFolder
from sweeper.trial import State
from tests.faults import tiny

ROOT = Path(__file__).parents[2]


def test_a_worker_that_dies_as_it_starts_or_between_two_fits_costs_no_trial(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.dying", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},  # for its workers: of the folder it stands in they import nothing
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert {path.name for path in tmp_path.glob("died-at-*")} == {"died-at-start", "died-at-reset"}
    trials = opening.open_study(SweepFolder(tmp_path / tiny.NAME)).trials()
    assert [trial.state for trial in trials] == [State.COMPLETE] * 3
    assert done.stderr.count("its worker died; another one goes on (1 of 1)") == 2
