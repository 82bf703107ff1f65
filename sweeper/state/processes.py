"""Which process is which: numbers are used again, so one is known by its number and its birth."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path


def here() -> str:
    """This boot of this machine, and this space of process ids: a number means nothing in another."""
    boot, space = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    parts = [boot.read_text().strip() if boot.exists() else "", os.readlink(space) if space.exists() else ""]
    return "/".join([socket.gethostname(), *parts])


def born(pid: int) -> str:
    """When the process began, in the kernel's ticks; '' when it is gone."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    if not Path("/proc").is_dir():  # no /proc on this system: signal 0 says whether it lives
        with contextlib.suppress(OSError):
            os.kill(pid, 0)
            return "alive"
    return ""
