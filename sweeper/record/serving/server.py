"""MLflow's own server, on this machine only, and the links that open a sweep in it."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from sweeper.errors import UserError
from sweeper.patience import told_to_end, until
from sweeper.record import saved_views
from sweeper.record.links import link, model_link, view_link
from sweeper.running_code import SAFE, python
from sweeper.spec.urls import sqlite_file

HOST = "127.0.0.1"
START_S = 300.0  # a small machine needs 10 s, a busy one minutes
END_S = 5.0
FRONT_PAGE = "front.html"
SHOWN = "SWEEPER_SHOWN"  # `[name, uuid]`, for `web`
_MOST_LINES = 20


def serve_command(uri: str, artifacts: Path, port: int) -> list[str]:
    """MLflow's server over the store at `uri`. It listens on this machine only, and answers to its own name only."""
    return [
        *python("-m", "mlflow", "server"),
        *("--backend-store-uri", uri, "--artifacts-destination", artifacts.resolve().as_uri()),
        *("--host", HOST, "--port", str(port), "--workers", "1"),
        *("--allowed-hosts", _own_names(port), "--cors-allowed-origins", f"http://{HOST}:{port}"),
    ]


def _own_names(port: int) -> str:
    return f"{HOST}:{port},localhost:{port}"


def environment(given: Mapping[str, str] | None = None) -> dict[str, str]:
    """The server's environment: no jobs, no pickles, no telemetry, nothing imported from the folder it stands in."""
    return dict(os.environ if given is None else given) | {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "PYTHONSAFEPATH": "1",  # of the Pythons that it starts
    }


def serve(uri: str, name: str, uuid: str, artifacts: Path, port: int) -> int:
    """Serve the record until told to end (`told_to_end`). Prints four links once the server answers.

    A record on a server of its own is not served again: only the links are printed.

    Raises:
        UserError: nothing was recorded yet, the port is taken, or the server did not start or ended by itself.
    """
    nothing = UserError(f"MLflow has no record of '{name}' yet. 'sweeper rebuild-record {name}' writes it.")
    file = sqlite_file(uri)
    if file is not None and not file.exists():
        raise nothing
    if uri.startswith(("http://", "https://")):
        from sweeper.record.store import whereabouts  # MLflow takes seconds to import

        ids = whereabouts(uri, name, uuid)
        if ids is None:
            raise nothing
        _print_links(uri, uuid, *ids)
        return 0
    if answers(port):
        raise UserError(f"port {port} on {HOST} is taken. Choose another with --port.")
    with told_to_end(), tempfile.TemporaryFile() as printed:
        with _started(uri, artifacts, port, json.dumps([name, uuid]), printed) as server:
            assert server.stdout is not None
            ids = json.loads(server.stdout.readline() or b"[]")
            if ids is None:
                raise nothing
            if comes_up(server, port, START_S):
                _print_links(f"http://{HOST}:{port}", uuid, *ids)
                server.wait()
        printed.seek(0)
        said = printed.read().decode(errors="replace").splitlines()[-_MOST_LINES:]
        raise UserError("MLflow's server did not start, or ended. It said:\n" + "\n".join(said))
    return 0


@contextlib.contextmanager
def _started(uri: str, artifacts: Path, port: int, shown: str, errors: IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """MLflow's server, and its end. It has a session of its own: a terminal's Ctrl-C reaches this process alone."""
    settings = environment() | {
        "MLFLOW_BACKEND_STORE_URI": uri,
        "MLFLOW_ARTIFACTS_DESTINATION": artifacts.resolve().as_uri(),
        "MLFLOW_SERVER_ALLOWED_HOSTS": _own_names(port),
        "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": f"http://{HOST}:{port}",
        SHOWN: shown,
    }
    words = ("--factory", f"{__package__}.web:app", "--host", HOST, "--port", str(port), "--log-level", "warning")
    server = subprocess.Popen(
        python("-m", "uvicorn", *words, "--timeout-graceful-shutdown", "2"),
        cwd=SAFE,
        env=settings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        start_new_session=True,
    )
    try:
        yield server
    finally:
        server.terminate()
        try:
            server.wait(END_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _print_links(base_url: str, uuid: str, experiment_id: str, parent: str, model: str) -> None:
    print(f"the front:  {link(base_url, experiment_id, parent, FRONT_PAGE)}")
    print(f"the trials: {view_link(base_url, experiment_id, uuid, saved_views.ALL)}")
    print(f"the sweep:  {link(base_url, experiment_id, parent)}")
    print(f"the models: {model_link(base_url, model)}", flush=True)


def comes_up(server: subprocess.Popen[bytes], port: int, within_s: float) -> bool:
    """Wait until the process listens on `port` here. False if it ended, or after `within_s`."""
    until(lambda: answers(port) or server.poll() is not None, within_s)
    return server.poll() is None and answers(port)


def answers(port: int) -> bool:
    """Whether something listens on `port` here."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
