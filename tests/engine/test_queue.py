"""Fits in, trials out: what is done is never done again, what is left is always found."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from sweeper.engine.order import Order
from sweeper.engine.queue import FitQueue
from sweeper.engine.tune import FitSearcher
from sweeper.errors import Corrupt
from sweeper.running_code import RunningCode
from sweeper.spec import loading
from sweeper.spec.sections import Resources
from sweeper.state.atomic import write_json
from sweeper.state.study import Study
from sweeper.state.sweep_folder import SweepFolder
from sweeper.trial import State
from tests.faults import tiny

NO_CODE = RunningCode({}, {}, {})
SPEC = loading.parse("name: q\nsearch: {sampler: random, trials: 4, seeds: 2, baselines: [lora]}\n")


class QueueBench:
    """A sweep whose fits are made up: what an executor would do, without one."""

    def __init__(self, path: Path) -> None:
        self.folder = SweepFolder(path / "q", token=1)
        self.folder.path.mkdir(exist_ok=True)
        self.url = f"sqlite:///{path / 'study.db'}"
        self.ran: list[tuple[str, int, int]] = []
        self.study = Study(SPEC, self.url, create=True)

    def queue(self, *, max_failures: int = 3, max_retries: int = 0, **options) -> FitQueue:
        """Whose trials may fail as `max_failures` says; a fit is run again `max_retries` times."""
        search = SPEC.search.model_copy(update={"max_failures": max_failures})
        queue = FitQueue(self.study, self.folder, search, Resources(max_retries=max_retries), **options)
        queue.begin()
        return queue

    def reopen(self) -> None:
        self.study = Study(SPEC, self.url)

    def work(self, order: Order, error: dict | None = None, values: dict[str, float] | None = None) -> None:
        """What an actor does with an order."""
        self.ran.append((order.kind, order.number, order.seed))
        values = values or {"accuracy": 0.8 + 0.01 * order.number, "delta_f1": 0.2 + 0.01 * order.number}
        if order.kind == "held-out":
            write_json(self.folder.held_out(order.number, order.seed), {"values": values})
        else:
            fit = self.folder.fit(order.number, order.seed)
            fit.write_result(
                {"params": dict(order.params), "values": {} if error else values, "history": [], "error": error}
            )

    def drain(self, queue: FitQueue) -> None:
        while (order := queue.next()) is not None:
            self.work(order)
            queue.done(order)


@pytest.fixture
def bench(tmp_path: Path) -> QueueBench:
    return QueueBench(tmp_path)


def fits(bench: QueueBench) -> list[tuple[int, int]]:
    return [(number, seed) for kind, number, seed in bench.ran if kind == "fit"]


def test_every_seed_of_every_trial_is_run_once_and_the_budget_is_exact(bench: QueueBench) -> None:
    queue = bench.queue()
    bench.drain(queue)
    assert fits(bench) == [(n, s) for n in range(4) for s in (0, 1)]
    assert [t.state for t in bench.study.trials()] == [State.COMPLETE] * 4
    assert queue.empty


def test_test_numbers_are_asked_for_only_when_every_trial_is_told(bench: QueueBench) -> None:
    queue, told = bench.queue(), []
    while (order := queue.next()) is not None:
        if order.kind == "held-out":
            told.append([t.state.finished for t in bench.study.trials()])
        bench.work(order)
        queue.done(order)
    assert told
    assert all(all(states) and len(states) == 4 for states in told)
    assert {n for kind, n, _ in bench.ran if kind == "held-out"} == set(bench.study.front()) | {0}


def test_of_a_tuned_baseline_its_points_are_measured_and_not_all_its_trials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The baseline's trials 0, 1 and 2, each better than the one before in both objectives, are beaten by trial 3."""
    tuned = loading.changed(SPEC, {"search.baselines": {"lora": 3}})
    monkeypatch.setattr(sys.modules[__name__], "SPEC", tuned)
    bench = QueueBench(tmp_path)
    queue = bench.queue()
    while (order := queue.next()) is not None:
        bench.work(order, values={"accuracy": 0.5 + 0.1 * order.number, "delta_f1": 0.5 - 0.1 * order.number})
        queue.done(order)
    assert [trial.baseline for trial in bench.study.trials()] == ["lora"] * 3 + [None]
    assert {n for kind, n, _ in bench.ran if kind == "held-out"} == {2, 3}


