"""A sweep on a cluster of several nodes loses one of them: a worker's, then the head's."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from tests.faults import arms
from tests.faults.arms import Arm, Case
from tests.faults.audit import read
from tests.faults.ledger import environment

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
PATIENCE_S = 280  # without an epoch: a busy machine is slow, and takes as long as it takes
HEADS_PATIENCE = "RAY_gcs_rpc_server_reconnect_timeout_s"


@pytest.fixture
def case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Case:
    """A sweep to come. Nodes and drivers of this test write its ledger; nodes give a dead head up soon."""
    made = Case(0, slots=2, lane=tmp_path)
    for name, value in environment(made.ledger, tmp_path / "bytecode").items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
    monkeypatch.setenv(HEADS_PATIENCE, "10")
    return made


@pytest.fixture
def arm() -> Arm:
    """Fits that are longer than it takes to start a second actor."""
    return arms.sweeper(trials=2, seeds=2, epochs=60)


@pytest.fixture
def cluster(case: Case) -> Iterator[Cluster]:
    made = two_nodes()
    yield made
    made.shutdown()


def two_nodes() -> Cluster:
    """A head that fits nobody but the driver, and a node of one CPU."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    return cluster


def drive(arm: Arm, case: Case, cluster: Cluster) -> subprocess.Popen[bytes]:
    """With Ray's own patience for its head: the driver is to notice by itself."""
    own = {name: value for name, value in os.environ.items() if name != HEADS_PATIENCE}
    with (case.lane / "log").open("ab") as log:
        return subprocess.Popen(arm.command(case), env=own | {"RAY_ADDRESS": cluster.address}, stdout=log, stderr=log)


def said(case: Case) -> str:
    """The drivers' last words."""
    return (case.lane / "log").read_text()[-3000:]


def processes_at_work(case: Case) -> set[int]:
    """Those that have begun an epoch."""
    return {event["pid"] for event in read(case.ledger) if event["ev"] == "epoch"}


def until_both_nodes_work(case: Case, driver: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE_S
    while len(processes_at_work(case)) < 2:
        assert driver.poll() is None, said(case)
        assert time.monotonic() < until, said(case)
        time.sleep(0.05)


def ended(case: Case, driver: subprocess.Popen[bytes]) -> int:
    """Its exit code, once it has one."""
    known, since_s = -1, time.monotonic()
    while driver.poll() is None:
        if (now := len(read(case.ledger))) > known:
            known, since_s = now, time.monotonic()
        assert time.monotonic() < since_s + PATIENCE_S, said(case)
        time.sleep(0.5)
    return driver.returncode


def test_a_lost_node_costs_an_epoch_at_most_and_the_driver_goes_on(case: Case, arm: Arm, cluster: Cluster) -> None:
    driver = drive(arm, case, cluster)
    until_both_nodes_work(case, driver)
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    assert ended(case, driver) == 0, said(case)
    tally = arm.audit(case, 1)
    assert tally.good, tally.said
    assert sum(tally.setbacks) <= 1  # one fit was on that node


def test_a_lost_head_ends_the_driver_and_a_resume_on_a_new_cluster_loses_nothing(
    case: Case, arm: Arm, cluster: Cluster
) -> None:
    driver = drive(arm, case, cluster)
    until_both_nodes_work(case, driver)
    cluster.head_node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
    assert ended(case, driver) == 3, said(case)
    assert re.search(r"Ray's head at [\d.:]+ does not answer any more", said(case))
    cluster.shutdown()
    again = two_nodes()
    try:
        assert ended(case, drive(arm, case, again)) == 0, said(case)
    finally:
        again.shutdown()
    tally = arm.audit(case, 1)
    assert tally.good, tally.said
    assert sum(tally.setbacks) <= 2
