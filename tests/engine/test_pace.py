"""How far an attempt is and how long it still takes: by arithmetic that one can do in one's head."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from sweeper.engine.order import Order
from sweeper.engine.pace import MEASURED, Pace, Stock, laid_out, told_to_watchers
from sweeper.engine.queue import FitQueue
from sweeper.results.progress import Progress, RunningFit
from sweeper.results.results import Results
from sweeper.spec import loading
from sweeper.spec.urls import sqlite_url
from sweeper.state.study import Study
from sweeper.state.sweep_folder import SweepFolder
from tests import finished
from tests.faults import tiny


def test_the_rest_is_laid_out_on_the_slots_as_they_become_free() -> None:
    assert laid_out([4.0], [], slots=2) == 4
    assert laid_out([1.0, 3.0], [2.0, 2.0], slots=2) == 5  # 1 + 2, then 3 + 2
    assert laid_out([], [1.0] * 3000, slots=3) == pytest.approx(1000, abs=1)


def test_the_pace_is_that_of_fits_without_their_start() -> None:
    pace = Pace()
    pace.note(0.0, 0.0, busy=0)
    pace.note(60.0, 0.0, busy=0)  # a minute of start-up
    assert pace.left_s([4], [4, 4], slots=1) is None
    pace.note(60.0, 0.0, busy=2)
    pace.note(70.0, 4.0, busy=2)  # two slots, 10 s, 4 epochs: 5 slot-seconds an epoch
    assert pace.epoch_s == pytest.approx(5)
    assert pace.left_s([2, 2], [4, 4], slots=2) == pytest.approx(30)


def test_what_was_lately_counts_more() -> None:
    pace = Pace()
    for now_s, epochs in enumerate([*range(11), *[10 + i / 2 for i in range(1, 11)]]):  # 1 s an epoch, then 2 s
        pace.note(float(now_s), epochs, busy=1)
    assert 4 / 3 < pace.epoch_s < 2  # a plain mean: 20 s for 15 epochs


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> SweepFolder:
    made = SweepFolder(tmp_path / "tiny", token=1)
    made.attempt.mkdir(parents=True)
    return made


def begun(folder: SweepFolder) -> tuple[Any, Study, FitQueue]:
    """Three trials, the first a baseline, of two seeds and two epochs; two slots."""
    spec = tiny.spec(folder.path.parent)
    study = Study(spec, sqlite_url(folder.path / "study.db"), create=True)
    queue = FitQueue(study, folder, spec.search, spec.resources)
    queue.begin()
    queue.slots = 2
    return spec, study, queue


def test_epochs_are_known_from_what_fits_note_in_their_folders_and_from_reports(
    folder: SweepFolder, clock: Clock
) -> None:
    spec, study, queue = begun(folder)
    stock = Stock(spec, folder, queue, clock)
    orders = [queue.next(), queue.next()]
    assert [fit.begun for fit in stock.take(*study.look()).fits] == [False, False]
    clock.now_s = 20.0
    for order in orders:
        folder.fit(order.number, order.seed).mark(1, 0.0, cpus=1, gpus=0)
    seen = stock.take(*study.look())
    assert [(fit.begun, fit.epoch, fit.epochs) for fit in seen.fits] == [(True, 0, 2)] * 2
    assert seen.eta_s is None
    clock.now_s = 24.0
    for order in orders:
        queue.reported(order, 1, {"accuracy": 0.5, "delta_f1": 0.25, "ece": 0.1})
    seen = stock.take(*study.look())
    assert [fit.epoch for fit in seen.fits] == [1, 1]
    assert seen.fits[0].values == {"accuracy": 0.5, "delta_f1": 0.25}
    # 2 slots, 4 s, 2 epochs: 4 slot-seconds an epoch. Each slot has 1 epoch of its fit, then two fits of two; no test
    # numbers are to come, for no trial has ended.
    assert seen.eta_s == pytest.approx(4 * (1 + 2 + 2))
    assert (seen.fits_ended, seen.fits_total) == (0, 6)
    assert seen.fits[0].left_s == pytest.approx(4)
    clock.now_s = 26.0
    assert stock.take(*study.look()).fits[0].left_s == pytest.approx(2, rel=0.5)


def test_fits_that_share_an_actor_take_its_time_together(folder: SweepFolder, clock: Clock) -> None:
    spec, study, queue = begun(folder)
    queue.packing.most = queue.slots = 2
    stock = Stock(spec, folder, queue, clock)
    bundle = queue.next_bundle()
    for order in bundle:
        folder.fit(order.number, order.seed).mark(1, 0.0, cpus=1, gpus=0)
    stock.take(*study.look())
    clock.now_s = 4.0
    for order in bundle:
        queue.reported(order, 1, {})
    seen = stock.take(*study.look())
    # One slot, 4 s, an epoch of two fits: 2 slot-seconds an epoch, and 4 until the next one of either ends.
    assert [fit.left_s for fit in seen.fits] == [pytest.approx(4)] * 2
    # Of 2 slots one has 2 epochs left; four fits of 2 epochs come: 2 and 2 there, 2 and 2 in the other.
    assert seen.eta_s == pytest.approx(2 * (2 + 2 + 2))


def test_a_fit_that_goes_on_counts_only_what_this_attempt_trains(folder: SweepFolder, clock: Clock) -> None:
    spec, _study, queue = begun(folder)
    order = queue.next()
    assert queue.out[0].begun_with == 0
    queue.reported(order, 1, {})
    assert queue.out[0].epoch == 1
    folder.fit(order.number, order.seed).write_result(_result(order, 2))
    queue.done(order)
    assert queue.trained == {order.number: 2}
    assert queue.gathered == 1
    assert spec.budget == 3


def _result(order: Order, epochs: int) -> dict[str, Any]:
    history = [{"epoch": epoch + 1} for epoch in range(epochs)]
    empty: dict[str, Any] = {"reasons": {}, "groups": [], "provenance": {}, "error": None, "seconds": 1.0}
    return empty | {"params": dict(order.params), "values": {"accuracy": 0.5, "delta_f1": 0.5}, "history": history}


def test_what_is_measured_on_the_test_split_is_in_the_time_left(tmp_path: Path, clock: Clock) -> None:
    """All is measured in a finished sweep; without the test numbers of trial 2 its two seeds are to be measured."""
    spec = finished.sweep(tmp_path / "birds")
    folder = SweepFolder(tmp_path / "birds", token=1)
    queue = FitQueue(Study(spec, sqlite_url(folder.path / "study.db")), folder, spec.search, spec.resources)
    results = Results.open(folder)
    assert Stock(spec, folder, queue, clock).take(results.trials, results.front).to_measure == 0
    for seed in (0, 1):
        folder.held_out(2, seed).unlink()
    stock = Stock(spec, folder, queue, clock)
    queue.begin()
    queue.next()
    seen = stock.take(results.trials, results.front)
    assert (seen.fits_ended, seen.fits_total) == (14, 14)
    assert (seen.measured, seen.to_measure) == (0, 2)
    assert 0 < MEASURED < 1


def test_whoever_watches_reads_what_the_driver_noted_and_nothing_else_is_needed(folder: SweepFolder) -> None:
    fit = RunningFit(3, 1, 2, 8, values={"accuracy": 0.5, "delta_f1": float("nan")}, left_s=1.5)
    noted = Progress("running", 1, 10.0, 20.0, fits=(fit,), fits_ended=4, fits_total=9)
    folder.note_progress(noted.to_json())
    read = Progress.from_json(folder.progress(), "process 7 on here")
    assert read.holder == "process 7 on here"
    assert (read.eta_s, read.fits[0].epoch, read.fits[0].values["accuracy"]) == (20.0, 2, 0.5)
    assert read.to_json() == noted.to_json() | {"holder": "process 7 on here"}


@pytest.mark.parametrize("torn", ["", "{", "[]", json.dumps({"fits": [{"number": 1}]}), json.dumps({"fits": 3})])
def test_a_note_that_is_torn_or_of_another_release_is_none(folder: SweepFolder, torn: str) -> None:
    (folder.attempt / "progress.json").write_text(torn)
    read = Progress.from_json(folder.progress(), "process 7 on here")
    assert (read.state, read.fits, read.eta_s) == ("running", (), None)


def in_hours(folder: SweepFolder, clock: Clock, budget: dict[str, float]) -> tuple[Stock, FitQueue, Study]:
    """The same, with a budget in time."""
    _spec, study, queue = begun(folder)
    spec = loading.changed(tiny.spec(folder.path.parent), {"search.budget": budget})
    return Stock(spec, folder, queue, clock), queue, study


@pytest.mark.parametrize(
    ("budget", "gpus"),
    [
        ({"hours": 0.02}, 0.0),
        ({"gpu_hours": 0.04}, 0.0),
        ({"gpu_hours": 0.02}, 0.5),
        ({"cost": 1, "per_gpu_hour": 25}, 1.0),
    ],
)
def test_a_fit_begins_if_it_can_end_within_the_budget(
    folder: SweepFolder, clock: Clock, budget: dict[str, float], gpus: float
) -> None:
    stock, queue, study = in_hours(folder, clock, budget)  # 72 seconds on two slots
    queue.gpus = gpus
    assert stock.fits_left() == math.inf  # no epoch was measured
    orders = [queue.next(), queue.next()]
    for order in orders:
        folder.fit(order.number, order.seed).mark(1, 0.0, cpus=1, gpus=gpus)
    stock.take(*study.look())
    clock.now_s = 10.0
    for order in orders:
        queue.reported(order, 1, {})
    stock.take(*study.look())  # 10 slot-seconds an epoch, 20 a fit; 20 are left of those that are out
    assert stock.fits_left() == pytest.approx((62 * 2 - 20) / 20)
    clock.now_s = 51.0
    assert stock.fits_left() == pytest.approx((21 * 2 - 20) / 20, abs=0.2)
    clock.now_s = 53.0
    assert stock.fits_left() == 0  # 19 seconds are too short for one


def test_hours_are_those_of_all_attempts(folder: SweepFolder, clock: Clock) -> None:
    stock, queue, study = in_hours(folder, clock, {"hours": 1})
    clock.now_s = 1800.0
    with told_to_watchers(folder, lambda: stock.take(*study.look())):
        pass
    again = Stock(stock._spec, folder, queue, clock)  # it begins at once
    clock.now_s += 900.0
    seen = again.take(*study.look())
    assert (seen.hours, seen.gpu_hours) == (pytest.approx(0.75), pytest.approx(1.5))
    clock.now_s += 900.0
    assert again.fits_left() == 0
