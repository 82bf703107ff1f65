"""Ray's own processes: what they say is told in our words, their death is noticed, what they leave is removed.

Without this a dead worker is twenty lines of Ray's log, a dead raylet a wait without end, and a dead head the end of
this process by a line of C++.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray
from ray._private import worker as driver_side

from sweeper.state.processes import born, here

log = logging.getLogger(__name__)
SILENT_S = 20.0  # of a cluster's head, before it is called dead; Ray's own patience is a minute
_HOLDER = "sweeper-driver"  # in a session's folder: whose it is


def hush() -> None:
    """What Ray says of a worker's death, some ten lines, goes to the log as a note: the queue tells it in one."""

    def note(data: dict[str, Any], ignore_prefix: bool = False) -> None:
        log.info("Ray says: %s", " ".join(" ".join(data["lines"]).split()))

    vars(driver_side)["print_to_stdstream"] = note


# --- deaths


def lost() -> Callable[[], str | None]:
    """A look at the Ray that this process is attached to: what of it has died, as the beginning of a sentence."""
    node = vars(driver_side)["_global_node"]
    if node is not None and node.is_head():
        names = {"raylet": "its raylet", "gcs_server": "its head, the gcs_server"}
        own = {said: node.all_processes[name][0].process for name, said in names.items()}
        return lambda: next((_died(said) for said, process in own.items() if process.poll() is not None), None)
    return Joined(ray.get_runtime_context())


def _died(said: str) -> str:
    return f"Ray's own process on this machine ({said}) died"


class Joined:
    """A look at a cluster's Ray. Ray's head takes some 15 s to tell a dead node from a slow one."""

    def __init__(self, context: Any) -> None:
        self._node = context.get_node_id()
        self._head = getattr(context, "gcs_address", None)  # not known to a client of ray://
        self._answered_s = time.monotonic()

    def __call__(self) -> str | None:
        if self._head is not None and not self._answers(self._head):
            silent = time.monotonic() - self._answered_s > SILENT_S
            return f"Ray's head at {self._head} does not answer any more" if silent else None
        self._answered_s = time.monotonic()
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}  # type: ignore[no-untyped-call]
        return None if self._node in alive else _died("its raylet")

    def _answers(self, address: str) -> bool:
        host, _, port = address.rpartition(":")
        with contextlib.suppress(OSError, ValueError):
            socket.create_connection((host.strip("[]"), int(port)), timeout=2.0).close()
            return True
        return False


# --- what a Ray of our own leaves


@contextlib.contextmanager
def session() -> Iterator[None]:
    """The folder of logs and sockets of a Ray that was started here, tens of megabytes below `/tmp/ray`.

    It goes with the context, and with the process's Ray. Where something went wrong, or the driver was killed, it
    stays for whoever looks for the reason: the newest one, until the next Ray but one is started.
    """
    place = Path(vars(driver_side)["_global_node"].get_session_dir_path())
    for path in sorted(_left(place.parent))[:-1]:
        shutil.rmtree(path, ignore_errors=True)
    (place / _HOLDER).write_text(f"{here()} {os.getpid()} {born(os.getpid())}")
    try:
        yield
    except BaseException:
        ray.shutdown()
        raise
    ray.shutdown()
    shutil.rmtree(place, ignore_errors=True)


def _left(folder: Path) -> Iterator[Path]:
    """Sessions of drivers of ours, on this very machine, that live no more."""
    for note in folder.glob(f"session_*/{_HOLDER}"):
        with contextlib.suppress(OSError, ValueError):
            where, pid, birth = note.read_text().rsplit(" ", 2)
            if where == here() and born(int(pid)) != birth:
                yield note.parent
