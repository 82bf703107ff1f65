"""A sweep may die before or after any durable act of its, by the process or by the power: nothing shows afterwards.

Each case lives a tiny sweep up to its death, resumes it, and holds every store against the ledger and against
the unbroken sweep, bit for bit (`crash_run` does it; a program of its own, because it forks).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.crash_run import ASKED
from tests.faults.crashes import Points
from tests.faults.lives import LIVES

pytestmark = pytest.mark.timeout(3000)  # the first test pays for all: two minutes on two cores, slow nine
ROOT = Path(__file__).parents[2]
MEMORY = Path("/dev/shm")  # thousands of small syncs; what a power cut takes is simulated, not left to the disk
KINDS = {
    "spec.yaml": 2,
    "tiny": 2,  # the sweep's folder, made whole and put in its place
    "fence": 2,
    "sweep.yaml": 2,  # this and the next one are the record's
    "provenance.json": 2,
    "commit of study.db": 15,
    "commit of mlflow.db": 10,
    "checkpoint": 12,
    "weights": 12,
    "result.json": 12,
    "removal of checkpoint": 12,
    "removal of weights": 2,
    "removal of in-flight.json": 12,
    "removal of stuck.txt": 12,
    "held-out": 4,
    "trials.csv": 2,
    "recorded.json": 2,
    "front.csv": 2,
    "spent.json": 2,
}


@pytest.fixture(scope="module", params=["some", pytest.param("all", marks=pytest.mark.slow)])
def share(request: pytest.FixtureRequest) -> str:
    """How many of the cases: in everyday tests the first and the last of each kind, and a few between."""
    return str(request.param)


@pytest.fixture(scope="module")
def verdicts(share: str) -> Iterator[list[dict[str, Any]]]:
    """What came of every case."""
    place = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="sweeper-crashes-", dir=place) as folder:
        command = [sys.executable, "-m", "tests.faults.crash_run", folder, share]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(command, cwd=ROOT, text=True, start_new_session=True, **pipes) as process:
            try:
                _, said = process.communicate(timeout=2900)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # its own children too
        assert process.returncode == 0, said[-3000:]
        lines = [line for path in Path(folder).glob("verdicts-*.jsonl") for line in path.read_text().splitlines()]
        yield [json.loads(line) for line in lines]


def test_what_a_thread_does_by_the_clock_moves_no_point(tmp_path: Path) -> None:
    points = Points(tmp_path)
    points.at("checkpoint", lambda: None)
    renewing = threading.Thread(target=points.at, args=("commit of study.db", lambda: None))
    renewing.start()
    renewing.join()
    points.at("result.json", lambda: None)
    assert points.names == ["checkpoint", "result.json"]


def faults(verdicts: list[dict[str, Any]]) -> list[str]:
    """Each fault with the case that it was found in."""
    return [f"{verdict['case']}: {fault}" for verdict in verdicts for fault in verdict["faults"]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_death_at_any_durable_act_loses_nothing_and_shows_nowhere(
    verdicts: list[dict[str, Any]], share: str, kind: str
) -> None:
    own = [v for v in verdicts if v["case"]["name"] == kind and v["case"]["life"] == "run" and not v["case"]["again"]]
    least = KINDS[kind] if share == "all" else 2
    assert len(own) >= least, "the sweep does not write that any more"
    assert faults(own) == []


def test_every_durable_act_of_a_sweep_is_of_a_kind_that_is_tested(verdicts: list[dict[str, Any]]) -> None:
    known = {*KINDS, "removal of attempts"}
    assert {v["case"]["name"] for v in verdicts if v["case"]["life"] == "run"} <= known


@pytest.mark.parametrize("life", ["paused", "extended"])
def test_a_death_in_a_pause_or_in_an_extension_shows_nowhere(verdicts: list[dict[str, Any]], life: str) -> None:
    own = [v for v in verdicts if v["case"]["life"] == life]
    assert {"stop", "spec.yaml"} & {v["case"]["name"] for v in own}
    assert faults(own) == []


@pytest.mark.parametrize("life", ["failing", "stopping"])
def test_a_death_around_the_end_of_a_failed_or_stopped_trial_trains_nothing_more(
    verdicts: list[dict[str, Any]], life: str
) -> None:
    own = [v for v in verdicts if v["case"]["life"] == life]
    assert {"result.json", "commit of study.db"} <= {v["case"]["name"] for v in own}
    assert faults(own) == []


def test_a_death_within_a_long_epoch_costs_a_step_and_not_the_epoch(verdicts: list[dict[str, Any]]) -> None:
    own = [v for v in verdicts if v["case"]["life"] == "long"]
    assert {v["case"]["name"] for v in own} == {"checkpoint", "removal of checkpoint"}
    assert faults(own) == []


@pytest.mark.parametrize("life", ASKED)
def test_what_is_asked_of_a_sweep_is_done_once_whenever_it_dies(verdicts: list[dict[str, Any]], life: str) -> None:
    own = [v for v in verdicts if v["case"]["life"] == life]
    assert sum(v["case"]["name"] == "commit of study.db" for v in own) >= 2
    assert {v["case"]["name"] for v in own} >= {"request", "removal of request"} or life == "tried again"
    assert faults(own) == []


def test_a_resume_that_dies_too_is_resumed_as_well(verdicts: list[dict[str, Any]]) -> None:
    own = [v for v in verdicts if v["case"]["again"] is not None]
    assert sum(v["exits"][1] == v["exits"][0] for v in own) > len(own) / 2, "most of the second lives died"
    assert faults(own) == []


def test_an_epoch_that_hangs_ends_its_process_is_told_once_and_the_others_go_on(verdicts: list[dict[str, Any]]) -> None:
    own = {v["case"]["name"]: v for v in verdicts if v["case"]["life"] == "hang"}
    assert own["sleeps"]["exits"] == [75, 1], "a thread tells the hang; resume says that a trial has failed"
    assert own["holds the lock"]["exits"] == [1, 1], "faulthandler ends what no thread can"
    assert faults(list(own.values())) == []


def test_a_driver_that_was_frozen_past_its_lease_is_refused_and_leaves_no_trace(verdicts: list[dict[str, Any]]) -> None:
    (own,) = (v for v in verdicts if v["case"]["life"] == "frozen")
    assert own["exits"] == [2, 0, 2], "refused while the lease runs, ended by another, refused after the thaw"
    assert faults([own]) == []


def test_at_most_one_epoch_of_a_fit_is_paid_again_for_a_death(verdicts: list[dict[str, Any]]) -> None:
    deaths = [v for v in verdicts if v["case"]["life"] in LIVES]
    assert [v for v in deaths if v["counts"]["epochs_repeated_worst_fit"] > len(v["exits"]) - 1] == []
    assert 0 < sum(v["counts"]["epochs_repeated"] for v in deaths) < len(deaths)