def test_each_methods_points_are_measured_too_though_they_are_dominated(bench: QueueBench) -> None:
    """The best trial of each method but one is beaten by trial 3; of these the weights are needed, and are there."""
    queue = bench.queue()
    while (order := queue.next()) is not None:
        right = 0.9 if order.number == 3 else 0.5 + 0.1 * order.number
        bench.work(order, values={"accuracy": right, "delta_f1": 1 - right})
        if order.kind == "fit" and order.number != 1:
            (bench.folder.fit(order.number, order.seed).path / "weights").mkdir()
        queue.done(order)
    methods = [str(trial.params["method"]) for trial in bench.study.trials()]
    best = {method: max(n for n, own in enumerate(methods) if own == method) for method in methods}
    assert bench.study.front() == [3]
    assert len(best) > 1, "of one method the front would be all"
    assert {n for kind, n, _ in bench.ran if kind == "held-out"} == {0, 3} | (set(best.values()) - {1})


def test_a_resumed_queue_runs_only_what_has_no_result(bench: QueueBench) -> None:
    queue = bench.queue()
    orders = [queue.next() for _ in range(5)]  # trials 0 and 1 whole, trial 2 half
    for order in orders[:3]:
        bench.work(order)
        queue.done(order)
    bench.work(orders[3])  # a result, and the process dies before it is told
    bench.reopen()
    before = len(bench.ran)
    again = bench.queue()
    assert bench.study.trials()[1].state is State.COMPLETE, "what has its results is told at once"
    bench.drain(again)
    assert fits(bench)[before:] == [(2, 0), (2, 1), (3, 0), (3, 1)]
    assert len(bench.study.trials()) == 4


def test_a_queue_that_is_made_does_nothing_before_it_begins(bench: QueueBench) -> None:
    queue, heard = bench.queue(), []
    for order in (queue.next(), queue.next()):
        bench.work(order)  # both seeds, and the process dies before it is told
    bench.reopen()
    again = FitQueue(bench.study, bench.folder, SPEC.search, SPEC.resources, on_trial=heard.append)
    assert (heard, bench.study.trials()[0].state) == ([], State.RUNNING)
    again.begin()
    assert [trial.state for trial in heard] == [State.COMPLETE] == [bench.study.trials()[0].state]


def test_an_interrupted_order_is_given_again_after_a_resume_and_not_before(bench: QueueBench) -> None:
    queue = bench.queue()
    order = queue.next()
    queue.stop()
    queue.done(order)
    assert (queue.empty, queue.next()) == (True, None)
    assert bench.study.trials()[0].state is State.RUNNING
    bench.reopen()
    assert bench.queue().next() == order


def test_a_failing_fit_fails_its_trial_with_the_reason_and_the_sweep_goes_on(bench: QueueBench) -> None:
    queue = bench.queue()
    while (order := queue.next()) is not None:
        bench.work(
            order, {"reason": "diverged", "message": "loss is nan"} if (order.number, order.seed) == (1, 0) else None
        )
        queue.done(order)
    states = [t.state for t in bench.study.trials()]
    assert states == [State.COMPLETE, State.FAILED, State.COMPLETE, State.COMPLETE]
    assert bench.study.trials()[1].reason == "seed 0: diverged: loss is nan"
    assert (1, 1) not in fits(bench), "the other seeds of a failed trial are pointless"


