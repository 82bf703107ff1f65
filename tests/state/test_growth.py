"""What one more trial costs does not grow with those before it; and what is shared to that end changes no proposal."""

from __future__ import annotations

import cProfile
import functools
import pstats
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest

from sweeper.front.front import Frontier, front
from sweeper.results import summary
from sweeper.results.progress import Progress
from sweeper.results.results import Results
from sweeper.spec import loading
from sweeper.spec.model import SweepSpec
from sweeper.state import samplers
from sweeper.state.study import Study
from sweeper.state.sweep_folder import SweepFolder
from sweeper.trial import State, Trial
from tests.state.test_study import play, spec, study

ROOT = Path(__file__).parents[2]
LOOKS = 8  # at a trial that ended before, at most
SPEC = """
name: a-sweep
groups: cell
space: {{method: [lora, fairlora], learning_rate: {{low: 1e-4, high: 1e-2, log: true}}}}
search: {{sampler: {sampler}, trials: 1000}}
"""


def calls_of(act: Callable[[], object]) -> int:
    """How many functions of this project are called in `act`: what a loop over all trials makes grow."""
    profile = cProfile.Profile()
    profile.runcall(act)
    found = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    return sum(line[1] for (file, _, _), line in found.items() if str(ROOT / "sweeper") in file)


def go_on(memory: Study, asked: SweepSpec, place: Path, most: int) -> None:
    """So many trials more, each a bit worse than the one before; then what a screen shows."""
    for _ in range(most):
        number = memory.propose().number
        memory.complete(number, [{"accuracy": 0.9 - number / 1000, "delta_f1": 0.1 + number / 1000}])
    summary.headline(Results(SweepFolder(place), asked, *memory.look(), Progress("running")))


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_one_more_trial_is_no_dearer_after_many(tmp_path: Path, sampler: str) -> None:
    asked = loading.parse(SPEC.format(sampler=sampler))
    memory, counts, more = study(tmp_path, asked), [], 30
    for many in (12, more - 1):
        go_on(memory, asked, tmp_path, many)
        counts.append(calls_of(functools.partial(go_on, memory, asked, tmp_path, 1)))
    # A call a trial is left of the count by state and of the budget, which tells those asked for by hand.
    assert counts[1] - counts[0] < LOOKS * more, "something of ours looks at every trial again"


def test_tpe_looks_at_the_trials_once_for_a_proposal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory, real, splits = study(tmp_path, loading.parse(SPEC.format(sampler="tpe"))), samplers._split_trials, []
    play(memory, most=11)
    monkeypatch.setattr(samplers, "_split_trials", lambda *how: splits.append(1) or real(*how))
    play(memory, most=3)
    assert len(splits) == 3


@pytest.mark.parametrize("method", ["[lora, fairlora]", "lora"])
def test_what_tpe_shares_changes_no_proposal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    def optunas_own(search: object, streams: samplers.Streams) -> optuna.samplers.TPESampler:
        startup, violations = streams.startup, streams.violations
        return optuna.samplers.TPESampler(seed=streams.own, n_startup_trials=startup, constraints_func=violations)

    points = []
    for name in ("ours", "optuna's own"):
        (tmp_path / name).mkdir()
        asked = spec("tpe", method, trials=16, more="constraints: {delta_f1: {max: 0.3}}")
        points.append(play(study(tmp_path / name, asked)))
        monkeypatch.setattr(samplers, "tpe", optunas_own)
    assert points[0] == points[1]


def made(number: int, *, ended: bool = True, gap: float | None = None) -> Trial:
    values = {"accuracy": number * 0.618 % 1, "delta_f1": number * 0.377 % 1 if gap is None else gap}
    return Trial(number, State.COMPLETE if ended else State.RUNNING, {}, values if ended else {})


def test_the_front_that_is_carried_on_is_that_of_all_trials() -> None:
    objectives = {"accuracy": "max", "delta_f1": "min"}
    frontier = Frontier(objectives)
    slow = 7  # ends last, so that trials after it have ended before it
    for many in range(40):
        trials = [made(n, ended=n != slow or many > 30) for n in range(many)]
        assert frontier.of(trials) == front(trials, objectives)
    worse = [made(n, gap=1.0 if n < 20 else None) for n in range(40)]  # by more seeds
    assert frontier.of(worse) == front(worse, objectives)
    assert frontier.of(worse[:5]) == front(worse[:5], objectives), "as another thread saw it earlier"
