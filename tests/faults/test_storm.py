"""A small storm of kills: the promises of `make faults`, on a scale for every day. And what its table says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import arms, storm
from tests.faults.ledger import Tally, again, setbacks
from tests.faults.table import Sweep, read, table, write


def event(ev: str, trial: int, epoch: int) -> dict[str, object]:
    return {"ev": ev, "trial": trial, "seed": 0, "epoch": epoch}


def test_an_epoch_that_is_begun_a_second_time_is_a_setback_of_one() -> None:
    line = [event("epoch", 0, 1), event("epoch", 0, 2), event("epoch", 1, 1), event("epoch", 0, 2)]
    assert setbacks(line) == [1]
    assert setbacks([*line, event("epoch", 0, 3), event("epoch", 0, 1)]) == [1, 3]


def test_a_fit_that_is_begun_after_its_result_was_run_again() -> None:
    line = [event("epoch", 0, 1), event("done", 0, 1), event("epoch", 1, 1)]
    assert again(line) == 0
    assert again([*line, event("epoch", 0, 1), event("epoch", 0, 2)]) == 1


def test_zero_of_n_is_quoted_with_its_bound_and_a_count_as_it_is(tmp_path: Path) -> None:
    clean = Sweep(0, kills={"driver": 150, "actor": 50}, tally=Tally(asked=4, ended=4, setbacks=[1, 1]))
    torn = Sweep(1, kills={"driver": 10}, gave_up=1, tally=Tally(asked=4, ended=3, lost=1, setbacks=[7, 3]))
    for sweep in (clean, torn):
        write(tmp_path / "sweeps.jsonl", sweep)
    assert read(tmp_path / "sweeps.jsonl") == [clean, torn]
    lines = table({"ours": [clean], "other": [torn]}).splitlines()
    assert "| trials lost | 0 (of 200: below 1.5 %) | 1 |" in lines
    assert "| by kind | driver 150, actor 50, raylet 0, gcs 0 | driver 10, actor 0, raylet 0, gcs 0 |" in lines
    assert "| epochs repeated per fault: mean; worst of a fit | 0.01, 1 | 1.00, 7 |" in lines
    assert "| survived: faults after which the sweep reached its budget | 200 | 0 |" in lines


def struck(tmp_path: Path, *, kills: int, lanes: int, trials: int, seed: int) -> list[Sweep]:
    how = {"kills": kills, "seed": seed, "lanes": lanes, "patience_s": 600}  # a busy machine is not a hang
    return storm.storm(arms.sweeper(trials=trials), tmp_path / "storm", **how)


# Everyday kills of a driver and of workers: tests/engine/test_sweep.py, tests/faults/test_workers.py.
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_kills_lose_nothing_and_cost_an_epoch_at_most(tmp_path: Path) -> None:
    sweeps = struck(tmp_path, kills=20, lanes=2, trials=4, seed=1)
    assert sum(sweep.struck for sweep in sweeps) == 20
    assert all(sweep.survived and sweep.tally.good for sweep in sweeps), [sweep.tally.said for sweep in sweeps]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_stock_design_is_struck_by_the_same_program(tmp_path: Path) -> None:
    sweeps = storm.storm(arms.stock(trials=2), tmp_path / "storm", kills=2, seed=1, lanes=1)
    assert sum(sweep.struck for sweep in sweeps) == 2
    assert sum(sweep.tally.epochs for sweep in sweeps) > 0
