"""Fits that one actor trains at once: each is a fit as ever, and what goes wrong with several is no fit's own fault.

How they are trained together: tests/packing. Here a pack's fits are two numbers each, so that bits can be compared.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from sweeper.engine import driver
from sweeper.engine.attempt import Outcome
from sweeper.engine.order import Bundle, Order
from sweeper.engine.packs.gain import Gain
from sweeper.engine.packs.packing import Packing
from sweeper.engine.queue import FitQueue
from sweeper.engine.tune import FitSearcher
from sweeper.results.results import Results
from sweeper.running_code import RunningCode
from sweeper.spec import loading
from sweeper.spec.faults import Faults
from sweeper.spec.model import SweepSpec
from sweeper.state.sweep_folder import SweepFolder
from sweeper.trial import State
from tests.engine.test_queue import QueueBench
from tests.engine.test_stopping import Acts
from tests.faults import tiny
from tests.faults.tiny import NAME, SEEDS, Silent, Tiny
from trainables import packing
from trainables.errors import FitError
from trainables.packing import Unpackable
from trainables.params import Params


class TinyPack:
    """What `trainables.packing.Pack` does, for tiny fits. `sizes` has how many fits each epoch of a pack had."""

    sizes: ClassVar[list[int]] = []
    fault: Callable[[Sequence[Tiny]], None] = staticmethod(lambda tunings: None)

    def __init__(self, tunings: Sequence[Tiny]) -> None:
        self._tunings = tunings

    def train_epoch(self, between_steps: Callable[[], None]) -> list[dict[str, float] | FitError]:
        """One epoch of each; a member's fault is its own."""
        TinyPack.fault(self._tunings)
        TinyPack.sizes.append(len(self._tunings))
        return [_own(each) for each in self._tunings]


def _own(tuning: Tiny) -> dict[str, float] | FitError:
    try:
        return tuning.train_epoch()
    except FitError as fault:
        return fault


class Watched(Tiny):
    """A tiny fine-tuning that keeps which epochs were trained. `fails` may raise."""

    epochs: ClassVar[list[tuple[str, int, int]]] = []
    fails: Callable[[Watched], None] = staticmethod(lambda tuning: None)

    def train_epoch(self) -> dict[str, float]:
        """As ever, and noted."""
        Watched.fails(self)
        Watched.epochs.append((json.dumps(self._params.to_flat()), self._seed, self.epoch + 1))
        return super().train_epoch()


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.make_tiny(monkeypatch.setattr, tuning=Watched, record=tiny.Mute)
    monkeypatch.setattr(packing, "Pack", TinyPack)
    monkeypatch.setattr(TinyPack, "sizes", [])
    monkeypatch.setattr(Watched, "epochs", [])


def asked(root: Path, pack: object, trials: int = 4, **changes: Any) -> SweepSpec:
    """Trials of two seeds and two epochs, drawn by chance: the same whatever was told before."""
    spec = loading.changed(tiny.spec(root, trials=trials), {"search.sampler": "random", "resources.pack": pack})
    return loading.changed(spec, changes) if changes else spec


def swept(root: Path, pack: object, **options: Any) -> Outcome:
    return driver.run(asked(root, pack, **options), Silent(), executor=tiny.in_process)


def told(outcome: Outcome) -> list[tuple[State, Any, Any]]:
    return [(trial.state, trial.params, trial.values) for trial in outcome.results.trials]


def test_a_sweep_of_packed_fits_is_a_sweep_of_fits(tmp_path: Path) -> None:
    alone = swept(tmp_path / "alone", "off")
    assert TinyPack.sizes == []
    packed = swept(tmp_path / "packed", 3)
    assert packed.exit_code == 0
    assert told(packed) == told(alone)
    assert Counter(Watched.epochs) == dict.fromkeys(set(Watched.epochs), 2), "each once, in both sweeps"
    # Eight fits of two epochs: three, three and two at once.
    assert TinyPack.sizes == [3, 3, 3, 3, 2, 2]
    fit = SweepFolder(tmp_path / "packed" / NAME).fit(0, 1)
    assert fit.result()["provenance"]["packed"] == [{"epochs": [1, 2], "with": ["0/0", "1/0"]}]
    assert len(fit.result()["history"]) == 2
    assert not list(SweepFolder(tmp_path / "packed" / NAME).path.glob("trials/*/*/checkpoint-*"))
    assert "packed" not in SweepFolder(tmp_path / "alone" / NAME).fit(0, 1).result()["provenance"]


