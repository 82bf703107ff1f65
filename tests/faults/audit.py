"""An independent audit of a sweep after faults: study, fits' folders and MLflow, against a ledger of what was done.

It reads the databases and the files themselves and shares no code with what it judges.

The ledger is one JSON line per event, appended with O_APPEND, so its order is the order of events on one
machine: `{"ev": "epoch", "trial": 3, "seed": 0, "epoch": 2, "pid": 77, "t": 1.5}` when epoch 2 (from 1)
begins, and `"ev": "done"` when the fit's result is durable. How to use it:

1. Where the fits run, call `watch(ledger)` once, before the first fit: it makes every fit of that
   process write the ledger. (In Ray's workers: from a `worker_process_setup_hook`, or from a module that
   they import; in one process: directly.)
2. Break things, resume, and when the sweep is said to have ended:

       found = audit(root / "birds", ledger, budget=16, seeds=(0, 1, 2), interruptions=kills)
       assert found.faults == []          # every broken promise, in words
       found.counts()                     # lost, again, zombies, ...: one row of a table

   `study` and `record` are the databases' URLs (SQLite beside the sweep unless told); `record=None` leaves
   MLflow out. `back` is how many epochs of a fit in flight one interruption may cost: 1, and one more for
   each newest checkpoint that was damaged on purpose.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

Fit = tuple[int, int]
ENDED = ("COMPLETE", "PRUNED", "FAIL")
STATUS = {"COMPLETE": "FINISHED", "FAIL": "FAILED", "PRUNED": "KILLED"}


def write(ledger: Path, ev: str, trial: int, seed: int, epoch: int) -> None:
    """Append one event; whole, or not at all."""
    line = {"ev": ev, "trial": trial, "seed": seed, "epoch": epoch, "pid": os.getpid(), "t": time.time()}
    handle = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(handle, (json.dumps(line) + "\n").encode())
    os.close(handle)


def read(ledger: Path) -> list[dict[str, Any]]:
    """Every event, in order."""
    return [json.loads(line) for line in ledger.read_text().splitlines()] if ledger.exists() else []


def trained(ledger: Path) -> list[tuple[int, int, int]]:
    """Every epoch that was begun, once: (trial, seed, epoch). A kill adds none to those of an unbroken sweep."""
    return sorted({(event["trial"], event["seed"], event["epoch"]) for event in read(ledger) if event["ev"] == "epoch"})


def watch(ledger: Path) -> None:
    """From now on the fits of this process write `ledger`."""
    from sweeper.engine.packs.member import Member
    from sweeper.state.sweep_folder import FitFolder

    begin_epoch, write_result = Member.begin_epoch, FitFolder.write_result

    @functools.wraps(begin_epoch)
    def begun(self: Any) -> None:
        write(ledger, "epoch", self.order.number, self.order.seed, self.tuning.epoch + 1)
        begin_epoch(self)

    @functools.wraps(write_result)
    def sealed(self: Any, body: dict[str, Any]) -> None:
        write_result(self, body)
        write(ledger, "done", int(self.path.parent.name), int(self.path.name), len(body["history"]))

    Member.begin_epoch, FitFolder.write_result = begun, sealed  # type: ignore[method-assign]


@dataclass
class Audit:
    """What was found. Each list holds sentences; all of them empty is what the sweep promises."""

    trials: int = 0
    interruptions: int = 0
    lost: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)
    zombies: list[str] = field(default_factory=list)
    budget: list[str] = field(default_factory=list)
    duplicates: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    disagreements: list[str] = field(default_factory=list)
    setbacks: list[str] = field(default_factory=list)
    repeated: Counter[Fit] = field(default_factory=Counter)

    @property
    def faults(self) -> list[str]:
        """Every broken promise, in words."""
        kinds = ("lost", "again", "zombies", "budget", "duplicates", "orphans", "disagreements", "setbacks")
        return [f"{kind}: {said}" for kind in kinds for said in getattr(self, kind)]

    def counts(self) -> dict[str, float]:
        """One row of a table; epochs are counted over all fits, and per interruption."""
        total = sum(self.repeated.values())
        return {
            "trials": self.trials,
            "interruptions": self.interruptions,
            "lost": len(self.lost),
            "again": len(self.again),
            "zombies": len(self.zombies),
            "budget": len(self.budget),
            "duplicates": len(self.duplicates),
            "orphans": len(self.orphans),
            "disagreements": len(self.disagreements),
            "setbacks": len(self.setbacks),
            "epochs_repeated": total,
            "epochs_repeated_per_interruption": total / self.interruptions if self.interruptions else 0.0,
            "epochs_repeated_worst_fit": max(self.repeated.values(), default=0),
        }


def audit(
    folder: Path,
    ledger: Path,
    *,
    budget: int,
    seeds: Sequence[int],
    interruptions: int = 0,
    back: int = 1,
    study: str | None = None,
    record: str | None = "beside",
) -> Audit:
    """Hold every store of the sweep in `folder` against the ledger; the sweep is said to have ended."""
    found = Audit(interruptions=interruptions)
    events = read(ledger)
    trials = _trials(study or f"sqlite:///{folder / 'study.db'}", folder.name)
    results = {fit: _result(folder, fit) for fit in {(n, s) for n in trials for s in seeds} | _fits(events)}
    found.trials = len(trials)
    _check_budget(found, trials, budget)
    _check_done(found, events, results)
    _check_epochs(found, events, back)
    for number, trial in trials.items():
        _check_trial(found, number, trial, {seed: results[number, seed] for seed in seeds})
    if record is not None:
        url = f"sqlite:///{folder.parent / 'mlflow.db'}" if record == "beside" else record
        _check_record(found, trials, _runs(url, folder.name))
    return found


def _fits(events: Sequence[Mapping[str, Any]]) -> set[Fit]:
    return {(event["trial"], event["seed"]) for event in events}


# --- reading the stores


def _rows(url: str, query: str, **values: Any) -> Iterator[Any]:
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        yield from connection.execute(sa.text(query), values)
    engine.dispose()


def _trials(url: str, name: str) -> dict[int, dict[str, Any]]:
    """State, values and attributes of every trial of the study, by number."""
    where = "from trials t join studies s on s.study_id = t.study_id"
    every = f"select t.number, t.state {where} where s.study_name = :name order by t.number"
    trials: dict[int, dict[str, Any]] = {
        row.number: {"state": row.state, "values": [], "attributes": {}} for row in _rows(url, every, name=name)
    }
    values = f"select t.number, v.value {where} join trial_values v on v.trial_id = t.trial_id"
    for row in _rows(url, f"{values} where s.study_name = :name order by v.objective", name=name):
        trials[row.number]["values"].append(row.value)
    attributes = f"select t.number, a.key, a.value_json {where} join trial_user_attributes a on a.trial_id = t.trial_id"
    for row in _rows(url, f"{attributes} where s.study_name = :name", name=name):
        trials[row.number]["attributes"][row.key] = json.loads(row.value_json)
    return trials


def _result(folder: Path, fit: Fit) -> dict[str, Any] | None:
    """The fit's result if it is there and whole."""
    path = folder / "trials" / f"{fit[0]:05d}" / str(fit[1]) / "result.json"
    try:
        document = json.loads(path.read_text())
        assert hashlib.sha256(document["body"].encode()).hexdigest() == document["sha256"]
    except (OSError, ValueError, KeyError, AssertionError):
        return None
    body: dict[str, Any] = json.loads(document["body"])
    return body


