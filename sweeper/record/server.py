"""The record in a browser: MLflow's own server on this machine only, and the link that opens a sweep in it."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from sweeper.errors import UserError
from sweeper.patience import until
from sweeper.record import saved_views
from sweeper.running_code import SAFE, python

HOST = "127.0.0.1"
START_S = 300.0  # a small machine needs up to 40 s, a busy one minutes


def link(base_url: str, experiment_id: str, run_id: str | None = None, artifact: str | None = None) -> str:
    """The page of a sweep's runs, of one run, or of a file of a run.

    Without the workflow type MLflow opens an empty page about GenAI.
    """
    place = f"experiments/{quote(experiment_id)}/runs"
    place += f"/{quote(run_id)}" if run_id else ""
    place += f"/artifacts/{quote(artifact)}" if run_id and artifact else ""
    return f"{base_url.rstrip('/')}/#/{place}?workflowType=machine_learning"


def view_link(base_url: str, experiment_id: str, uuid: str, view: str) -> str:
    """The page of a saved view of the sweep: its charts and its runs side by side."""
    return (
        f"{link(base_url, experiment_id)}&viewStateShareKey={quote(saved_views.key(uuid, view))}&compareRunsMode=CHART"
    )


def serve_command(uri: str, artifacts: Path, port: int) -> list[str]:
    """MLflow's server over the store at `uri`. It listens on this machine only, and answers to its own name only."""
    own = f"{HOST}:{port},localhost:{port}"
    return [
        *python("-m", "mlflow", "server"),
        *("--backend-store-uri", uri, "--artifacts-destination", artifacts.resolve().as_uri()),
        *("--host", HOST, "--port", str(port), "--workers", "1"),
        *("--allowed-hosts", own, "--cors-allowed-origins", f"http://{HOST}:{port}"),
    ]


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
    """Serve the record until interrupted. Prints the links that open the sweep once the server answers.

    A record on a server of its own is not served again: only the links are printed.

    Raises:
        UserError: nothing was recorded yet, the port is taken, or the server ended.
    """
    from sweeper.record.store import whereabouts  # MLflow takes seconds to import

    ids = whereabouts(uri, name, uuid)
    if ids is None:
        raise UserError(f"MLflow has no record of '{name}' yet. 'sweeper rebuild-record {name}' writes it.")
    if uri.startswith(("http://", "https://")):
        _print_links(uri, uuid, *ids)
        return 0
    if answers(port):
        raise UserError(f"port {port} on {HOST} is taken. Choose another with --port.")
    command = serve_command(uri, artifacts, port)
    server = subprocess.Popen(command, cwd=SAFE, env=environment(), stdout=subprocess.DEVNULL)
    try:
        if not comes_up(server, port, START_S):
            raise UserError("MLflow's server did not start; what it printed above says why.")
        _print_links(f"http://{HOST}:{port}", uuid, *ids)
        print("Ctrl-C ends the server.", flush=True)
        return server.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        server.terminate()
        server.wait()


def _print_links(base_url: str, uuid: str, experiment_id: str, parent: str) -> None:
    print(f"the front:  {view_link(base_url, experiment_id, uuid, saved_views.FRONT)}")
    print(f"all trials: {view_link(base_url, experiment_id, uuid, saved_views.ALL)}")
    print(f"the sweep:  {link(base_url, experiment_id, parent)}")
    print(f"its report: {link(base_url, experiment_id, parent, 'report.html')}", flush=True)


def comes_up(server: subprocess.Popen[bytes], port: int, within_s: float) -> bool:
    """Wait until the process listens on `port` here. False if it ended, or after `within_s`."""
    until(lambda: answers(port) or server.poll() is not None, within_s)
    return server.poll() is None and answers(port)


def answers(port: int) -> bool:
    """Whether something listens on `port` here."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
