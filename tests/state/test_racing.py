"""A study whose trials get more seeds after their end: what it proposes, keeps and gives to whoever resumes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sweeper.spec import loading
from sweeper.spec.model import SweepSpec
from sweeper.state.asking.next_point import Proposal
from sweeper.state.study import Study
from sweeper.trial import State

RACE = "name: race\nsearch: {trials: 6, seeds: {start: 1, most: 3}, baselines: [lora]}\n"
LUCK = {0: 0.05, 1: -0.02, 2: 0.01}


def measured(params: dict[str, Any], seed: int) -> dict[str, float]:
    weight = np.log10(params.get("lambda", 0.005))
    own = np.random.default_rng([seed, int(1e6 * abs(weight)), params["rank"]]).normal(0, 0.004, 2)
    accuracy = 0.85 - 0.02 * max(weight + 0.5, 0) ** 2 + LUCK[seed] + own[0]
    return {"accuracy": float(accuracy), "delta_f1": float(0.3 - 0.08 * np.tanh(weight) - LUCK[seed] + own[1])}


def told(study: Study, proposal: Proposal) -> tuple[int, tuple[int, ...]]:
    study.complete(proposal.number, [measured(dict(proposal.params), seed) for seed in proposal.seeds])
    return proposal.number, proposal.seeds


def finish(open_study: Callable[[], Study], *, again_after: Callable[[int], bool]) -> list[tuple[int, tuple[int, ...]]]:
    """Every fit of the sweep; where `again_after` its number, the process dies before its end, and before it asks."""
    study, steps = open_study(), []
    while (proposal := study.propose()) is not None:
        if again_after(len(steps)):
            study = open_study()
            [proposal] = study.open_proposals()
        steps.append(told(study, proposal))
        if again_after(len(steps)):
            study = open_study()
            assert study.open_proposals() == []
    return steps


@pytest.fixture
def spec() -> SweepSpec:
    return loading.parse(RACE)


def test_a_race_that_is_interrupted_at_any_step_has_the_same_fits(spec: SweepSpec, tmp_path: Path) -> None:
    def opened(name: str) -> Callable[[], Study]:
        url = f"sqlite:///{tmp_path / name}.db"
        Study(spec, url, create=True)
        return lambda: Study(spec, url)

    unbroken = finish(opened("unbroken"), again_after=lambda step: False)
    assert finish(opened("broken"), again_after=lambda step: True) == unbroken
    study = Study(spec, f"sqlite:///{tmp_path / 'broken'}.db")
    assert study.over
    assert study.propose() is None
    seeds = {trial.number: trial.seeds for trial in study.trials()}
    assert len(seeds) == 6
    assert len(unbroken) == sum(seeds.values()) > 6
    assert all(trial.settled and trial.seed_list == tuple(range(trial.seeds)) for trial in study.trials())
    assert max(seeds.values()) <= 3
    # What a seed does to all alike decides nothing: the values are near those of the mean seed.
    for trial in study.trials():
        at_large = np.mean([measured(dict(trial.params), seed)["accuracy"] for seed in LUCK])
        assert trial.values["accuracy"] == pytest.approx(at_large, abs=0.015)


def test_a_larger_budget_opens_a_race_that_is_over(spec: SweepSpec, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 's'}.db"
    Study(spec, url, create=True)
    finish(lambda: Study(spec, url), again_after=lambda step: False)
    larger = Study(loading.changed(spec, {"search.trials": 7}), url)
    assert not larger.over
    proposal = larger.propose()
    assert proposal is not None
    assert proposal.number == 6


def test_a_budget_of_fits_is_kept(tmp_path: Path) -> None:
    spec = loading.parse("name: race\nsearch: {budget: {fits: 14}, seeds: {start: 1, most: 3}}\n")
    url = f"sqlite:///{tmp_path / 's'}.db"
    Study(spec, url, create=True)
    steps = finish(lambda: Study(spec, url), again_after=lambda step: False)
    assert len(steps) == 14
    assert Study(spec, url).over


def test_a_trial_of_a_plain_sweep_may_get_more_seeds_and_its_number_stays(tmp_path: Path) -> None:
    spec = loading.parse("name: more\nsearch: {trials: 2, seeds: 1, sampler: random}\n")
    study = Study(spec, f"sqlite:///{tmp_path / 's'}.db", create=True)
    for _ in range(2):
        proposal = study.propose()
        assert proposal is not None
        told(study, proposal)
    assert study.propose() is None
    study.give(1, 3, "asked")
    again = Study(spec, study.url)
    assert [trial.settled for trial in again.trials()] == [True, False]
    [proposal] = again.open_proposals()
    assert (proposal.number, proposal.seeds, proposal.told) == (1, (0, 1, 2), 1)
    ended = again.complete(1, [{"accuracy": a, "delta_f1": 0.2} for a in (0.7, 0.8, 0.9)])
    assert (ended.number, ended.seeds, ended.further) == (1, 3, 2)
    assert ended.spread["accuracy"] == pytest.approx(0.1)
    assert ended.values["accuracy"] == pytest.approx(0.8, abs=0.1)  # less what the seeds do to all, as far as is known
    study.give(1, 4, "asked")
    failed = Study(spec, study.url).complete(1, [{"accuracy": 0.7, "delta_f1": None}] * 4)
    assert failed.state is State.FAILED
    assert "delta_f1" in (failed.reason or "")


@pytest.mark.parametrize("written", ["{start: 2, most: 2}", "{most: 1}", "{start: 0}", "{first: 1}"])
def test_a_race_that_cannot_be_is_refused(written: str) -> None:
    with pytest.raises(Exception, match="start: 1, most: 5"):
        loading.parse(f"name: race\nsearch: {{seeds: {written}}}\n")


def test_until_ends_a_search_that_promises_little_and_a_resume_agrees(tmp_path: Path) -> None:
    spec = loading.parse("name: enough\nsearch: {trials: 60, sampler: random, until: 0.5}\n")
    url = f"sqlite:///{tmp_path / 's'}.db"
    Study(spec, url, create=True)
    steps = finish(lambda: Study(spec, url), again_after=lambda step: step > 17)
    assert len(steps) == 20  # before, there are too few to tell
    assert Study(spec, url).over
    surer = loading.changed(spec, {"search.until": 0.000001})
    assert Study(surer, url).propose() is not None


def test_no_fit_is_proposed_that_a_budget_in_time_does_not_let_begin(tmp_path: Path) -> None:
    spec = loading.parse("name: hours\nsearch: {budget: {hours: 1}, seeds: 3, sampler: random}\n")
    study = Study(spec, f"sqlite:///{tmp_path / 's'}.db", create=True)
    assert study.propose(left=2.9) is None  # a trial needs three
    assert study.over
    larger = Study(loading.changed(spec, {"search.budget": {"hours": 2}}), study.url)
    proposal = larger.propose(left=3.0)
    assert proposal is not None
    assert larger.propose(left=0.0) is None
    assert not larger.over  # the one that was begun is to end first
    told(larger, proposal)
    assert larger.propose(left=0.0) is None
    assert larger.over