def test_an_epoch_of_a_pack_is_shared_out_among_its_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TinyPack, "fault", lambda tunings: time.sleep(0.3))
    outcome = swept(tmp_path, 4, trials=2)
    spent = [Results.open(outcome.results.folder).folder.fit(n, s).result()["seconds"] for n in (0, 1) for s in SEEDS]
    assert 4 * 2 * 0.3 / 4 <= sum(spent) < 2 * 2 * 0.3, "two epochs of 0.3 s in all, and what measuring takes"


def test_fits_of_other_kinds_do_not_go_together_and_full_fine_tuning_with_none(tmp_path: Path) -> None:
    given, same = (
        Packing(4, SweepFolder(tmp_path)),
        {"method": "fairlora", "rank": 4, "batch_size": 32, "layers": "qkv"},
    )
    first = Order(0, 0, same)
    assert given.together(first, Order(1, 0, same | {"rank": 8, "method": "lora", "epochs": 9}))
    for other in ({"batch_size": 64}, {"layers": "attention"}, {"blocks": 2}, {"variant": "dora"}, {"method": "fft"}):
        assert not given.together(first, Order(1, 0, same | other)), other
    assert given.room(Order(1, 0, {"method": "fft", "batch_size": 32})) == 1
    assert given.room(Order(0, 0, same, "held-out")) == 1


def test_the_seeds_of_a_trial_go_together_first_and_one_trial_more_than_needed_is_never_proposed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = QueueBench(tmp_path)
    queue = packed_queue(bench, 3)
    bundle = queue.next_bundle()
    assert [(order.number, order.seed) for order in bundle] == [(0, 0), (0, 1), (1, 0)]
    assert [(order.number, order.seed) for order in queue.waiting] == [(1, 1)]
    assert len(bench.study.trials()) == 2
    assert {len(out.bundle) for out in queue.out} == {3}


def packed_queue(bench: QueueBench, most: int, **options: Any) -> FitQueue:
    queue = bench.queue(**options)
    queue.packing = Packing(most, bench.folder)
    return queue


def test_a_bundle_ends_with_its_first_fit_and_the_others_come_first_and_are_not_tried_again(tmp_path: Path) -> None:
    bench = QueueBench(tmp_path)
    queue = packed_queue(bench, 3)
    for _ in range(3):  # more often than an order may come back empty
        bundle = queue.next_bundle()
        assert len(bundle) == 3
        bench.work(bundle[2])
        queue.done(*bundle)
    assert [(order.number, order.seed) for order in queue.next_bundle()[:2]] == [(0, 0), (0, 1)]
    assert bench.study.trials()[0].state is State.RUNNING


def test_a_bundle_that_comes_back_with_nothing_at_all_is_tried_as_often_as_an_order(tmp_path: Path) -> None:
    bench = QueueBench(tmp_path)
    queue = packed_queue(bench, 2)
    for _ in range(3):
        queue.done(*queue.next_bundle())
    assert bench.study.trials()[0].reason == "seed 1: ended 3 times without a result"


def test_the_searcher_hears_of_each_fit_of_a_bundle(tmp_path: Path) -> None:
    bench = QueueBench(tmp_path)
    queue = packed_queue(bench, 2)
    code = RunningCode({}, {}, {})
    searcher = FitSearcher(queue, tiny.node(bench.folder), code, limit=1, ahead=0)
    bundle = searcher.suggest("a")["bundle"]
    assert str(bundle) == "fit 0/0 and 1 more"
    assert searcher.suggest("b") is None, "the slot is taken"
    rows = [{"epoch": 1, "val_accuracy": 0.5}, {"epoch": 2, "val_accuracy": 0.6}]
    assert not searcher.prunes("a", {"epoch": 1, "members": json.dumps(rows)})
    assert [(out.epoch, out.values) for out in queue.out] == [(1, {"accuracy": 0.5}), (2, {"accuracy": 0.6})]
    for order in bundle:
        bench.work(order)
    searcher.on_trial_complete("a", {"done": True, "epoch": 2, "members": json.dumps(rows), "code": code.digest})
    assert bench.study.trials()[0].state is State.COMPLETE
    assert Bundle(tuple(queue.next_bundle())).orders[0].number == 1


HALVING = {"search.stopping": {"first": 1, "factor": 2}, "space.epochs": 4}


def test_fits_of_packs_are_pruned_and_what_lives_is_what_it_would_be_alone(tmp_path: Path) -> None:
    whole = swept(tmp_path / "whole", "off", trials=8, **{"space.epochs": 4})
    outcome = swept(tmp_path / "packed", 3, trials=8, **HALVING)
    assert outcome.exit_code == 0
    pruned = [trial.number for trial in outcome.results.trials if trial.state is State.PRUNED]
    assert 0 < len(pruned) < 7
    for early, late in zip(outcome.results.trials, whole.results.trials, strict=True):
        assert early.params == late.params
        assert early.state is State.PRUNED or early.values == late.values
    folder = outcome.results.folder
    assert not list(folder.path.glob("trials/*/*/checkpoint-*"))
    assert not list(folder.path.glob("trials/*/*/in-flight.json"))
    assert 3 in TinyPack.sizes


