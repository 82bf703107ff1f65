"""A true `ray up` between hosts of our own: a sweep is hit in every way, and ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sweeper.cluster.ray_cli import ray
from tests.cluster import hosts as made
from tests.cluster.hosts import Hosts

CHECKOUT = Path(__file__).parents[2]
VARIANT = CHECKOUT / "sweeper" / "cluster" / "variants" / "own-hosts.yaml"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(made.missing() != "", reason=made.missing()),
]

TRIALS, EPOCHS = 4, 300  # a fit of a minute or two: long enough to be struck while it runs
ALL = TRIALS + 1  # with the one that is asked for by hand
SPEC = f"""
name: storm
groups: cell
space: {{method: [lora, fairlora], rank: [4, 8], lambda: {{low: 0.1, high: 10}}, learning_rate: 2e-3, epochs: {EPOCHS}}}
search: {{sampler: random, trials: {TRIALS}, baselines: [lora]}}
"""


LAUNCHERS = Path("/tmp/ray/cluster-storms.state")  # all that Ray's launcher knows of the hosts, on one desk


def cluster_file(hosts: Hosts) -> str:
    """The shipped variant. Other is only what such hosts lack: a package registry, sudo, an NFS server."""
    head, *workers = (hosts.address(name) for name in hosts.names)
    venv = Path(sys.executable).parent
    cache = Path(os.environ.get("SWEEPER_CACHE", Path.home() / ".cache" / "sweeper"))
    settings = f"SWEEPER_CACHE=/tmp/ray/cache OMP_NUM_THREADS=1 PYTHONPATH={CHECKOUT}"
    text = VARIANT.read_text()
    for old, new in {
        "cluster_name: CHANGE-ME": "cluster_name: storms",
        "  head_ip: CHANGE-ME ": f"  head_ip: {head} ",
        "[CHANGE-ME, CHANGE-ME]": f"[{', '.join(workers)}]",
        "ssh_user: ubuntu": f"ssh_user: {made.USER}",
        "~/.ssh/CHANGE-ME": f"{hosts.folder}/key",
        "export PATH=$HOME/venv/bin:": f"export {settings} PATH=$HOME/venv/bin:{venv}:/usr/sbin:",
        "/shared": str(hosts.shared),
        "ray start --address=": "ray start --num-cpus=1 --address=",
    }.items():
        assert old in text
        text = text.replace(old, new)
    for name in hosts.names if cache.exists() else ():  # weights and data that are built already
        shutil.copytree(cache, hosts.folder / name / "ray" / "cache")
        subprocess.run(["chown", "-R", f"{made.UID}:{made.UID}", hosts.folder / name / "ray"], check=True)
    return re.sub(r"  - (sudo|test -x ~/uv|~/uv/bin/uv).*\n", "", text)


class Desk:
    """Where one sits: a home with a token and the cluster's file, and the commands typed there."""

    def __init__(self, hosts: Hosts) -> None:
        self.hosts, self.folder = hosts, hosts.folder / "desk"
        token = self.folder / ".ray" / "auth_token"
        token.parent.mkdir(parents=True)
        token.touch(mode=0o600)
        token.write_text("5" * 64)
        self.file = self.folder / "cluster.yaml"
        self.file.write_text(cluster_file(hosts))
        (self.folder / "storm.yaml").write_text(SPEC)
        own = {"HOME": str(self.folder), "RAY_AUTH_MODE": "token", "SWEEPER_CLUSTER": str(self.file)}
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "SWEEPER_"))} | own
        self.environment |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(CHECKOUT)}

    def type(self, *words: str, patience_s: float = 600) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            words, env=self.environment, cwd=self.folder, capture_output=True, text=True, timeout=patience_s
        )
        print(f"{time.strftime('%X')} $ {' '.join(words)}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        return done

    def sweeper(self, *words: str, patience_s: float = 600) -> subprocess.CompletedProcess[str]:
        return self.type(sys.executable, "-m", "sweeper", *words, patience_s=patience_s)

    def up(self) -> None:
        """As people do it where a machine was too busy for the 30 s that Ray gives a node to start: again."""
        for _ in range(6):
            done = self.type(ray(), "up", "-y", "--no-config-cache", str(self.file))
            if done.returncode == 0:
                return
        raise AssertionError(done.stdout[-4000:] + done.stderr[-4000:])

    def status(self) -> dict:
        done = self.sweeper("status", "storm", "--json")
        return json.loads(done.stdout) if done.returncode == 0 else {"state": "unknown"}


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    with made.hosts("head", "w1", "w2") as hosts:
        yield Desk(hosts)


def until(good: Callable[[], object], what: str, patience_s: float = 600.0) -> None:
    end = time.monotonic() + patience_s
    while not good():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.5)


def words_of_the_head(desk: Desk) -> str:
    """What the autoscaler and the drivers said last, of every Ray that the head had."""
    logs = sorted((desk.hosts.folder / "head" / "ray").glob("session_2*/logs/*"), key=lambda path: path.stat().st_mtime)
    told = [path for path in logs if path.name.startswith(("monitor.", "job-driver-")) and path.stat().st_size]
    return "\n".join(f"--- {path}\n{path.read_text(errors='replace')[-6000:]}" for path in told)


def checkpoints(desk: Desk) -> set[str]:
    return {path.name for path in desk.hosts.shared.rglob("checkpoint-*.safetensors")}


