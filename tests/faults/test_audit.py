"""The audit sees each kind of broken promise; it is itself held to that, since everything else rests on it."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeper.state.atomic import read_json, write_json
from tests.faults import tiny
from tests.faults.audit import Audit, _check_epochs, audit, read, write

FINISHED = "FINISHED"


def _record(root: Path) -> None:
    """MLflow's tables as far as the audit reads them: a parent, and a run for each of three trials."""
    with sqlite3.connect(root / "mlflow.db") as store:
        store.executescript(
            "create table experiments (experiment_id integer, name text);"
            "create table runs (run_uuid text, experiment_id integer, status text, lifecycle_stage text);"
            "create table tags (run_uuid text, key text, value text);"
            "insert into experiments values (1, 'tiny');"
        )
        for number in (None, 0, 1, 2):
            add_run(store, number)


def add_run(store: sqlite3.Connection, number: int | None, name: str = "", status: str = FINISHED) -> None:
    run = f"run-{number}{name}"
    store.execute("insert into runs values (?, 1, ?, 'active')", (run, status))
    tag = ("sweeper.role", "parent") if number is None else ("sweeper.trial", str(number))
    store.execute("insert into tags values (?, ?, ?)", (run, *tag))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep, its record and its ledger."""
    root = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        tiny.make_tiny(patch.setattr, record=tiny.Mute)
        tiny.begin(root)
    for number in range(3):
        for seed in tiny.SEEDS:
            for epoch in (1, 2):
                write(root / "ledger.jsonl", "epoch", number, seed, epoch)
            write(root / "ledger.jsonl", "done", number, seed, 2)
    _record(root)
    return root


def judged(root: Path, **options: int) -> Audit:
    return audit(root / tiny.NAME, root / "ledger.jsonl", budget=3, seeds=tiny.SEEDS, **options)


def study(root: Path, statement: str) -> None:
    with sqlite3.connect(root / tiny.NAME / "study.db") as database:
        database.execute(statement)


def result(root: Path) -> Path:
    return root / tiny.NAME / "trials" / "00001" / "0" / "result.json"


def other_values(root: Path) -> None:
    body = read_json(result(root))
    write_json(result(root), body | {"values": {name: value / 2 for name, value in body["values"].items()}})


def other_params(root: Path) -> None:
    write_json(result(root), read_json(result(root)) | {"params": {"method": "lora"}})


def runs(number: int | None, name: str = "", status: str = FINISHED) -> Callable[[Path], None]:
    def act(root: Path) -> None:
        with sqlite3.connect(root / "mlflow.db") as store:
            add_run(store, number, name, status)

    return act


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "a lost result": (lambda root: result(root).unlink(), r"lost: fit \(1, 0\) had a result, and it is gone"),
    "a torn result": (lambda root: result(root).write_bytes(b"{"), r"lost: fit \(1, 0\)"),
    "a fit that is run again": (
        lambda root: write(root / "ledger.jsonl", "epoch", 1, 0, 1),
        r"again: fit \(1, 0\) had a result, and then",
    ),
    "an epoch left out": (
        lambda root: write(root / "ledger.jsonl", "epoch", 9, 0, 2),
        "setbacks: .* epoch 0 to 2",
    ),
    "a zombie": (lambda root: study(root, "update trials set state = 'RUNNING' where number = 2"), "zombies: trial 2"),
    "a trial too few": (
        lambda root: study(root, "delete from trials where number = 2"),
        "budget: 3 trials were",
    ),
    "other numbers": (other_values, "disagreements: trial 1: the study says accuracy"),
    "other settings": (other_params, r"disagreements: fit \(1, 0\) was trained with"),
    "a second run": (runs(1, "b"), "duplicates: MLflow has 2 runs of trial 1"),
    "a second parent": (runs(None, "b"), "duplicates: MLflow has 2 parent runs"),
    "a run of no trial": (runs(7), "orphans: MLflow has a run of trial 7"),
    "a run that nobody works on": (runs(7, status="RUNNING"), "orphans: MLflow's run of .* is RUNNING"),
}


def test_a_sweep_that_kept_its_promises_has_no_faults(whole: Path) -> None:
    found = judged(whole)
    assert found.faults == []
    assert found.counts()["trials"] == 3


@pytest.mark.parametrize("fault", BROKEN)
def test_each_broken_promise_is_seen(whole: Path, tmp_path: Path, fault: str) -> None:
    root = tmp_path / "broken"
    shutil.copytree(whole, root)
    act, said = BROKEN[fault]
    act(root)
    assert any(re.match(said, sentence) for sentence in judged(root).faults), judged(root).faults


def test_repeated_epochs_are_counted_and_more_than_one_an_interruption_is_a_setback(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    for epoch in (1, 2, 3, 3, 4):
        write(ledger, "epoch", 0, 0, epoch)
    found = Audit(interruptions=1)
    _check_epochs(found, read(ledger), 1)
    assert (found.faults, found.repeated[0, 0]) == ([], 1)
    write(ledger, "epoch", 0, 0, 2)
    found = Audit(interruptions=2)
    _check_epochs(found, read(ledger), 1)
    assert found.faults == [
        "setbacks: fit (0, 0) went from epoch 4 to 2",
        "setbacks: fit (0, 0) repeated 4 epochs in 2 interruptions",
    ]