@pytest.mark.parametrize("end", [{"error": {"reason": "diverged", "message": "nan"}}, {"error": None, "stopped": 1}])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_kill_between_the_result_that_ends_a_trial_and_its_tell_orders_no_other_seed(
    bench: QueueBench, end: dict, seed: int
) -> None:
    orders = [bench.queue().next()] if seed == 0 else [(queue := bench.queue()).next(), queue.next()]
    order = orders[-1]
    bench.folder.fit(order.number, order.seed).write_result(
        {"params": dict(order.params), "values": {}, "history": []} | end
    )
    bench.reopen()
    assert bench.queue().next().number == 1
    assert bench.study.trials()[0].state is (State.FAILED if end["error"] else State.PRUNED)


def test_a_dead_machine_fails_the_trial_after_its_retries(bench: QueueBench) -> None:
    queue = bench.queue(max_retries=2)
    for _ in range(3):
        order = queue.next()
        assert (order.number, order.seed) == (0, 0), "a retry comes before anything new"
        queue.done(order, died=True)
    assert bench.study.trials()[0].reason == "seed 0: its worker died more often than resources.max_retries allows (2)"
    assert queue.next().number == 1


def test_a_worker_that_dies_with_the_result_written_has_done_its_work(bench: QueueBench) -> None:
    queue = bench.queue()
    for _ in range(2):
        order = queue.next()
        bench.work(order)
        queue.done(order, died=True)
    assert bench.study.trials()[0].state is State.COMPLETE


def test_a_worker_that_dies_in_a_stop_leaves_its_fit_to_the_resume(bench: QueueBench) -> None:
    queue = bench.queue()
    order = queue.next()
    queue.stop()
    queue.done(order, died=True)
    bench.reopen()
    assert bench.queue().next() == order


def test_a_held_out_measurement_is_retried_too(bench: QueueBench) -> None:
    queue = bench.queue(max_retries=1)
    seen = []
    while (order := queue.next()) is not None:
        if order.kind == "fit":
            bench.work(order)
        else:
            seen.append((order.number, order.seed))
        queue.done(order, died=order.kind == "held-out")
    assert seen
    assert all(seen.count(measured) == 2 for measured in seen)
    assert queue.empty


def test_a_late_result_of_a_failed_trial_changes_nothing(bench: QueueBench) -> None:
    queue = bench.queue()
    first, second = queue.next(), queue.next()
    queue.done(first, died=True)
    bench.work(second)
    queue.done(second)
    assert bench.study.trials()[0].state is State.FAILED


def test_failures_in_a_row_pull_the_brake(bench: QueueBench) -> None:
    queue = bench.queue(max_failures=2)
    while (order := queue.next()) is not None:
        queue.done(order, died=True)
    died = "seed 0: its worker died more often than resources.max_retries allows (0)"
    assert queue.too_many_failures == f"2 trials failed in a row; the last: {died}"
    assert [t.state for t in bench.study.trials()] == [State.FAILED] * 2


def test_a_finished_sweep_has_nothing_to_do(bench: QueueBench) -> None:
    bench.drain(bench.queue())
    before = list(bench.ran)
    bench.reopen()
    queue = bench.queue()
    assert (queue.next(), queue.empty) == (None, True)
    assert bench.ran == before


def test_the_listener_hears_of_each_trial_once(bench: QueueBench) -> None:
    heard = []
    queue = bench.queue(on_trial=lambda trial: heard.append(trial.number))
    bench.drain(queue)
    assert heard == [0, 1, 2, 3]


def test_a_result_of_other_settings_is_never_taken_for_this_trials(bench: QueueBench) -> None:
    order = bench.queue().next()
    bench.work(Order(order.number, order.seed, {"method": "fft"}))
    bench.reopen()
    with pytest.raises(Corrupt, match="holds the result of other settings"):
        bench.queue()


def test_an_order_that_comes_back_empty_is_given_again_and_then_fails(bench: QueueBench) -> None:
    queue = bench.queue()
    for _ in range(3):
        order = queue.next()
        assert (order.number, order.seed) == (0, 0)
        queue.done(order)
    assert bench.study.trials()[0].reason == "seed 0: ended 3 times without a result"