def test_a_race_of_packed_fits_keeps_its_budget(tmp_path: Path) -> None:
    race = {"search.seeds": {"start": 1, "most": 3}, "search.budget": {"fits": 11}}
    outcome = swept(tmp_path, 4, trials=6, **race)
    assert outcome.exit_code == 0
    assert outcome.results.state == "finished"
    assert sum(trial.seeds for trial in outcome.results.trials) == 11
    assert max(TinyPack.sizes) > 1


def test_one_fit_that_fails_leaves_the_others_of_its_pack_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverges(tuning: Watched) -> None:
        if tuning._params.method == "lora" and tuning._seed == 1 and tuning.epoch == 1:
            raise FitError("diverged", "the loss became nan")

    monkeypatch.setattr(Watched, "fails", diverges)
    outcome = swept(tmp_path, 4)
    assert [trial.reason for trial in outcome.results.trials] == [
        "seed 1: diverged: the loss became nan",
        None,
        None,
        None,
    ]
    assert Counter(Watched.epochs).most_common(1)[0][1] == 1, "nothing is trained again"


def test_the_fit_that_kills_its_actor_is_found_alone_and_no_other_pays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(tuning: Watched) -> None:
        if tuning._params.method == "lora" and tuning._seed == 1:
            raise RuntimeError("a broken kernel")

    monkeypatch.setattr(Watched, "fails", breaks)
    outcome = swept(tmp_path, 4, **{"resources.max_retries": 0})
    assert [trial.reason for trial in outcome.results.trials] == ["seed 1: raised: a broken kernel", None, None, None]
    assert all(trial.state is State.COMPLETE for trial in outcome.results.trials[1:])


def test_packs_have_half_as_many_fits_where_memory_runs_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_many(tunings: Sequence[Tiny]) -> None:
        if len(tunings) > 2:
            raise FitError("out-of-memory", "CUDA out of memory")

    monkeypatch.setattr(TinyPack, "fault", too_many)
    outcome = swept(tmp_path, 8)
    assert outcome.exit_code == 0
    assert told(outcome) == told(swept(tmp_path / "alone", "off"))
    assert set(TinyPack.sizes) == {2}
    assert outcome.notes == [
        "packing: memory does not hold (CUDA out of memory) 8 fits at once; 4 at once from now on.",
        "packing: memory does not hold (CUDA out of memory) 4 fits at once; 2 at once from now on.",
    ]


def test_two_packs_in_a_row_whose_actors_die_halve_the_next(tmp_path: Path) -> None:
    bench = QueueBench(tmp_path)
    queue = packed_queue(bench, 4)
    for _ in range(2):
        bundle = queue.next_bundle()
        assert len(bundle) == 4
        queue.done(*bundle, died=True)
        for _ in bundle:  # each by itself now, and no retry was counted
            (order,) = queue.next_bundle()
            bench.work(order)
            queue.done(order)
    assert queue.packing.most == 2
    assert queue.packing.notes == [
        "packing: 2 actors died one after the other, the last with 4 fits at once; 2 at once from now on."
    ]
    assert [trial.state for trial in bench.study.trials()] == [State.COMPLETE] * 4


def test_fits_that_cannot_be_packed_are_trained_one_by_one_and_that_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(pack: TinyPack, tunings: Sequence[Tiny]) -> None:
        raise Unpackable("texts differ in length")

    monkeypatch.setattr(TinyPack, "__init__", refuses)
    outcome = swept(tmp_path, 4)
    assert outcome.exit_code == 0
    assert all(trial.state is State.COMPLETE for trial in outcome.results.trials)
    assert outcome.notes == ["packing: such fits are trained one by one, since texts differ in length."]
    assert Counter(Watched.epochs).most_common(1)[0][1] == 1


