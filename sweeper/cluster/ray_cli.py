"""The way to a cluster: over SSH to its head, or by an address that leads to its dashboard already; and its end."""

from __future__ import annotations

import contextlib
import json
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from sweeper.cluster import file as clusterfile
from sweeper.cluster import rules, ssh
from sweeper.cluster.errand import Errand
from sweeper.cluster.file import ClusterFile
from sweeper.cluster.homecoming import Homecoming, Say
from sweeper.errors import UserError

HOST = ssh.HOST
DASHBOARD = 8265


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
    with _connection(_read(file)).tunnel(remote_port, port):
        yield port


def by_hand(file: str) -> str:
    """What one types to get to the head without us.

    Raises:
        UserError: as `opened` does.
    """
    return _connection(_read(file)).by_hand


def _read(file: str) -> ClusterFile:
    if not Path(file).is_file():
        raise UserError(f"there is no cluster file {file}. Give a cluster.yaml, or http://{HOST}:{DASHBOARD}.")
    read = clusterfile.read(Path(file))
    for finding in rules.placeholders(read):
        raise UserError(f"{read.where(finding)} {finding.found}. {finding.mend} Then: sweeper doctor --cluster {file}")
    return read


def _connection(file: ClusterFile) -> ssh.Connection:
    return ssh.kept(file, _address)


def _address(file: ClusterFile) -> str:
    """The head's. On hosts of one's own the file has it: Ray's launcher knows it on one desk only, if it was not lost.

    Raises:
        UserError: the cloud has no such head, or does not say.
    """
    own = file.get("provider", "external_head_ip") or file.get("provider", "head_ip")
    if own:
        return str(own)
    command = [ray(), "get-head-ip", str(file.path)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    said = done.stdout.strip() or done.stderr.strip() or "it gave no reason"
    if done.returncode:
        raise UserError(f"Ray finds no head of {file.path}: {said.splitlines()[-1]}")
    return said.splitlines()[-1].strip()


def carried(where: str, errand: Errand, out: Say, err: Say) -> int:
    """Carry out an errand on the cluster `where`, say what is printed, bring its files home; the exit code.

    Raises:
        UserError: as `dashboard` does; or the head could not do it, or sends what is not its to send.
    """
    with Homecoming(errand, out, err) as home:
        _carry(where, errand, home.hear)
        return home.land()


def _carry(where: str, errand: Errand, hear: Say) -> None:
    """Over SSH where the head keeps what `ray start` has been told; elsewhere as a job, which starts in seconds."""
    if "://" not in where:
        file = _read(where)
        if any(ssh.ENVIRONMENT in command for _, command in file.commands("head_start_ray_commands")):
            _connection(file).carry(errand, hear)
            return
    from sweeper.cluster.jobs import reached

    with dashboard(where) as address, reached(address) as cluster:
        cluster.carry(errand, hear)


def running(file: str) -> tuple[list[str], str]:
    """The sweeps that run on a cluster now, and why that is not known, if it is not.

    Raises:
        UserError: there is no such file, or it is not filled in.
    """
    _read(file)
    printed: list[str] = []
    said: list[str] = []
    try:
        carried(file, Errand(["list", "--json"]), printed.append, said.append)
        sweeps = json.loads("".join(printed))
    except UserError as fault:
        return [], str(fault)
    except ValueError:
        return [], "".join(said).strip() or "the head gave no reason"
    if isinstance(sweeps, dict):  # one object: why there is no list
        return [], str(sweeps.get("error", {}).get("message"))
    unread = [sweep["name"] for sweep in sweeps if "state" not in sweep]
    why = f"{', '.join(unread)} cannot be read" if unread else ""
    return [sweep["name"] for sweep in sweeps if sweep.get("state") == "running"], why


def take_down(file: str) -> None:
    """End the head's services where the head will stay, then everything that Ray started. Nothing is lost by it.

    On workers that stay, Ray ends by itself, a minute after it has missed its head.

    Raises:
        UserError: the head is a host of one's own and is not to be reached, or something there did not end.
    """
    read = _read(file)
    stays = read.provider == "local"
    shared = rules.kept_in(read)
    lines = [f"sweeper head down {shlex.quote(shared)}"] if shared is not None else []
    lines += ["ray stop"] if stays else []  # Ray's launcher passes over a host that it has forgotten
    try:
        head = _connection(read)
        failed = [line for line in lines if head.run(line)]
    except UserError:
        if stays:
            raise
        head, failed = None, []  # one that is gone has nothing to end
    if subprocess.run([ray(), "down", "-y", file]).returncode:
        failed.append(f"ray down -y {file}")
    if head is not None:
        head.close()
    if failed:
        raise UserError(f"this failed, and what it said is above: {', '.join(failed)}. Mend it, then: sweeper down")


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def ray() -> str:
    """Ray's command, of this environment."""
    return str(Path(sys.executable).parent / "ray")
