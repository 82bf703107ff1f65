"""A ghost, whose sweep somebody else holds now, is refused at every place where it could write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from sweeper.spec import loading
from sweeper.state import lease as leases
from sweeper.state.lease import Held, Lease
from sweeper.state.study import Study
from sweeper.state.sweep_folder import Fenced, FitFolder, SweepFolder
from sweeper.trial import State

SPEC = loading.parse("name: a\nsearch: {sampler: random, trials: 4}\n")
ROW = {"accuracy": 0.9, "delta_f1": 0.1}


def take_over(url: str) -> None:
    """As another driver would: the token goes up."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.update(leases._LEASES).values(token=leases._LEASES.c.token + 1))
    engine.dispose()


def test_a_late_tell_is_refused_by_the_database_itself(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    lease = Lease(url, "a")
    lease.acquire()
    study = Study(SPEC, url, create=True, vouch=lease.vouch)  # no guard: as if frozen between asking it and writing
    study.propose()
    take_over(url)
    with pytest.raises(Held, match="was taken over while this process was away"):
        study.complete(0, [ROW])
    with pytest.raises(Held):
        study.propose()
    trials = Study(SPEC, url).trials()
    assert [(trial.number, trial.state) for trial in trials] == [(0, State.RUNNING)]
    assert trials[0].metrics == {}
    lease.release()


def test_who_holds_the_lease_may_write_and_anybody_may_read(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}"
    lease = Lease(url, "a")
    lease.acquire()
    study = Study(SPEC, url, create=True, vouch=lease.vouch)
    study.propose()
    assert study.complete(0, [ROW]).state is State.COMPLETE
    take_over(url)
    assert study.front() == [0]
    lease.release()


WRITES: dict[str, Callable[[SweepFolder, FitFolder], object]] = {
    "checkpoint": lambda sweep, fit: fit.save_checkpoint(2, b"late"),
    "result": lambda sweep, fit: fit.write_result({"values": {}}),
    "weights": lambda sweep, fit: fit.keep_weights(fit.path / "made"),
    "dropped weights": lambda sweep, fit: fit.drop_weights(),
    "tidying": lambda sweep, fit: fit.tidy(),
    "mark": lambda sweep, fit: fit.mark(2, 1.0, cpus=1.0, gpus=0.0),
    "no mark": lambda sweep, fit: fit.unmark(),
    "test numbers": lambda sweep, fit: sweep.keep_held_out(0, 0, {"values": {}}),
    "table": lambda sweep, fit: sweep.write(sweep.path / "trials.csv", b"late"),
    "spec": lambda sweep, fit: sweep.write(sweep.spec, b"late"),
    "fence": lambda sweep, fit: sweep.raise_fence(),
    "scratch": lambda sweep, fit: sweep.clear_scratch(),
}


@pytest.mark.parametrize("write", WRITES)
def test_every_late_write_into_the_sweeps_folder_is_refused_and_changes_nothing(tmp_path: Path, write: str) -> None:
    ghost, holder = SweepFolder(tmp_path / "a", token=1), SweepFolder(tmp_path / "a", token=2)
    fit = holder.fit(0, 0)
    fit.save_checkpoint(1, b"state")
    fit.mark(2, 0.5, cpus=1.0, gpus=0.0)
    for folder in (fit.path / "made", fit.weights):
        folder.mkdir()
        (folder / "adapter.safetensors").write_bytes(b"weights")
    (fit.path / ".result.json.abc").write_bytes(b"half")
    holder.raise_fence()
    holder.attempt.mkdir(parents=True)

    def content() -> dict[Path, bytes | None]:
        return {path: path.read_bytes() if path.is_file() else None for path in tmp_path.rglob("*")}

    before = content()
    with pytest.raises(Fenced, match="attempt 2"):
        WRITES[write](ghost, ghost.fit(0, 0))
    assert content() == before


def test_every_late_request_to_the_record_is_refused(tmp_path: Path) -> None:
    from sweeper.record.store import Store

    holds = True

    def permit() -> None:
        if not holds:
            raise Held("taken over")

    runs = Store(f"sqlite:///{tmp_path / 'mlflow.db'}", "a", "uuid", tmp_path, permit)
    run = runs.create("trial", {"sweeper.role": "parent"}, begun_ms=None)
    holds = False
    for request in (
        lambda: runs.create("late", {"sweeper.role": "parent"}, begun_ms=None),
        lambda: runs.set_status(run, "FINISHED"),
        lambda: runs.log(run, [], params={"late": "1"}, tags={}),
        lambda: runs.keep_text(run, "late", "late.txt"),
        runs.forget,
    ):
        with pytest.raises(Held):
            request()
    holds = True
    found = runs.find()
    assert (found.parent.run_id, found.parent.status) == (run.run_id, "RUNNING")
    assert (found.trials, found.confirmations) == ({}, {})
