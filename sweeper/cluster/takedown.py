"""Taking a cluster down, and what is lost by it: nothing, but for the epochs on their way."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from sweeper.cluster import file as clusterfile
from sweeper.cluster import ray_cli, rules
from sweeper.errors import UserError


def running(file: str) -> list[str]:
    """The sweeps that run on a cluster now; none where it does not answer any more.

    Raises:
        UserError: there is no such file.
    """
    from sweeper.cluster.jobs import Cluster

    clusterfile.read(Path(file))
    said: list[str] = []
    try:
        with ray_cli.dashboard(file) as address:
            Cluster(address).look(["list", "--json"], said.append)
    except UserError:
        return []
    return [sweep["name"] for sweep in json.loads("".join(said) or "[]") if sweep["state"] == "running"]


def take_down(file: str) -> None:
    """End the head's services where the head will stay, then everything that Ray started.

    On workers that stay, Ray ends by itself, a minute after it has missed its head.

    Raises:
        UserError: `ray down` failed.
    """
    shared = rules.kept_in(clusterfile.read(Path(file)))
    if shared is not None:  # a head that is gone already has no services to end
        _ray("exec", file, f"sweeper head down {shared}")
    if not _ray("down", "-y", file):
        raise UserError(f"'ray down {file}' failed; what it said is above.")


def _ray(*words: str) -> bool:
    return subprocess.run([ray_cli.ray(), *words]).returncode == 0
