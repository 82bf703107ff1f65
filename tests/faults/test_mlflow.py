"""MLflow that refuses, fails, hangs, dies and comes back, is full or damaged: no fit waits, no run is missing."""

from __future__ import annotations

import contextlib
import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow import MlflowClient

from sweeper.engine import attempt
from sweeper.record import store as runs
from sweeper.spec import loading
from sweeper.state.sweep_folder import SweepFolder
from tests.faults.test_stores import begin, disk, faults, fill, once, resume

__all__ = ["disk"]  # a fixture


class Sick(http.server.BaseHTTPRequestHandler):
    """A tracking server that answers 500 to all, or not at all until it is let go."""

    hang: threading.Event | None = None

    def _answer(self) -> None:
        if self.hang is not None:
            self.hang.wait(120)
        with contextlib.suppress(OSError):
            self.send_error(500, "sick")

    do_GET = do_POST = _answer

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextlib.contextmanager
def sick(kind: str) -> Iterator[str]:
    """The address of a tracking server that `refuses`, `hangs` or `fails`."""
    if kind == "refuses":
        yield "http://127.0.0.1:9"
        return
    release = threading.Event()
    handler = type("Handler", (Sick,), {"hang": release if kind == "hangs" else None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        release.set()
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("kind", ["refuses", "fails", "hangs"])
def test_no_sick_mlflow_stops_a_fit_and_what_is_missing_is_told(tmp_path: Path, kind: str, monkeypatch) -> None:
    monkeypatch.setattr(attempt, "RECORD_PATIENCE_S", 0.5)
    with sick(kind) as address:  # it hangs until this block ends: whatever waited for it would never end
        outcome = begin(tmp_path, more=f"mlflow: '{address}'")
    assert [trial.state.value for trial in outcome.results.trials] == ["complete"] * 3
    assert outcome.exit_code == 1
    (note,) = outcome.notes
    assert "MLflow could not take everything yet" in note
    assert "it is written at the next resume" in note
    assert faults(tmp_path) == []


def test_what_mlflow_missed_is_written_at_the_next_resume(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(attempt, "RECORD_PATIENCE_S", 0.5)
    assert begin(tmp_path, more="mlflow: 'http://127.0.0.1:9'").exit_code == 1
    folder, store = SweepFolder(tmp_path / "sweeps" / "birds"), f"sqlite:///{tmp_path / 'mlflow.db'}"
    well = loading.changed(loading.load(folder.spec), {"storage.mlflow": store})
    folder.spec.write_text(loading.dump(well))
    monkeypatch.setattr(attempt, "RECORD_PATIENCE_S", 200.0)
    assert resume(tmp_path).exit_code == 0
    assert faults(tmp_path, record=store) == []


def test_a_damaged_store_of_mlflow_is_named_with_its_mend_and_stops_no_fit(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(attempt, "RECORD_PATIENCE_S", 8.0)
    (tmp_path / "mlflow.db").write_bytes(b"not a database" * 100)
    outcome = begin(tmp_path, more=f"mlflow: 'sqlite:///{tmp_path / 'mlflow.db'}'")
    assert ([trial.state.value for trial in outcome.results.trials], outcome.exit_code) == (["complete"] * 3, 1)
    (note,) = outcome.notes
    assert "file is not a database" in note
    assert "move it away, then sweeper rebuild-record" in note


@pytest.fixture
def address() -> str:
    """Where a server may listen."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


class Server:
    """A real MLflow server with all of its files in `folder`, which can be killed and begun again."""

    def __init__(self, folder: Path, address: str) -> None:
        host, _, port = address.partition(":")
        self.address, self.store = f"http://{address}", f"sqlite:///{folder / 'mlflow.db'}"
        options = ["--backend-store-uri", self.store, "--artifacts-destination", str(folder / "mlartifacts")]
        options += ["--host", host, "--port", port, "--workers", "1"]
        self._command = [sys.executable, "-m", "mlflow", "server", *options]
        self._processes: list[subprocess.Popen[bytes]] = []

    def begin(self) -> None:
        """Give it time to listen by itself."""
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._processes.append(subprocess.Popen(self._command, start_new_session=True, **quiet))

    def wait(self) -> None:
        """Until it answers."""
        until = time.monotonic() + 90
        while time.monotonic() < until:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{self.address}/health", timeout=5).close()
                return
            time.sleep(0.2)
        raise TimeoutError(self.address)

    def kill(self) -> None:
        """All of its processes, at once."""
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.timeout(300)
def test_a_server_that_dies_and_comes_back_inside_an_attempt_misses_nothing(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt, "RECORD_PATIENCE_S", 120.0)
    server = Server(tmp_path, address)
    killed = threading.Event()

    def dies() -> None:
        server.kill()
        killed.set()
        threading.Timer(3.0, server.begin).start()

    try:
        server.begin()
        server.wait()
        outcome = begin(tmp_path, at=once("tell", 3, dies), more=f"mlflow: '{server.address}'")
    finally:
        server.kill()
    assert killed.is_set()
    assert (outcome.exit_code, outcome.notes) == (0, [])
    assert faults(tmp_path, record=server.store) == []


@pytest.mark.parametrize("room", [0, 300, None], ids=["no room", "room for half of its tables", "room for its tables"])
def test_a_full_disk_under_mlflow_alone_stops_no_fit_and_a_resume_writes_what_is_missing(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int | None
) -> None:
    monkeypatch.setattr(attempt, "RECORD_PATIENCE_S", 5.0)
    store = f"sqlite:///{disk / 'mlflow.db'}"
    if room is None:
        runs.make_whole(disk / "mlflow.db")
    fill(disk)
    os.truncate(disk / "filler", (disk / "filler").stat().st_size - 1000 * (room or 0))
    outcome = begin(tmp_path, more=f"mlflow: '{store}'")
    assert ([trial.state.value for trial in outcome.results.trials], outcome.exit_code) == (["complete"] * 3, 1)
    assert any("MLflow could not take everything yet" in note and "disk is full" in note for note in outcome.notes)
    (disk / "filler").unlink()
    monkeypatch.setattr(attempt, "RECORD_PATIENCE_S", 120.0)
    assert resume(tmp_path).exit_code == 0
    assert faults(tmp_path, record=store) == []
    assert [path.name for path in disk.iterdir()] == ["mlflow.db"]


DIES = """
import os, sys, threading, time
from pathlib import Path
from sweeper import runs
def strike():
    while not any(path.stat().st_size > 400_000 for path in Path(sys.argv[1]).glob(".mlflow.db.????????")):
        time.sleep(0.001)
    os._exit(1)  # half of the tables are made
threading.Thread(target=strike, daemon=True).start()
runs.make_whole(Path(sys.argv[1]) / "mlflow.db")
"""


def test_a_death_while_mlflow_makes_its_tables_spoils_no_store(tmp_path: Path) -> None:
    assert subprocess.run([sys.executable, "-c", DIES, str(tmp_path)]).returncode == 1
    assert not (tmp_path / "mlflow.db").exists()
    assert begin(tmp_path, more=f"mlflow: 'sqlite:///{tmp_path / 'mlflow.db'}'").exit_code == 0
    assert faults(tmp_path, record=f"sqlite:///{tmp_path / 'mlflow.db'}") == []
    assert not list(tmp_path.glob(".mlflow*")), "what the dead left was not tidied away"


def test_two_sweeps_that_begin_in_one_empty_root_share_one_store(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(runs.make_whole, [tmp_path / "mlflow.db"] * 2))
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]
    assert MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}").search_experiments()
