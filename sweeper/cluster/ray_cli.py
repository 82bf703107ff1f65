"""The way from here to a cluster's head: a tunnel over SSH that Ray makes, or an address that is one already."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from sweeper.errors import UserError

HOST = "127.0.0.1"
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
        UserError: there is no such file, or the tunnel does not open.
    """
    if not Path(file).is_file():
        raise UserError(f"there is no cluster file {file}. Give a cluster.yaml, or http://{HOST}:{DASHBOARD}.")
    command = [ray(), "dashboard", file, "--port", str(port), "--remote-port", str(remote_port)]
    tunnel = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        _wait(tunnel, file, port)
        yield port
    finally:
        _end(tunnel)


def _wait(tunnel: subprocess.Popen[bytes], file: str, port: int) -> None:
    until = time.monotonic() + OPEN_S
    while not answers(port):
        if tunnel.poll() is not None or time.monotonic() > until:
            raise UserError(
                f"no tunnel to the head of {file}. Is the cluster up ('ray up {file}'), and can you reach it "
                f"('ray exec {file} hostname')?"
            )
        time.sleep(0.3)


def stay(port: int) -> None:
    """Until the tunnel on `port` closes."""
    while answers(port):
        time.sleep(1.0)


def _end(tunnel: subprocess.Popen[bytes]) -> None:
    """Its ssh too: the whole group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(tunnel.pid, signal.SIGTERM)
    tunnel.wait()


def answers(port: int) -> bool:
    """Whether something listens on `port` here."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def ray() -> str:
    """Ray's command, of this environment."""
    return str(Path(sys.executable).parent / "ray")
