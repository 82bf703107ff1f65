"""A hang ends its process: told by a thread, or, where no thread can run, by faulthandler's own."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from sweeper.engine import watchdog
from sweeper.engine.watchdog import Watchdog

PROGRAM = """
import ctypes, sys, time
from pathlib import Path
from sweeper.engine.watchdog import Watchdog

def tell(stack):
    Path({told!r}).write_text(stack)

def hang_here():
    {hang}

with Watchdog(0.4, beat=lambda elapsed: None, hangs=tell).watching(Path({stuck!r})):
    hang_here()
"""


def end(tmp_path: Path, hang: str) -> tuple[int, Path, Path]:
    told, stuck = tmp_path / "told.txt", tmp_path / "stuck.txt"
    program = PROGRAM.format(told=str(told), stuck=str(stuck), hang=hang)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, check=False)
    return done.returncode, told, stuck


def test_a_hang_is_told_with_its_place_and_ends_the_process(tmp_path: Path) -> None:
    code, told, _ = end(tmp_path, "time.sleep(600)")
    assert code == watchdog.EXIT
    assert "hang_here" in told.read_text()


def test_a_hang_that_lets_no_thread_run_leaves_its_place_in_a_file(tmp_path: Path) -> None:
    code, told, stuck = end(tmp_path, "ctypes.PyDLL(None).sleep(600)")
    assert code == 1
    assert not told.exists()
    assert "hang_here" in stuck.read_text()


def test_work_on_several_fits_may_take_as_many_times_the_limit(tmp_path: Path) -> None:
    program = PROGRAM.replace("watching(Path({stuck!r}))", "watching(Path({stuck!r}), times=4)")
    for hang, code in (("time.sleep(0.8)", 0), ("time.sleep(600)", watchdog.EXIT)):
        filled = program.format(told=str(tmp_path / "told"), stuck=str(tmp_path / "stuck"), hang=hang)
        assert subprocess.run([sys.executable, "-c", filled], timeout=60, check=False).returncode == code


def test_what_ends_in_time_is_left_alone_and_its_seconds_are_counted(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(watchdog, "BEAT_S", 0.02)
    beats: list[float] = []
    dog = Watchdog(None, beat=beats.append, hangs=lambda stack: None)
    with dog.watching(tmp_path / "stuck.txt"):
        time.sleep(0.3)
    counted = len(beats)
    time.sleep(0.1)
    assert beats == sorted(beats)
    assert 0 < beats[-1] < 30
    assert len(beats) == counted, "nothing is watched between two pieces of work"
    assert not (tmp_path / "stuck.txt").exists()
