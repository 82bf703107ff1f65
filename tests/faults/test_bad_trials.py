"""Trials that go wrong: told once, with the reason, not retried where that is no use; the others go on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import RayActorError
from ray.tune.experiment import Trial as TuneTrial

from sweeper.engine.actor import FitActor
from sweeper.engine.order import Order, config
from sweeper.state.atomic import write_bytes
from sweeper.state.sweep_folder import SweepFolder
from sweeper.trial import State
from tests.contracts.trees import TREES
from tests.faults import tiny
from tests.faults.tiny import Tiny
from trainables import data
from trainables.data import DataConfig
from trainables.errors import FitError
from trainables.metrics import Evaluation


def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tuning: type[Tiny], **options: Any) -> Any:
    """A tiny sweep of `tuning`, whose first trial is the baseline `lora`."""
    tiny.make_tiny(monkeypatch.setattr, tuning=tuning, record=tiny.Mute)
    return tiny.begin(tmp_path, **options)


def bad(fault: Callable[[Tiny], None]) -> type[Tiny]:
    """A fine-tuning that does `fault` in the second epoch of the baseline, and counts how often."""

    class Bad(Tiny):
        times = 0

        def train_epoch(self) -> dict[str, float]:
            if self._params.method == "lora" and self.epoch == 1:
                Bad.times += 1
                fault(self)
            return super().train_epoch()

    return Bad


def raising(error: Exception) -> Callable[[Tiny], None]:
    def fault(tuning: Tiny) -> None:
        raise error

    return fault


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (FitError("diverged", "the loss became nan in epoch 2, step 1."), "diverged: the loss became nan"),
        (FitError("out-of-memory", "the GPU ran out of memory"), "out-of-memory: the GPU ran out of memory"),
        (MemoryError("64 GiB"), "out-of-memory: 64 GiB"),
        (ZeroDivisionError("division by zero"), "raised: division by zero"),
    ],
)
def test_a_deterministic_failure_is_told_once_with_its_reason_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    tuning = bad(raising(error))
    outcome = sweep(tmp_path, monkeypatch, tuning)
    assert [trial.state for trial in outcome.results.trials] == [State.FAILED, State.COMPLETE, State.COMPLETE]
    assert outcome.results.trials[0].reason.startswith(f"seed 0: {reason}")
    assert tuning.times == 1, "it would end the same way again"
    assert outcome.exit_code == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_an_objective_that_is_no_finite_number_or_missing_fails_its_trial_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float | None
) -> None:
    class Undefined(Tiny):
        def evaluate(self, split: str) -> Evaluation:
            found = super().evaluate(split)
            if self._params.method != "lora":
                return found
            kept = {name: number for name, number in found.values.items() if name != "accuracy"}
            return replace(found, values=kept if value is None else kept | {"accuracy": value})

    outcome = sweep(tmp_path, monkeypatch, Undefined)
    assert [trial.state for trial in outcome.results.trials] == [State.FAILED, State.COMPLETE, State.COMPLETE]
    assert outcome.results.trials[0].reason == "undefined: accuracy is not a finite number"
    assert 0 not in outcome.results.front


def test_a_method_that_always_raises_pulls_the_brake_and_a_resume_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Tiny):
        def train_epoch(self) -> dict[str, float]:
            raise RuntimeError("no such kernel")

    outcome = sweep(tmp_path, monkeypatch, Broken, trials=7)
    assert len(outcome.results.trials) == 5
    assert outcome.results.state == "paused"
    assert outcome.exit_code == 1
    assert outcome.notes[0].startswith("brake: 5 trials failed in a row; the last: seed 0: raised: no such kernel")
    assert "resume" in outcome.notes[0]
    tiny.make_tiny(monkeypatch.setattr, record=tiny.Mute)
    assert len(tiny.go_on(tmp_path).results.trials) == 7


def test_the_brake_also_knows_the_share_of_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(Tiny):
        trials = 0

        def aim(self, params: Any, seed: int, *, trains: bool = True) -> None:
            super().aim(params, seed, trains=trains)
            Odd.trials += seed == 0
            if Odd.trials % 3:
                raise FitError("diverged", "too steep")

    outcome = sweep(tmp_path, monkeypatch, Odd, trials=30)
    assert len(outcome.results.trials) == 10, "the first moment at which a share can be judged"
    assert "7 of 10 trials failed, and search.max_failed_share allows 50%; the last: seed 0" in outcome.notes[0]


def test_a_preempted_actor_is_not_counted_as_a_failure_by_the_ray_that_is_installed() -> None:
    died, preempted = RayActorError(), RayActorError(preempted=True)
    trial = TuneTrial("made-up", stub=True)
    for _ in range(5):
        trial._handle_ray_actor_error(preempted)
    assert trial.should_recover()
    trial.max_failures = 1
    trial._handle_ray_actor_error(died)
    assert trial.should_recover()
    trial._handle_ray_actor_error(died)
    assert not trial.should_recover()


# --- images


@pytest.fixture
def birds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepFolder:
    """A sweep over a tiny Waterbirds whose images may be left out."""
    monkeypatch.setenv("SWEEPER_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "birds"
    root.mkdir()
    TREES["waterbirds"](root)
    folder = SweepFolder(tmp_path / "sweep", token=1)
    spec = f"name: sweep\ngroups: cell\ndata: {{name: waterbirds, root: {root}, on_bad: skip, max_bad: 0.5}}\n"
    write_bytes(folder.spec, (spec + "backbone: {name: small-vit, weights: none}\n").encode())
    folder.attempt.mkdir(parents=True)
    return folder


def fit(folder: SweepFolder, number: int, **same: str) -> dict[str, Any]:
    """One fit of one epoch, by an actor of its own; its last report."""
    params = {"method": "lora", "rank": 4, "learning_rate": 1e-3, "epochs": 1}
    actor = FitActor(config(tiny.node(folder), Order(number, 0, params, same=dict(same))))
    report = {"done": False}
    while not report["done"]:
        report = actor.step()
    return report


def test_bad_images_are_left_out_of_all_fits_and_one_that_breaks_later_pauses_the_sweep(birds: SweepFolder) -> None:
    config = DataConfig(name="waterbirds", root=birds.path.parent / "birds", on_bad="skip", max_bad=0.5)
    images = data.load(config).splits["train"].paths
    whole = data.load(config).split_hash
    images[0].write_bytes(b"no image")
    images[1].write_bytes(b"")
    images[2].unlink()
    for number in (0, 1):
        assert fit(birds, number)["done"]
    hashes = {birds.fit(number, 0).result()["provenance"]["split_hash"] for number in (0, 1)}
    assert len(hashes) == 1
    assert hashes != {whole}, "what is left out is in the hash"
    images[3].write_bytes(b"no image")
    report = fit(birds, 2, split_hash=hashes.pop())
    assert "is not what the sweep's other fits were trained on: who of the data is in which split" in report["to_mend"]
    assert birds.fit(2, 0).result() is None
