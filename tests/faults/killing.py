"""The processes of one sweep: who they are, and ending one or all of them by its own number."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess

import psutil

NOT_ACTORS = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent")


def members(session: int) -> list[psutil.Process]:
    """All living processes of a session, whoever their parents are by now."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(process.pid) == session and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def victims(driver: subprocess.Popen[bytes], kind: str) -> list[int]:
    """The process ids of that kind below a driver that leads its session."""
    if kind == "driver":
        return [driver.pid]
    return [process.pid for process in members(driver.pid) if _kind(process) == kind]


def _kind(process: psutil.Process) -> str | None:
    with contextlib.suppress(psutil.Error):
        name = process.name()
        title = (process.cmdline() or [""])[0]
        if name in ("raylet", "gcs_server"):
            return "gcs" if name == "gcs_server" else name
        if title.startswith("ray::") and not title.startswith(NOT_ACTORS):
            return "actor"
    return None


def send(pid: int, number: int = signal.SIGKILL) -> bool:
    """Whether there was such a process."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
        return True
    return False


def end(session: int) -> int:
    """Nothing of this session is left; how many there were."""
    return sum(send(process.pid) for process in members(session))