def _runs(url: str, name: str) -> list[dict[str, str]]:
    """Status and tags of every run of the sweep's experiment that is not deleted."""
    where = "join experiments e on e.experiment_id = r.experiment_id where e.name = :name"
    active = f"{where} and r.lifecycle_stage = 'active'"
    runs = {
        row.run_uuid: {"status": row.status}
        for row in _rows(url, f"select r.run_uuid, r.status from runs r {active}", name=name)
    }
    query = f"select r.run_uuid, t.key, t.value from runs r join tags t on t.run_uuid = r.run_uuid {active}"
    for row in _rows(url, query, name=name):
        runs[row.run_uuid][row.key] = row.value
    return list(runs.values())


# --- holding them against each other


def _check_budget(found: Audit, trials: Mapping[int, Mapping[str, Any]], budget: int) -> None:
    if list(trials) != list(range(budget)):
        found.budget.append(f"{budget} trials were asked for, the study has {list(trials)}")
    for number, trial in trials.items():
        if trial["state"] not in ENDED:
            found.zombies.append(f"trial {number} is {trial['state']} and nobody works on it")


def _check_done(found: Audit, events: Sequence[Mapping[str, Any]], results: Mapping[Fit, Any]) -> None:
    """What was durable once is there, and was not done a second time."""
    done: set[Fit] = set()
    for event in events:
        fit = (event["trial"], event["seed"])
        if fit in done:
            found.again.append(f"fit {fit} had a result, and then: {dict(event)}")
        if event["ev"] == "done":
            done.add(fit)
    for fit in sorted(done):
        if results[fit] is None:
            found.lost.append(f"fit {fit} had a result, and it is gone")


