"""Ray's own command, for the way to a cluster's head (a tunnel over SSH, or an address that is one) and its end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from sweeper.cluster import file as clusterfile
from sweeper.cluster import rules
from sweeper.cluster.errand import Errand
from sweeper.cluster.homecoming import Homecoming, Say
from sweeper.errors import UserError
from sweeper.record.serving.server import HOST, comes_up

DASHBOARD = 8265
OPEN_S = 120.0


@contextlib.contextmanager
def dashboard(where: str) -> Iterator[str]:
    """The address of the dashboard of the cluster `where`: a cluster.yaml, or a URL that leads to it already.

    Raises:
        UserError: there is no such file, the URL would send the token in the clear, or no tunnel opens.
    """
    if "://" in where:
        yield _checked(where)
        return
    with opened(where, DASHBOARD, free_port()) as port:
        yield f"http://{HOST}:{port}"


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "https" and parts.hostname not in (HOST, "localhost"):
        raise UserError(
            f"{url} would carry the cluster's token in the clear. Give the cluster.yaml, or open a tunnel "
            f"('ray dashboard cluster.yaml') and give http://{HOST}:{DASHBOARD}."
        )
    return url


@contextlib.contextmanager
def opened(file: str, remote_port: int, port: int) -> Iterator[int]:
    """A tunnel from `port` here to `remote_port` of the head's loopback address, while the context lasts.

    Raises:
        UserError: there is no such file, it is no cluster file, or not filled in, or the tunnel does not open.
    """
    if not Path(file).is_file():
        raise UserError(f"there is no cluster file {file}. Give a cluster.yaml, or http://{HOST}:{DASHBOARD}.")
    read = clusterfile.read(Path(file))
    for finding in rules.placeholders(read):
        raise UserError(f"{read.where(finding)} {finding.found}. {finding.mend} Then: sweeper doctor --cluster {file}")
    command = [ray(), "dashboard", file, "--port", str(port), "--remote-port", str(remote_port)]
    tunnel = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        if not comes_up(tunnel, port, OPEN_S):
            raise UserError(
                f"no tunnel to the head of {file}. Is the cluster up ('ray up {file}'), and can you reach it "
                f"('ray exec {file} hostname')?"
            )
        yield port
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(tunnel.pid, signal.SIGTERM)  # its ssh too: the whole group
        tunnel.wait()


def carried(where: str, errand: Errand, out: Say, err: Say) -> int:
    """Carry out an errand on the cluster `where`, say what is printed, bring its files home; the exit code.

    Raises:
        UserError: as `dashboard` does; or the head could not do it, or sends what is not its to send.
    """
    with Homecoming(errand, out, err) as home:
        _carry(where, errand, home.hear)
        return home.land()


def _carry(where: str, errand: Errand, hear: Say) -> None:
    from sweeper.cluster.jobs import Cluster

    with dashboard(where) as address:
        Cluster(address).carry(errand, hear)


def running(file: str) -> list[str]:
    """The sweeps that run on a cluster now; none where it does not answer any more.

    Raises:
        UserError: there is no such file.
    """
    clusterfile.read(Path(file))
    printed: list[str] = []
    try:
        carried(file, Errand(["list", "--json"]), printed.append, lambda text: None)
    except UserError:
        return []
    return [sweep["name"] for sweep in json.loads("".join(printed) or "[]") if sweep["state"] == "running"]


def take_down(file: str) -> None:
    """End the head's services where the head will stay, then everything that Ray started. Nothing is lost by it.

    On workers that stay, Ray ends by itself, a minute after it has missed its head.

    Raises:
        UserError: `ray down` failed.
    """
    shared = rules.kept_in(clusterfile.read(Path(file)))
    if shared is not None:  # a head that is gone already has no services to end
        subprocess.run([ray(), "exec", file, f"sweeper head down {shared}"])
    if subprocess.run([ray(), "down", "-y", file]).returncode:
        raise UserError(f"'ray down {file}' failed; what it said is above.")


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def ray() -> str:
    """Ray's command, of this environment."""
    return str(Path(sys.executable).parent / "ray")