def results(desk: Desk) -> list[Path]:
    return sorted((desk.hosts.shared / "sweeps" / "storm" / "trials").glob("*/*/result.json"))


def epochs_go_on(desk: Desk) -> None:
    before = checkpoints(desk), results(desk)
    until(lambda: checkpoints(desk) - before[0] or results(desk) != before[1], "another epoch")


def test_a_sweep_on_hosts_that_fail_ends_as_if_nothing_had_happened(desk: Desk) -> None:
    desk.up()
    submitted = desk.sweeper("submit", "storm.yaml")
    assert submitted.returncode == 0
    epochs_go_on(desk)
    assert desk.status()["state"] == "running"

    until(lambda: desk.hosts.kill("w1", "ray::FitActor"), "a fit on w1 to kill")
    epochs_go_on(desk)
    desk.hosts.link("w2", up=False)
    time.sleep(10)
    desk.hosts.link("w2", up=True)
    epochs_go_on(desk)

    LAUNCHERS.unlink()
    refused = desk.type(sys.executable, "-m", "sweeper", "down")  # nobody says yes
    assert (refused.returncode, "running there: storm" in refused.stdout) == (1, True)
    assert desk.sweeper("down", "--yes").returncode == 0
    assert not desk.hosts.running("head", "raylet")
    until(lambda: not any(desk.hosts.running(name, "raylet") for name in ("w1", "w2")), "Ray to end on workers", 180)
    desk.up()
    assert desk.status()["state"] == "paused"
    assert desk.sweeper("resume", "storm").returncode == 0
    epochs_go_on(desk)
    assert "drives the sweep, and takes it up" in desk.sweeper("try", "storm", "method=fairlora").stdout
    assert "from the next trial on: rank 8" in desk.sweeper("narrow", "storm", "rank=8").stdout
    while len(results(desk)) < ALL:  # however slow the machine is; and to ask a head all the time would slow it
        try:
            epochs_go_on(desk)
        except AssertionError:
            print(words_of_the_head(desk), desk.status())
            raise
    until(lambda: desk.status()["state"] == "finished", "the end")

    told = desk.status()
    assert (told["counts"]["complete"], told["counts"]["running"]) == (ALL, 0)
    assert ["rank 8 (before: 4, 8)" in told["changes"][0], "asked for by hand" in told["changes"][1]] == [True, True]
    _nothing_lost_nothing_twice(desk)
    _one_finished_run_per_trial(desk)


def _nothing_lost_nothing_twice(desk: Desk) -> None:
    assert len(results(desk)) == ALL
    for path in results(desk):
        result = json.loads(json.loads(path.read_text())["body"])
        assert [row["epoch"] for row in result["history"]] == list(range(1, EPOCHS + 1))


def _one_finished_run_per_trial(desk: Desk) -> None:
    """In PostgreSQL, asked on the head."""
    sql = "select t.value, r.status from runs r join tags t on t.run_uuid = r.run_uuid and t.key = 'sweeper.trial'"
    sql += " where r.lifecycle_stage = 'active' order by 1"
    ask = f'psql -h ~/.sweeper/head/socket -P pager=off -XtAc "{sql}" mlflow'
    ask = "$(ls -d /usr/lib/postgresql/*/bin | tail -n 1)/" + ask
    said = desk.type(ray(), "exec", str(desk.file), ask).stdout
    assert re.findall(r"^(\d+)\|(\w+)", said, re.MULTILINE) == [(str(n), "FINISHED") for n in range(ALL)]


RAYS_OWN = {"gcs_server", "raylet", "ray::DashboardA", "ray::RuntimeEnv"}  # with the token
CLIENT = {"10001"}  # Ray's client server, with the token too
METRICS = {"44217", "44227"}  # Prometheus, without it: what the firewall is for


def test_what_listens_on_the_head_is_what_the_readme_says(desk: Desk) -> None:
    """SSH and Ray between nodes; all else on loopback or, PostgreSQL, on a socket."""
    lines = [line.split() for line in desk.hosts.listening("head").splitlines()]
    places = [(words[3].rpartition(":"), (re.search(r'"([^"]+)"', words[-1]) or ["", "?"])[1]) for words in lines]
    to_others = {(name, port) for (host, _, port), name in places if not re.search(r"127\.0\.0\.1|::1\]", host)}
    assert {name for name, port in to_others if port not in METRICS | CLIENT} <= RAYS_OWN | {"sshd"}
    here = {port for (host, _, port), _ in places if "127.0.0.1" in host}
    assert {"5000", "8265"} <= here
    assert "5432" not in {port for (_, _, port), _ in places}


def test_secrets_on_the_hosts_are_for_their_owner_only_and_in_no_command_line(desk: Desk) -> None:
    password = (desk.hosts.shared / "secrets" / "mlflow-admin").read_text()
    for path in [*(desk.hosts.shared / "secrets").iterdir(), desk.hosts.home("head") / ".mlflow" / "credentials"]:
        assert path.stat().st_mode & 0o077 == 0
    for name in desk.hosts.names:
        assert (desk.hosts.home(name) / ".ray" / "auth_token").stat().st_mode & 0o077 == 0
        for pid in desk.hosts.pids(name):
            said = Path(f"/proc/{pid}/cmdline").read_text()
            assert password not in said
            assert "5" * 64 not in said