def _check_epochs(found: Audit, events: Sequence[Mapping[str, Any]], back: int) -> None:
    """Each fit begins the epoch after its last one, or, after an interruption, at most `back` earlier."""
    last: dict[Fit, int] = {}
    for event in events:
        if event["ev"] != "epoch":
            continue
        fit, epoch = (event["trial"], event["seed"]), event["epoch"]
        before = last.get(fit, 0)
        if epoch > before + 1 or epoch < before + 1 - back:
            found.setbacks.append(f"fit {fit} went from epoch {before} to {epoch}")
        if epoch <= before:
            found.repeated[fit] += before + 1 - epoch
        last[fit] = epoch
    for fit, repeated in found.repeated.items():
        if repeated > back * found.interruptions:
            found.setbacks.append(f"fit {fit} repeated {repeated} epochs in {found.interruptions} interruptions")


def _check_trial(found: Audit, number: int, trial: Mapping[str, Any], results: Mapping[int, Any]) -> None:
    """What the study says of a trial is what its fits came to."""
    proposal = trial["attributes"].get("proposal")
    if proposal is None:
        found.disagreements.append(f"trial {number} has no proposal")
        return
    for seed, result in results.items():
        if result is not None and result["params"] != proposal["params"]:
            found.disagreements.append(f"fit {(number, seed)} was trained with {result['params']}, not as proposed")
    good = {seed: result for seed, result in results.items() if result is not None and not result["error"]}
    if trial["state"] == "COMPLETE":
        _check_values(found, number, trial, good, missing=set(results) - set(good))
    elif trial["state"] == "FAIL" and "reason" not in trial["attributes"].get("outcome", {}):
        found.disagreements.append(f"trial {number} failed without a reason")


def _check_values(found: Audit, number: int, trial: Any, good: Mapping[int, Any], *, missing: set[int]) -> None:
    if missing:
        found.lost.append(f"trial {number} is complete, and seeds {sorted(missing)} have no result")
        return
    metrics = trial["attributes"]["outcome"]["metrics"]
    for name, told in metrics.items():
        values = [result["values"].get(name) for result in good.values()]
        mean = None if None in values else float(np.mean(np.array(values, dtype=np.float64)))
        if told != mean:
            found.disagreements.append(f"trial {number}: the study says {name} {told}, its fits {mean}")
    if any(value not in metrics.values() for value in trial["values"]):
        found.disagreements.append(f"trial {number}: objectives {trial['values']} are not among its metrics")


def _check_record(found: Audit, trials: Mapping[int, Mapping[str, Any]], runs: Sequence[Mapping[str, str]]) -> None:
    """One run per trial and one parent, none RUNNING."""
    of_trials = Counter(int(run["sweeper.trial"]) for run in runs if "sweeper.trial" in run)
    parents = sum(run.get("sweeper.role") == "parent" for run in runs)
    found.orphans += [f"MLflow has a run of trial {n}, the study has not" for n in of_trials if n not in trials]
    found.duplicates += [f"MLflow has {n} runs of trial {number}" for number, n in of_trials.items() if n > 1]
    found.lost += [f"MLflow has no run of trial {number}" for number in trials if number not in of_trials]
    if parents != 1:
        found.duplicates.append(f"MLflow has {parents} parent runs")
    for run in runs:
        number = int(run.get("sweeper.trial", -1))
        wanted = STATUS.get(trials[number]["state"]) if number in trials else run["status"]
        if run["status"] == "RUNNING":
            found.orphans.append(f"MLflow's run of {run.get('mlflow.runName')} is RUNNING and nobody works on it")
        elif run["status"] != wanted:
            found.disagreements.append(f"MLflow says trial {number} is {run['status']}, not {wanted}")
