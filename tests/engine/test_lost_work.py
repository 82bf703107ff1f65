"""What an interruption cost is bounded by the fits' own clocks, said once, and never guessed."""

from __future__ import annotations

import json
from pathlib import Path

from sweeper.engine import lost_work
from sweeper.engine.watchdog import BEAT_S
from sweeper.state.sweep_folder import SweepFolder


def folder(tmp_path: Path) -> SweepFolder:
    return SweepFolder(tmp_path / "a", token=1)


def test_seconds_of_the_epochs_in_flight_are_added_and_told_once(tmp_path: Path) -> None:
    sweep = folder(tmp_path)
    fits = [sweep.fit(0, seed) for seed in (0, 1, 2)]
    fits[0].mark(3, 10.0, cpus=1.0, gpus=0.5)
    fits[1].mark(1, 30.0, cpus=1.0, gpus=0.5)
    cost = lost_work.settle(fits)
    assert (cost.fits, cost.gpu_s, cost.cpu_s) == (2, (40 + 2 * BEAT_S) / 2, 40 + 2 * BEAT_S)
    assert str(cost) == "resumed: 2 fits were in flight; at most 22 GPU-seconds are paid again"
    assert str(lost_work.settle(fits)) == "resumed: no fit was in flight, nothing is paid again"


def test_a_fit_with_a_result_was_not_in_flight(tmp_path: Path) -> None:
    fit = folder(tmp_path).fit(0, 0)
    fit.mark(3, 10.0, cpus=1.0, gpus=0.0)
    fit.write_result({"values": {}})
    assert fit.in_flight() is None
    assert lost_work.settle([fit]).fits == 0


def test_a_torn_note_is_said_to_be_one(tmp_path: Path) -> None:
    fit = folder(tmp_path).fit(0, 0)
    fit.mark(3, 10.0, cpus=2.0, gpus=0.0)
    (fit.path / "in-flight.json").write_text(json.dumps({"epoch": 3})[:-4])
    assert "and what 1 of them spent, whose note is torn" in str(lost_work.settle([fit]))
