"""Keeps a few programs running: starts them, starts again what dies, ends them together.

A record of who was started lies in a folder, so that what a killed supervisor left behind is found and
ended by the next one, and never taken for somebody else's process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from sweeper.patience import growing, until
from sweeper.running_code import SAFE
from sweeper.state.atomic import write_bytes
from sweeper.state.processes import born

LONGEST_PAUSE_S = 30.0
GRACE_S = 20.0


@dataclass(frozen=True)
class Program:
    """One program. `environment` is added to ours; `end` is the signal that it takes as 'finish well'."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    end: signal.Signals = signal.SIGTERM


class Supervisor:
    """Runs `programs` until `stop`; their logs and process ids are kept in `folder`."""

    def __init__(self, programs: Sequence[Program], folder: Path, *, pause_s: float = 1.0) -> None:
        self._programs = programs
        self._folder = folder
        self._pause_s = pause_s
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._due: dict[str, float] = {}
        self._deaths: dict[str, int] = {}
        self._stop = threading.Event()

    def run(self) -> None:
        """Keep every program running until `stop`, then end them, the last one first."""
        for program in self._programs:
            end_left_over(self._record(program), program.end)
        try:
            while not self._stop.is_set():
                for program in self._programs:
                    self._look_after(program)
                self._stop.wait(0.2)
        finally:
            for program in reversed(self._programs):
                self._end(program)

    def stop(self) -> None:
        """End soon. May be called from a signal handler."""
        self._stop.set()

    def _look_after(self, program: Program) -> None:
        """Start the program if it does not run; one that keeps dying is given longer and longer pauses."""
        process = self._running.get(program.name)
        if process is not None and process.poll() is None:
            return
        if process is not None:
            del self._running[program.name]
            deaths = self._deaths[program.name] = self._deaths.get(program.name, 0) + 1
            self._due[program.name] = time.monotonic() + growing(deaths, self._pause_s, LONGEST_PAUSE_S)
        if time.monotonic() >= self._due.get(program.name, 0.0):
            self._running[program.name] = self._start(program)

    def _start(self, program: Program) -> subprocess.Popen[bytes]:
        with open_private(self._folder / f"{program.name}.log") as log:
            process = subprocess.Popen(
                program.command,
                cwd=SAFE,
                env=os.environ | program.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        write_bytes(self._record(program), f"{process.pid} {born(process.pid)}".encode())
        return process

    def _end(self, program: Program) -> None:
        process = self._running.pop(program.name, None)
        if process is not None:
            _end_group(process.pid, program.end, lambda: process.poll() is None)
            process.wait()
        self._record(program).unlink(missing_ok=True)

    def _record(self, program: Program) -> Path:
        return self._folder / f"{program.name}.pid"


def living(record: Path) -> int | None:
    """The process that `record` speaks of, if it still lives; None where another has its number now."""
    with contextlib.suppress(OSError, ValueError):
        pid, _, birth = record.read_text().partition(" ")
        if birth and born(int(pid)) == birth:
            return int(pid)
    return None


def end_left_over(record: Path, how: signal.Signals, *, grace_s: float = GRACE_S) -> None:
    """End what `record` speaks of, if it lives: first well, then, after its grace, at once."""
    pid = living(record)
    if pid is not None:
        _end_group(pid, how, lambda: living(record) is not None, grace_s)
    record.unlink(missing_ok=True)


def _end_group(pid: int, how: signal.Signals, lives: Callable[[], bool], grace_s: float = GRACE_S) -> None:
    """Signal the program, give it time, then take its whole group: nothing it started may stay."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, how)
    until(lambda: not lives(), grace_s, every_s=0.05)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def open_private(path: Path) -> BinaryIO:
    """A file to append to that only its owner can read."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab")