def test_a_fault_of_telling_ends_the_search_instead_of_hanging_it(bench: QueueBench, monkeypatch) -> None:
    searcher = FitSearcher(bench.queue(), tiny.node(bench.folder), NO_CODE, limit=1, ahead=0)
    bench.work(*searcher.suggest("a")["bundle"])
    second = searcher.suggest("b")
    assert second is None, "the slot is taken"
    monkeypatch.setattr(bench.study, "complete", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    searcher.on_trial_complete(trial_id="a")
    bench.work(*searcher.suggest("b")["bundle"])
    searcher.on_trial_complete(trial_id="b")
    assert isinstance(searcher.fault, OSError)
    assert searcher.suggest("c") == FitSearcher.FINISHED
    monkeypatch.undo()
    bench.reopen()
    bench.queue()
    assert bench.study.trials()[0].state is State.COMPLETE, "nothing was lost"


def test_a_worker_that_runs_other_code_stops_the_sweep_and_what_differs_is_named(bench: QueueBench) -> None:
    ours = RunningCode({"trainables/table.py": "aa", "peft": "0.21.2"}, {"trainables": "/here/trainables"}, {})
    theirs = RunningCode({"trainables/table.py": "bb", "peft": "0.21.2"}, {"trainables": "/there/trainables"}, {})
    queue = bench.queue()
    searcher = FitSearcher(queue, tiny.node(bench.folder), ours, limit=1, ahead=0)
    searcher.suggest("a")
    searcher.on_trial_complete("a", {"done": True, "other_code": json.dumps(theirs.to_json()), "hostname": "gpu-3"})
    assert searcher.suggest("b") == FitSearcher.FINISHED
    assert queue.to_mend == (
        f"a worker on gpu-3 runs other code than this sweep's provenance names (digest {theirs.digest}, not "
        f"{ours.digest}): trainables/table.py in /there/trainables differs. It trained nothing. Install the same code "
        "on every machine, and nothing else under its names on PYTHONPATH; then resume."
    )


def test_a_worker_of_a_release_that_does_not_say_its_code_stops_the_sweep(bench: QueueBench) -> None:
    queue = bench.queue()
    searcher = FitSearcher(queue, tiny.node(bench.folder), NO_CODE, limit=1, ahead=0)
    bench.work(*searcher.suggest("a")["bundle"])
    searcher.on_trial_complete("a", {"done": True, "epoch": 2, "hostname": "gpu-3"})
    assert queue.to_mend.startswith("a worker on gpu-3 runs another release, which does not say what its code is. ")


RAYS_WORDS = """Failure # 1 (occurred at 2026-11-27_02-20-52)
The actor died because of an error raised in its creation task, ray::ResourceTrainable.__init__() (pid=10511)
RuntimeError: The actor with name ResourceTrainable failed to import on the worker. This may be because needed library \
dependencies are not installed in the worker environment:

  File "sweeper/engine/actor.py", line 17, in <module>
ImportError: libfoo.so.1: cannot open shared object file
"""


def test_a_class_that_no_worker_can_import_stops_the_sweep_at_its_first_death(bench: QueueBench) -> None:
    queue = bench.queue(max_retries=3)
    searcher = FitSearcher(queue, tiny.node(bench.folder), NO_CODE, limit=1, ahead=0)
    searcher.suggest("a")
    searcher.note_death("a", RAYS_WORDS)
    searcher.on_trial_complete("a", error=True)
    assert queue.to_mend == (
        "a worker cannot import what it runs: ImportError: libfoo.so.1: cannot open shared object file. Install there "
        "what is installed here, then resume."
    )


def test_a_worker_that_dies_otherwise_is_tried_again(bench: QueueBench) -> None:
    queue = bench.queue(max_retries=3)
    searcher = FitSearcher(queue, tiny.node(bench.folder), NO_CODE, limit=1, ahead=0)
    (lost,) = searcher.suggest("a")["bundle"]
    searcher.note_death("a", "The actor died unexpectedly: its worker process exited with code 139 (SIGSEGV).")
    searcher.on_trial_complete("a", error=True)
    assert queue.to_mend is None
    assert [*searcher.suggest("b")["bundle"]] == [lost]