def test_a_killed_sweep_of_packs_trains_the_same_epochs(tmp_path: Path) -> None:
    """Killed in the middle of its durable acts: an epoch of each fit of the pack in flight is trained again at most."""
    with pytest.MonkeyPatch.context() as patch:
        acts = Acts().around(patch)
        swept(tmp_path / "whole", 3)
    whole = set(Watched.epochs)
    for place in (acts.count // 3, acts.count // 2):
        Watched.epochs.clear()
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            Acts(place).around(patch)
            swept(tmp_path / str(place), 3)
        outcome = driver.resume(SweepFolder(tmp_path / str(place) / NAME), Silent(), executor=tiny.in_process)
        assert outcome.exit_code == 0
        assert set(Watched.epochs) == whole
        again = [epoch for epoch, times in Counter(Watched.epochs).items() if times > 1]
        assert len(again) <= 3
        assert len({epoch[:2] for epoch in again}) == len(again), "of one fit one epoch"


def test_a_stop_ends_a_pack_after_its_epoch_and_a_resume_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = SweepFolder(tmp_path / NAME)

    def stop(tunings: Sequence[Tiny]) -> None:
        for attempt in folder.path.glob("attempts/*"):
            (attempt / "stop").touch()

    monkeypatch.setattr(TinyPack, "fault", stop)
    spec = asked(tmp_path, 3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiny, "work_off", _once(tiny.work_off))
        driver.run(spec, Silent(), executor=tiny.in_process)
    assert len(Watched.epochs) == 3
    monkeypatch.setattr(TinyPack, "fault", lambda tunings: None)
    assert driver.resume(folder, Silent(), executor=tiny.in_process).exit_code == 0
    assert Counter(Watched.epochs).most_common(1)[0][1] == 1


def _once(work_off: Callable[..., None]) -> Callable[..., None]:
    """The queue stops with the first bundle that comes back."""

    def worked(queue: FitQueue, folder: SweepFolder) -> None:
        done = queue.done
        queue.done = lambda *orders, **how: (queue.stop(), done(*orders, **how))  # type: ignore[method-assign]
        work_off(queue, folder)

    return worked


def test_auto_measures_once_with_the_first_fit_and_a_resume_packs_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for: list[int] = []

    def gain(tuning: Tiny, params: Sequence[Params]) -> float:
        asked_for.append(len(params))
        if len(params) > 4:
            raise FitError("out-of-memory", "CUDA out of memory")
        return {2: 1.25, 4: 1.5}[len(params)]

    monkeypatch.setattr(packing, "gain", gain)
    outcome = swept(tmp_path, "auto")
    assert (outcome.exit_code, asked_for) == (0, [2, 4, 8])
    assert told(outcome) == told(swept(tmp_path / "alone", "off"))
    assert TinyPack.sizes == [4, 4, 4, 4]
    said = (
        "packing: 4 fits at once. Measured, times as fast as one by one: 1.25 with 2, 1.50 with 4; 8 at once need too "
        "much memory."
    )
    assert outcome.notes == [said]
    folder = outcome.results.folder
    assert str(Gain.kept(folder)) == said
    monkeypatch.delattr(packing, "gain")
    again = driver.resume(folder, Silent(), trials=6, executor=tiny.in_process)
    assert again.exit_code == 0
    assert TinyPack.sizes[4:] == [4, 4]


@pytest.mark.parametrize("fault", [None, FitError("dead-adapter", "no effect"), RuntimeError("a broken kernel")])
def test_where_packs_gain_nothing_or_cannot_be_measured_each_fit_is_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception | None
) -> None:
    def gain(tuning: Tiny, params: Sequence[Params]) -> float:
        if fault is not None:
            raise fault
        return {2: 1.09, 4: 1.08}[len(params)]

    monkeypatch.setattr(packing, "gain", gain)
    outcome = swept(tmp_path, "auto", trials=2)
    assert (outcome.exit_code, TinyPack.sizes) == (0, [])
    assert all(trial.state is State.COMPLETE for trial in outcome.results.trials)
    slow = "each fit by itself. Measured, times as fast as one by one: 1.09 with 2, 1.08 with 4."
    none = "what it gains could not be measured, so each fit is trained by itself."
    assert outcome.notes == [f"packing: {none if fault else slow}"]
    assert (Gain.kept(outcome.results.folder) is None) is (fault is not None)


@pytest.mark.parametrize("pack", [1, 65, True, "many", 2.5])
def test_what_is_no_number_of_fits_is_refused(tmp_path: Path, pack: object) -> None:
    with pytest.raises(Faults, match=r"resources\.pack is .*Use 'off', 'auto', or how many fits"):
        asked(tmp_path, pack)


def test_the_sampler_that_auto_chooses_goes_by_how_many_fits_packs_hold_at_once(tmp_path: Path) -> None:
    for pack, sampler in (("off", "tpe"), (8, "random")):
        text = tiny.SPEC.format(root=tmp_path, trials=30, search="").replace("sampler: tpe", "sampler: auto")
        spec = loading.parse(text + f"resources: {{max_concurrent: 2, pack: {pack}}}\n")
        assert spec.search.sampler == sampler
