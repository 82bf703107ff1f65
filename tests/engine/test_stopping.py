"""Early stopping in a sweep: what falls behind is trained no further, what nobody beats is; a resume decides alike.

The rules themselves: tests/front/test_halving.py and test_forecast.py.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from sweeper.engine import driver
from sweeper.engine.attempt import Outcome
from sweeper.engine.queue import FitQueue
from sweeper.front.halving import Halving
from sweeper.results.results import Results
from sweeper.spec import loading
from sweeper.spec.faults import Faults
from sweeper.spec.model import SweepSpec
from sweeper.state.fit_folder import FitFolder
from sweeper.state.study import Study
from sweeper.state.sweep_folder import SweepFolder
from sweeper.trial import State
from tests.faults import tiny
from tests.faults.tiny import NAME, SEEDS, Silent, Tiny

SIGNS = {"accuracy": 1.0, "delta_f1": -1.0}


HALVING = {"first": 1, "factor": 2}


def asked(root: Path, trials: int = 8, stopping: object = HALVING) -> SweepSpec:
    """Four epochs, compared after the first and the second; by a forecast also after the third."""
    longer = loading.changed(tiny.spec(root, trials=trials), {"space.epochs": 4})
    return loading.changed(longer, {"search.stopping": stopping})


def swept(root: Path, trials: int = 8, stopping: object = HALVING) -> Outcome:
    return driver.run(asked(root, trials, stopping), Silent(), executor=tiny.in_process)


def told(outcome: Outcome) -> list[tuple[State, Mapping[str, object], Mapping[str, float], str | None]]:
    return [(trial.state, trial.params, trial.values, trial.stopped) for trial in outcome.results.trials]


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.make_tiny(monkeypatch.setattr, record=tiny.Mute)


def test_a_stopped_trial_has_no_numbers_counts_in_the_budget_and_is_on_no_front(tmp_path: Path) -> None:
    outcome = swept(tmp_path)
    pruned = [trial for trial in outcome.results.trials if trial.state is State.PRUNED]
    assert pruned
    assert outcome.exit_code == 0
    assert len(outcome.results.trials) == 8
    assert {trial.state for trial in outcome.results.trials} == {State.COMPLETE, State.PRUNED}
    assert not set(outcome.results.front) & {trial.number for trial in pruned}
    assert outcome.results.trials[0].baseline
    assert outcome.results.trials[0].state is State.COMPLETE
    folder = SweepFolder(tmp_path / NAME)
    for trial in pruned:
        assert not trial.values
        assert not trial.metrics
        assert "others were ahead" in (trial.stopped or "")
        results = [folder.fit(trial.number, seed).result() for seed in SEEDS]
        (stopped,) = [found for found in results if found and found.get("stopped")]
        assert len(stopped["history"]) == stopped["stopped"] < 4
        assert not list(folder.path.glob(f"trials/{trial.number:05d}/*/checkpoint-*"))
    fits = Results.open(folder).fits_table
    assert fits["stopped"].notna().sum() == len(pruned)


def test_what_was_trained_to_its_end_is_what_a_sweep_without_the_rule_would_have_trained(tmp_path: Path) -> None:
    early = swept(tmp_path / "early")
    fixed = loading.changed(asked(tmp_path / "late"), {"search.stopping": None, "search.sampler": "random"})
    random = loading.changed(asked(tmp_path / "random"), {"search.sampler": "random"})
    late = driver.run(fixed, Silent(), executor=tiny.in_process)
    some = driver.run(random, Silent(), executor=tiny.in_process)
    assert early.exit_code == late.exit_code == some.exit_code == 0
    for whole, part in zip(late.results.trials, some.results.trials, strict=True):
        assert whole.params == part.params
        assert part.state is State.PRUNED or part.values == whole.values
    assert any(part.state is State.PRUNED for part in some.results.trials)


def test_with_more_seeds_the_same_trials_live_and_no_further_seed_of_another_is_begun(tmp_path: Path) -> None:
    """The first seed decides, so what lives is the same whatever the number of seeds (and what is drawn at random)."""
    random = {"search.sampler": "random"}
    one = driver.run(
        loading.changed(asked(tmp_path / "one", 10), random | {"search.seeds": 1}), Silent(), executor=tiny.in_process
    )
    three = driver.run(
        loading.changed(asked(tmp_path / "three", 10), random | {"search.seeds": 3}), Silent(), executor=tiny.in_process
    )
    assert [trial.state for trial in three.results.trials] == [trial.state for trial in one.results.trials]
    stopped = [trial for trial in three.results.trials if trial.state is State.PRUNED]
    assert stopped
    folder = SweepFolder(tmp_path / "three" / NAME)
    for trial in stopped:
        assert "of seed 0" in (trial.stopped or "")
        assert [seed for seed in range(3) if folder.fit(trial.number, seed).history()] == [0]


def test_a_fit_that_runs_beside_the_first_seed_does_not_decide_and_ends_with_its_trial(tmp_path: Path) -> None:
    """Two fits at once: the second seed passes its rung while the trial lives, and is left once it has ended."""
    spec = loading.changed(asked(tmp_path, 3), {"search.sampler": "random", "search.baselines": []})
    folder = SweepFolder(tmp_path / NAME, token=1)
    folder.path.mkdir(parents=True)
    study = Study(spec, f"sqlite:///{tmp_path / 'study.db'}", create=True)
    queue = FitQueue(study, folder, spec.search, spec.resources, stopping=Halving(1, 2, SIGNS))
    queue.begin()
    good, bad = {"accuracy": 0.9, "delta_f1": 0.1}, {"accuracy": 0.1, "delta_f1": 0.9}
    first, beside, second, second_beside = (queue.next() for _ in range(4))
    assert first is not None
    assert beside is not None
    assert second is not None
    assert second_beside is not None
    assert not queue.prunes(first, 1, good)
    assert not queue.prunes(beside, 1, bad)
    assert not queue.prunes(second_beside, 1, bad)  # the worst of all, and it is not asked
    assert queue.prunes(second, 1, bad)
    folder.fit(1, 0).end_without_numbers(second.params, history=[{"epoch": 1}], seconds=1.0, error=None, stopped=1)
    queue.done(second)
    assert study.trials()[1].state is State.PRUNED
    assert queue.prunes(second_beside, 2, good)


@pytest.mark.parametrize("dies_in", [2, 9, 14, 20])
def test_a_sweep_interrupted_in_any_epoch_stops_the_same_trials_as_an_unbroken_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_in: int
) -> None:
    whole = swept(tmp_path / "whole", trials=6)
    epochs = itertools.count(1)

    class Dies(Tiny):
        def evaluate(self, split: str) -> object:
            if next(epochs) == dies_in:
                raise KeyboardInterrupt
            return super().evaluate(split)

    tiny.make_tiny(monkeypatch.setattr, tuning=Dies, record=tiny.Mute)
    try:
        broken = swept(tmp_path / "broken", trials=6)
    except KeyboardInterrupt:
        folder = SweepFolder(tmp_path / "broken" / NAME)
        broken = driver.resume(folder, Silent(), executor=tiny.in_process)
    assert told(broken) == told(whole)


def test_a_driver_that_dies_before_it_says_stop_says_it_when_it_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = swept(tmp_path / "whole")
    stop = FitFolder.stop

    def dies(self: FitFolder, params: Mapping[str, object]) -> dict[str, object]:
        raise KeyboardInterrupt

    monkeypatch.setattr(FitFolder, "stop", dies)
    with pytest.raises(KeyboardInterrupt):
        swept(tmp_path / "broken")
    monkeypatch.setattr(FitFolder, "stop", stop)
    outcome = driver.resume(SweepFolder(tmp_path / "broken" / NAME), Silent(), executor=tiny.in_process)
    assert told(outcome) == told(whole)


@dataclass
class Acts:
    """Durable acts of fits and study, counted; the process dies just before or after one of them."""

    dies_at: int | None = None
    after: bool = False
    count: int = 0

    def around(self, monkeypatch: pytest.MonkeyPatch) -> Acts:
        for kind, name in [(FitFolder, "save_checkpoint"), (FitFolder, "write_result"), (Study, "prune"),
                           (Study, "complete"), (Study, "propose")]:  # fmt: skip
            monkeypatch.setattr(kind, name, self._counted(getattr(kind, name)))
        return self

    def _counted(self, act: Callable[..., object]) -> Callable[..., object]:
        def counted(*given: object, **named: object) -> object:
            self.count += 1
            at = self.count == self.dies_at
            if at and not self.after:
                raise KeyboardInterrupt
            done = act(*given, **named)
            if at:
                raise KeyboardInterrupt
            return done

        return counted


def same_when_killed(tmp_path: Path, places: Callable[[int], Iterable[int]]) -> None:
    """Twelve trials by forecast, killed at acts of `places(how many there are)`: what it stops is what it stopped."""
    with pytest.MonkeyPatch.context() as patch:
        acts = Acts().around(patch)
        whole = swept(tmp_path / "whole", 12, "strong")
    stopped = [trial.number for trial in whole.results.trials if trial.state is State.PRUNED]
    assert stopped
    assert min(stopped) > 8
    for place in places(acts.count):
        for after in (False, True):
            root = tmp_path / f"{place}-{after}"
            with pytest.MonkeyPatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
                Acts(place, after).around(patch)
                swept(root, 12, "strong")
            broken = driver.resume(SweepFolder(root / NAME), Silent(), executor=tiny.in_process)
            assert told(broken) == told(whole), (place, after)


def test_a_sweep_by_forecast_killed_at_a_durable_act_stops_the_same_trials(tmp_path: Path) -> None:
    same_when_killed(tmp_path, lambda count: [count - 9])


@pytest.mark.slow
def test_a_sweep_by_forecast_killed_at_any_durable_act_stops_the_same_trials(tmp_path: Path) -> None:
    same_when_killed(tmp_path, lambda count: range(2, count + 1))


@pytest.mark.parametrize("sampler", ["tpe", "gp", "nsga2", "random"])
def test_every_sampler_goes_on_after_stopped_trials_also_with_constraints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sampler: str
) -> None:
    monkeypatch.setattr(Halving, "stops", lambda rule, number, epochs, epoch: number % 3 == 2)
    spec = loading.changed(asked(tmp_path, 12), {"search.sampler": sampler, "constraints": {"accuracy": ">= 0.1"}})
    outcome = driver.run(spec, Silent(), executor=tiny.in_process)
    assert [trial.reason for trial in outcome.results.trials] == [None] * 12
    assert [trial.number for trial in outcome.results.trials if trial.state is State.PRUNED] == [2, 5, 8, 11]


def test_the_rule_may_change_at_a_resume_and_one_that_compares_nothing_is_refused(tmp_path: Path) -> None:
    swept(tmp_path, 4)
    wanted = loading.changed(asked(tmp_path, 6), {"search.stopping": None})
    outcome = driver.resume(SweepFolder(tmp_path / NAME), Silent(), wanted=wanted, executor=tiny.in_process)
    assert [trial.state for trial in outcome.results.trials[4:]] == [State.COMPLETE] * 2
    with pytest.raises(Faults, match=r"search\.stopping\.first is 4, but fits have 4 epochs at most"):
        loading.changed(asked(tmp_path), {"search.stopping": {"first": 4, "factor": 2}})
    with pytest.raises(Faults, match=r"or a mapping such as \{first: 2, factor: 3\}"):
        loading.changed(asked(tmp_path), {"search.stopping": {"first": 0, "factor": 1}})
    with pytest.raises(Faults, match="Use off, gentle, strong, or a mapping"):
        loading.changed(asked(tmp_path), {"search.stopping": "hard"})
    with pytest.raises(Faults, match=r"search\.stopping is gentle, but no fit has an epoch after which"):
        loading.changed(asked(tmp_path), {"search.stopping": "gentle", "space.epochs": 1})
    assert loading.changed(asked(tmp_path), {"search.stopping": "off"}).search.stopping is None
