"""The supervisor: what dies is started again, what is left over is ended, what is somebody else's is left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sweeper.cluster.supervisor import Program, Supervisor, end_left_over, living
from sweeper.state.processes import born

SLEEPS = (sys.executable, "-c", "import time; time.sleep(600)")


def until(good: Callable[[], object], patience_s: float = 60.0) -> None:
    end = time.monotonic() + patience_s
    while not good():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Supervisor]:
    """Two programs under a supervisor in a thread."""
    programs = [Program("first", SLEEPS), Program("second", SLEEPS, {"SECRET": "swordfish"})]
    supervisor = Supervisor(programs, tmp_path, pause_s=0.01)
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    until(lambda: living(tmp_path / "first.pid") and living(tmp_path / "second.pid"))
    yield supervisor
    supervisor.stop()
    thread.join()


def test_a_program_that_dies_is_started_again_and_its_neighbour_is_left_alone(
    running: Supervisor, tmp_path: Path
) -> None:
    first, second = living(tmp_path / "first.pid"), living(tmp_path / "second.pid")
    os.kill(first, signal.SIGKILL)
    until(lambda: living(tmp_path / "first.pid") not in (None, first))
    assert living(tmp_path / "second.pid") == second


def test_programs_end_with_their_supervisor_and_leave_no_record(tmp_path: Path) -> None:
    supervisor = Supervisor([Program("only", SLEEPS)], tmp_path)
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    until(lambda: living(tmp_path / "only.pid"))
    pid = living(tmp_path / "only.pid")
    supervisor.stop()
    thread.join()
    assert born(pid) == ""
    assert not (tmp_path / "only.pid").exists()


def test_a_program_that_keeps_dying_is_started_ever_more_slowly(tmp_path: Path) -> None:
    count = tmp_path / "count"
    program = Program("dies", ("sh", "-c", f"echo x >> {count}"))
    supervisor = Supervisor([program], tmp_path, pause_s=0.4)
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    time.sleep(2.5)  # pauses of 0.4 s, 0.8 s and 1.6 s: at most three starts
    supervisor.stop()
    thread.join()
    assert 1 <= len(count.read_text().split()) <= 3


def test_what_a_killed_supervisor_left_is_ended_by_the_next(tmp_path: Path) -> None:
    orphan = subprocess.Popen(SLEEPS, start_new_session=True)
    record = tmp_path / "only.pid"
    record.write_text(f"{orphan.pid} {born(orphan.pid)}")
    reaper = threading.Thread(target=orphan.wait)  # as init would
    reaper.start()
    end_left_over(record, signal.SIGTERM)
    reaper.join()
    assert orphan.returncode == -signal.SIGTERM
    assert not record.exists()


def test_a_process_that_has_the_number_of_a_dead_one_is_not_touched(tmp_path: Path) -> None:
    record = tmp_path / "only.pid"
    record.write_text(f"{os.getpid()} 1")
    assert living(record) is None
    end_left_over(record, signal.SIGKILL)
    assert born(os.getpid()) != ""


def test_a_secret_is_in_no_text_about_its_program_and_the_log_is_private(running: Supervisor, tmp_path: Path) -> None:
    assert "swordfish" not in repr(Program("x", ("y",), {"SECRET": "swordfish"}))
    assert (tmp_path / "second.log").stat().st_mode & 0o777 == 0o600
    arguments = Path(f"/proc/{living(tmp_path / 'second.pid')}/cmdline").read_text()
    assert "swordfish" not in arguments
