"""A sweep that learns from another one at its beginning, and from nothing but what it had then."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeper.engine import driver
from sweeper.errors import UserError
from sweeper.results import provenance
from sweeper.results.results import Results
from sweeper.spec import loading
from sweeper.spec.faults import Faults
from sweeper.spec.model import SweepSpec
from sweeper.state.asking.next_point import Warm
from sweeper.state.study import Study
from sweeper.state.sweep_folder import SweepFolder
from tests.faults import tiny
from tests.state.test_racing import finish


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.make_tiny(monkeypatch.setattr, record=tiny.Mute)


def second(root: Path, trials: int = 8, **changes: Any) -> SweepSpec:
    spec = loading.changed(tiny.spec(root, trials=trials), {"name": "second", "search.warm_start": [tiny.NAME]})
    return loading.changed(spec, changes) if changes else spec


def run(spec: SweepSpec) -> Results:
    assert driver.run(spec, tiny.Silent(), executor=tiny.in_process).exit_code == 0
    return Results.open(SweepFolder(Path(spec.storage.root) / spec.name))


def params(results: Results) -> list[Any]:
    return [(dict(trial.params), trial.asked) for trial in results.trials]


def test_trials_of_the_same_question_are_told_and_the_other_sweep_may_go(tmp_path: Path) -> None:
    tiny.begin(tmp_path, trials=12)
    whole = run(second(tmp_path))
    [note] = whole.to_json()["changes"]
    assert note == (
        "warm start: 11 trials of 'tiny' are told to the sampler (same data, backbone and training); outside "
        "this space: 1."
    )
    assert all(trial.asked is None for trial in whole.trials)
    alone = run(loading.changed(second(tmp_path), {"name": "alone", "search.warm_start": []}))
    assert params(alone) != params(whole)
    cut = second(tmp_path, trials=3, name="cut")
    run(cut)
    shutil.rmtree(tmp_path / tiny.NAME)
    resumed = driver.resume(SweepFolder(tmp_path / "cut"), tiny.Silent(), trials=8, executor=tiny.in_process)
    assert params(resumed.results) == params(whole)
    with pytest.raises(UserError, match="there is no sweep 'tiny'"):
        run(second(tmp_path, name="late"))
    assert not (tmp_path / "late").exists()


def test_of_other_data_only_points_of_the_front_are_tried_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.begin(tmp_path, trials=6)
    first = Results.open(SweepFolder(tmp_path / tiny.NAME))
    other = tiny.DATA | {"data_digest": "other"}
    monkeypatch.setattr(provenance, "describe", lambda *what: {"dataset": other, "notes": [], "commit": None})
    results = run(second(tmp_path))
    [note] = results.to_json()["changes"]
    assert "data_digest: tiny there, here other" in note
    tried = [trial for trial in results.trials if trial.asked]
    assert {trial.asked for trial in tried} == {"on the front of 'tiny'"}
    assert [trial.number for trial in tried] == list(range(1, 1 + len(tried)))
    assert 1 <= len(tried) <= 2
    of_front = [member.params.get("rank") for member in first.members]
    assert all(trial.params["rank"] in of_front for trial in tried)


def test_what_cannot_be_learned_from_is_refused_in_a_sentence(tmp_path: Path) -> None:
    tiny.begin(tmp_path)
    elsewhere = {"space": {"method": "fft", "learning_rate": {"low": 1.0, "high": 2.0}, "epochs": 2}, "groups": "cell"}
    with pytest.raises(
        UserError, match=r"the front of 'tiny' has no value that this space searches.*groups: class there"
    ):
        run(second(tmp_path, **{"search.baselines": []} | elsewhere))
    with pytest.raises(Faults, match=r"sampler random learns from nothing\. Use tpe, gp or nsga2"):
        second(tmp_path, **{"search.sampler": "random"})
    with pytest.raises(Faults, match=r"warm_start\[0\] is 'second', this very sweep"):
        second(tmp_path, **{"search.warm_start": ["second"]})
    with pytest.raises(Faults, match="Use a list of names of sweeps"):
        second(tmp_path, **{"search.warm_start": ["../elsewhere"]})


@pytest.mark.parametrize("more", ["sampler: gp", "sampler: nsga2, population: 3", "seeds: {start: 1, most: 2}"])
def test_a_warm_sweep_that_is_killed_has_the_same_fits(more: str, tmp_path: Path) -> None:
    space = "{method: fairlora, lambda: {low: 0.01, high: 100, log: true}, rank: {low: 4, high: 128, log: true}}"
    spec = loading.parse(f"name: warm\nspace: {space}\nsearch: {{trials: 4, baselines: [lora], {more}}}\n")
    points = [spec.space.baseline("fairlora") | {"lambda": 10.0**k, "rank": 8 + k} for k in (-2, -1, 0, 1, 2)]
    told = [{"sweep": "a", "number": n, "params": p, "values": [0.8 - n / 50, 0.3 - n / 20], "feasible": True}
            for n, p in enumerate(points)]  # fmt: skip
    given = [{"point": {"rank": 99}, "why": "on the front of 'b'"}]

    def opener(name: str) -> Callable[[], Study]:
        url = f"sqlite:///{tmp_path / name}.db"
        Study(spec, url, create=True, warm=Warm(told, given, ["some"]))
        return lambda: Study(spec, url)

    unbroken, broken = opener("unbroken"), opener("broken")
    steps = finish(unbroken, again_after=lambda step: False)
    assert finish(broken, again_after=lambda step: step > 1) == steps
    trials = unbroken().trials()
    assert [trial.params for trial in broken().trials()] == [trial.params for trial in trials]
    assert (trials[1].params["rank"], trials[1].asked) == (99, "on the front of 'b'")
