"""Points that somebody asks for: they come first, under every sampler, and whatever kills the sweep."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sweeper.spec import loading
from sweeper.spec.faults import Faults
from sweeper.spec.model import SweepSpec
from sweeper.spec.samplers import SAMPLERS
from sweeper.state.asking.inbox import Inbox, Request
from sweeper.state.study import Study
from tests.state.test_racing import finish

WIDE = "{method: [lora, fairlora], lambda: {low: 0.01, high: 100, log: true}, rank: {low: 4, high: 128, log: true}}"
GRID = "{method: [lora, fairlora], lambda: [0.1, 1, 10], rank: [4, 16], learning_rate: 0.002}"
POINTS = "baselines: [lora], points: [{lambda: 1}, {method: lora, rank: 16}]"
RACE = ", seeds: {start: 1, most: 3}, budget: {fits: 7}"
DRAWN = [name for name in SAMPLERS if name != "auto"]


def asking(sampler: str, more: str = "", name: str = "asking", trials: int = 9) -> SweepSpec:
    space = GRID if sampler == "grid" else WIDE
    return loading.parse(
        f"name: {name}\nspace: {space}\nsearch: {{sampler: {sampler}, trials: {trials}, {POINTS}{more}}}\n"
    )


def opener(spec: SweepSpec, file: Path) -> Callable[[], Study]:
    url = f"sqlite:///{file}.db"
    Study(spec, url, create=True)
    return lambda: Study(spec, url)


@pytest.mark.parametrize("sampler", DRAWN)
def test_points_come_after_the_baselines_and_a_killed_sweep_has_the_same_fits(sampler: str, tmp_path: Path) -> None:
    spec = (
        asking(sampler, trials=9) if sampler == "grid" else asking(sampler, RACE if sampler == "tpe" else "", trials=5)
    )
    unbroken, broken = opener(spec, tmp_path / "unbroken"), opener(spec, tmp_path / "broken")
    steps = finish(unbroken, again_after=lambda step: False)
    trials = unbroken().trials()
    if sampler in ("tpe", "gp", "grid"):  # the others learn from the same rows
        assert finish(broken, again_after=lambda step: step < 4) == steps
        assert [(t.params, t.asked) for t in broken().trials()] == [(t.params, t.asked) for t in trials]
    assert trials[0].baseline == "lora"
    assert trials[1].params["lambda"] == 1
    assert trials[2].params["rank"] == 16
    assert [t.params["method"] for t in trials[:3]] == ["lora", "fairlora", "lora"]
    assert [t.asked for t in trials] == [None, *["asked for in search.points"] * 2, *[None] * (len(trials) - 3)]
    assert all(spec.space.contains(trial.params) for trial in trials[1:])


def test_a_grid_with_points_tries_each_of_its_points_once(tmp_path: Path) -> None:
    study = opener(asking("grid"), tmp_path / "s")
    finish(study, again_after=lambda step: False)
    tried = [trial.params for trial in study().trials()[1:]]
    assert sorted(map(str, tried)) == sorted(map(str, asking("grid").space.grid()))


def test_points_without_an_end_come_before_a_search_ends_by_itself(tmp_path: Path) -> None:
    points = ", ".join(f"{{lambda: 1, rank: {rank}}}" for rank in range(4, 30))
    spec = loading.parse(
        f"name: a\nspace: {WIDE}\nsearch: {{trials: 60, sampler: random, until: 0.9, points: [{points}]}}"
    )
    steps = finish(opener(spec, tmp_path / "s"), again_after=lambda step: False)
    assert len(steps) == 26


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("[{lamda: 1}]", r"search\.points\[0\]\.lamda is unknown\. Did you mean 'lambda'"),
        ("[{lambda: 1000}]", r"points\[0\]\.lambda is 1000, outside 0\.01 to 100\. Use that, or widen space"),
        ("[{method: lora, lambda: 1}]", r"search\.points\[0\]: none of lora has all of lambda"),
        ("[{method: fft}]", r"search\.points\[0\]\.method is 'fft', which is none of lora, fairlora"),
        ("[{rank: x}]", r"search\.points\[0\]\.rank is 'x'. Use a whole number"),
        ("[{}]", r"search\.points\[0\] is empty"),
        ("[{rank: 8}, {rank: 8}]", r"search\.points\[1\] is search\.points\[0\] again"),
        ("3", r"search\.points is 3\. Use a list of points"),
        ("[{rank: 8}, {rank: 9}, {rank: 10}]", "Use trials: 4, or more"),
    ],
)  # fmt: skip
def test_a_point_that_cannot_be_is_refused_with_its_line_and_mend(written: str, said: str) -> None:
    with pytest.raises(Faults, match=said) as refused:
        loading.parse(f"name: a\nspace: {WIDE}\nsearch:\n  trials: 3\n  baselines: [lora]\n  points: {written}\n")
    assert "sweep.yaml:" in str(refused.value)


def test_a_point_that_is_none_of_the_grid_is_refused() -> None:
    points = "[{lambda: 10}, {lambda: 10}, {lambda: 10, rank: 4}]"
    with pytest.raises(Faults, match="is no point of the grid, or one that is listed before"):
        loading.parse(f"name: a\nspace: {GRID}\nsearch: {{sampler: grid, trials: 9, points: {points}}}")


class Dying(Inbox):
    """Its reader dies when a request is in the study and its file is not deleted yet, the first time."""

    died = False

    def drop(self, request: Request) -> None:
        if not self.died:
            type(self).died = True
            raise KeyboardInterrupt
        super().drop(request)


def asked_twice(folder: Path) -> Inbox:
    inbox = Inbox(folder)
    inbox.put({"kind": "try", "point": {"lambda": 3.0, "rank": 7}, "seeds": 3})
    inbox.put({"kind": "try", "point": {"method": "lora"}, "seeds": None})
    return inbox


@pytest.mark.parametrize("race", ["", RACE])
def test_what_is_asked_for_by_hand_is_tried_once_beside_the_budget(race: str, tmp_path: Path) -> None:
    spec = asking("random", race, trials=5)
    Dying.died = False

    def opened(name: str, kind: type[Inbox]) -> Callable[[], Study]:
        asked_twice(tmp_path / name)
        url = f"sqlite:///{tmp_path / name / 'study.db'}"
        Study(spec, url, create=True)
        return lambda: Study(spec, url, inbox=kind(tmp_path / name))

    unbroken = opened("unbroken", Inbox)
    steps = finish(unbroken, again_after=lambda step: False)
    assert finish(opened("broken", Inbox), again_after=lambda step: 1 < step < 5) == steps
    dying = opened("dying", Dying)
    with pytest.raises(KeyboardInterrupt):
        finish(dying, again_after=lambda step: False)
    rest = finish(dying, again_after=lambda step: False)
    assert rest == steps[-len(rest) :]
    for name, study in (("unbroken", unbroken()), ("dying", dying())):
        trials = study.trials()
        assert [t.number for t in trials if t.by_hand] == [3, 4]
        assert race or len(trials) == 7
        assert (trials[3].params["lambda"], trials[3].params["rank"], trials[3].seed_list) == (3.0, 7, (0, 1, 2))
        assert (trials[4].params["method"], trials[4].asked) == ("lora", "asked for by hand")
        assert Inbox(tmp_path / name).waiting() == []
        assert study.propose() is None


def test_a_request_is_there_until_its_trial_is_proposed(tmp_path: Path) -> None:
    """Who reads the study sees no trial before, and would take a finished sweep for finished."""
    spec, url, inbox = asking("random", trials=4), f"sqlite:///{tmp_path / 'study.db'}", Inbox(tmp_path)
    Study(spec, url, create=True)
    finish(lambda: Study(spec, url), again_after=lambda step: False)
    inbox.put({"kind": "try", "point": {"lambda": 3.0, "rank": 7}, "seeds": None})
    study = Study(spec, url, inbox=inbox)
    study._fill = dies  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        study.propose()
    assert (len(Study(spec, url).trials()), len(inbox.waiting())) == (4, 1)
    [proposal] = Study(spec, url, inbox=inbox).open_proposals()
    assert (proposal.number, proposal.params["rank"], inbox.waiting()) == (4, 7, [])


def dies(*what: object) -> None:
    raise KeyboardInterrupt


def test_a_search_that_has_ended_takes_up_what_is_asked_for_and_ends_again(tmp_path: Path) -> None:
    spec, url = asking("random", RACE, trials=4), f"sqlite:///{tmp_path / 'study.db'}"
    Study(spec, url, create=True)
    finish(lambda: Study(spec, url), again_after=lambda step: False)
    assert Study(spec, url).over
    inbox = Inbox(tmp_path)
    inbox.put({"kind": "try", "point": {"lambda": 3.0, "rank": 7}, "seeds": None})
    finish(lambda: Study(spec, url, inbox=inbox), again_after=lambda step: False)
    again = Study(spec, url)
    assert again.trials()[4].by_hand
    assert again.over


def test_what_is_no_request_is_passed_over_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spec, url = asking("random", trials=4), f"sqlite:///{tmp_path / 'study.db'}"
    inbox = Inbox(tmp_path)
    inbox.put({"kind": "try", "point": {"lambda": 1e9}, "seeds": None})
    inbox.put({"kind": "try", "point": {"rank": 8}, "seeds": 1_000_000})
    inbox.put({"kind": "wipe"})
    (tmp_path / "asked" / "stranger.json").write_text("{}")
    (tmp_path / "asked" / f"{1:020d}-{'a' * 32}.json").write_text("{}")
    Study(spec, url, create=True)
    finish(lambda: Study(spec, url, inbox=inbox), again_after=lambda step: False)
    assert len(Study(spec, url).trials()) == 4
    assert inbox.waiting() == []
    for word in ("lambda", "1000000 seeds", "damaged"):
        assert word in caplog.text
