"""A race through the real driver, queue, folders and record; and a trial that is given more seeds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sweeper.engine import driver
from sweeper.errors import UserError
from sweeper.results import summary
from sweeper.results.results import Results
from sweeper.spec import loading
from sweeper.state.sweep_folder import SweepFolder
from tests.faults import tiny


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.make_tiny(monkeypatch.setattr, record=tiny.Mute)


def test_a_race_ends_with_its_budget_and_trains_nothing_again(tmp_path: Path) -> None:
    spec = loading.changed(tiny.spec(tmp_path, trials=6), {"search.seeds": {"start": 1, "most": 3}})
    spec = loading.changed(spec, {"search.budget": {"fits": 11}})
    outcome = driver.run(spec, tiny.Silent(), executor=tiny.in_process)
    assert outcome.exit_code == 0
    results = Results.open(SweepFolder(tmp_path / tiny.NAME))
    assert results.state == "finished"
    assert sum(trial.seeds for trial in results.trials) == len(results.fits) == 11
    assert {trial.seeds for trial in results.trials} > {1}
    assert all((results.folder.held_out(n, s)).exists() for n in results.front for s in results.by_number[n].seed_list)
    again = driver.resume(results.folder, tiny.Silent(), executor=tiny.in_process)
    assert again.exit_code == 0
    assert len(again.results.fits) == 11


def test_a_budget_in_hours_ends_a_sweep_and_more_hours_open_it_again(tmp_path: Path) -> None:
    spec = loading.changed(tiny.spec(tmp_path, trials=500), {"search.budget": {"hours": 2 / 3600}})
    assert driver.run(spec, tiny.Silent(), executor=tiny.in_process).exit_code == 0
    folder = SweepFolder(tmp_path / tiny.NAME)
    results = Results.open(folder)
    assert results.state == "finished"
    begun = len(results.trials)
    assert 1 <= begun < 500
    assert f": finished, {begun} trials, " in summary.headline(results)
    assert f": paused, {begun}/500 trials, " in summary.headline(replace(results, over=False, spec=spec))
    unbounded = loading.changed(spec, {"search.trials": 1000})
    assert summary.of_trials(replace(results, over=False, spec=unbounded)) == ""
    assert all(trial.settled for trial in results.trials)
    assert folder.spent()["hours"] > 1.5 / 3600
    assert len(driver.resume(folder, tiny.Silent(), executor=tiny.in_process).results.trials) == begun
    longer = loading.changed(spec, {"search.budget": {"hours": 4 / 3600}})
    driver.resume(folder, tiny.Silent(), wanted=longer, executor=tiny.in_process)
    again = Results.open(folder)
    assert again.state == "finished"
    assert len(again.trials) > begun


def test_a_trial_of_a_finished_sweep_is_given_more_seeds(tmp_path: Path) -> None:
    assert driver.run(tiny.spec(tmp_path), tiny.Silent(), executor=tiny.in_process).exit_code == 0
    folder = SweepFolder(tmp_path / tiny.NAME)
    with pytest.raises(UserError, match="has 2\\. Use 3 or more"):
        driver.resume(folder, tiny.Silent(), more=("1", 2), executor=tiny.in_process)
    done = driver.resume(folder, tiny.Silent(), more=("1", 4), executor=tiny.in_process)
    assert done.exit_code == 0
    results = Results.open(folder)
    assert [trial.seeds for trial in results.trials] == [2, 4, 2]
    assert results.by_number[1].seed_list == (0, 1, 2, 3)
    assert results.finished
    assert len(results.trial_fits()) == 3
    assert results.recommendation() is not None
