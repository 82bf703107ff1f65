"""A space that is narrowed while its sweep lives: what is proposed from then on, under every sampler."""

from __future__ import annotations

from pathlib import Path

import pytest

from sweeper.errors import UserError
from sweeper.spec import loading
from sweeper.spec.asking import narrowing
from sweeper.spec.space import Choice, Fixed, Range
from sweeper.state.asking.inbox import Inbox
from sweeper.state.study import Study
from tests.state.test_asking import Dying
from tests.state.test_racing import finish

SPACE = """
  method: [lora, fairlora]
  lambda: {low: 0.01, high: 100, log: true}
  rank: {low: 4, high: 128, log: true}
  dropout: [0.0, 0.1, 0.2]
"""
FIRST = "[{lambda: 0.02, rank: 8}, {lambda: 0.5, rank: 100}, {lambda: 50, rank: 16}, {method: lora, rank: 20}]"
NARROWER = {"lambda": {"low": 0.1, "high": 10}, "rank": [8, 16, 32], "dropout": [0.1]}


def sweep(sampler: str, root: Path, kind: type[Inbox] = Inbox, *, more: str = "", trials: int = 9):
    spec = loading.parse(
        f"name: narrow\nspace: {SPACE}\nsearch: {{sampler: {sampler}, trials: {trials}, points: {FIRST}, "
        f"baselines: [lora]{more}}}\n"
    )
    url = f"sqlite:///{root / 'study.db'}"
    Inbox(root).put({"kind": "narrow", "axes": NARROWER})
    Study(spec, url, create=True)
    return lambda: Study(spec, url, inbox=kind(root))


@pytest.mark.parametrize(
    ("sampler", "more"),
    [("tpe", ""), ("gp", ""), ("nsga2", ", population: 3"), ("random", ""), ("tpe", ", seeds: {start: 1, most: 2}")],
)
def test_every_proposal_after_it_is_inside_and_a_killed_sweep_agrees(sampler: str, more: str, tmp_path: Path) -> None:
    unbroken, broken = sweep(sampler, tmp_path / "unbroken", more=more), sweep(sampler, tmp_path / "broken", more=more)
    steps = finish(unbroken, again_after=lambda step: False)
    trials = unbroken().trials()
    if sampler == "gp" or more:  # the others learn from the same rows
        assert finish(broken, again_after=lambda step: step > 4) == steps
        assert [trial.params for trial in broken().trials()] == [trial.params for trial in trials]
    assert [trial.params["rank"] for trial in trials[1:5]] == [8, 100, 16, 20]  # what was tried stays
    assert len(trials) == 9
    for trial in trials[5:]:
        assert 0.1 <= trial.params.get("lambda", 1) <= 10
        assert trial.params["rank"] in (8, 16, 32)
        assert trial.params["dropout"] == 0.1
    [told] = unbroken().narrowings
    assert told.start == 5
    assert told.held == {"lambda": "0.01 to 100", "rank": "4 to 128", "dropout": "0.0, 0.1, 0.2"}


def test_a_death_between_noting_it_and_deleting_its_file_notes_it_once(tmp_path: Path) -> None:
    Dying.died = False
    opened = sweep("random", tmp_path, Dying)
    with pytest.raises(KeyboardInterrupt):
        finish(opened, again_after=lambda step: False)
    finish(opened, again_after=lambda step: False)
    assert len(opened().narrowings) == 1
    assert Inbox(tmp_path).waiting() == []


def test_a_space_of_points_that_were_all_tried_ends_the_search_and_a_wider_one_goes_on(tmp_path: Path) -> None:
    opened = sweep("random", tmp_path, trials=30)
    inbox = Inbox(tmp_path)
    inbox.put({"kind": "narrow", "axes": {"method": ["lora"]}})
    finish(opened, again_after=lambda step: False)
    assert opened().over
    assert sorted(trial.params["rank"] for trial in opened().trials()[5:]) == [8, 16, 32]
    inbox.put({"kind": "narrow", "axes": {"rank": {"low": 4, "high": 6}}})
    inbox.put({"kind": "narrow", "axes": {"rank": [5, 6]}})
    finish(opened, again_after=lambda step: False)
    assert sorted(trial.params["rank"] for trial in opened().trials()[8:]) == [5, 6]
    assert [each.start for each in opened().narrowings] == [5, 5, 8, 8]


def test_a_grid_goes_through_what_is_left_of_it(tmp_path: Path) -> None:
    space = "{method: fairlora, lambda: [0.1, 1, 10], rank: [4, 8, 16]}"
    spec = loading.parse(f"name: a\nspace: {space}\nsearch: {{sampler: grid, trials: 9}}\n")
    url = f"sqlite:///{tmp_path / 'study.db'}"
    Study(spec, url, create=True)
    inbox = Inbox(tmp_path)
    study = Study(spec, url, inbox=inbox)
    for _ in range(2):
        study.complete(study.propose().number, [{"accuracy": 0.5, "delta_f1": 0.1}])
    inbox.put({"kind": "narrow", "axes": {"lambda": {"low": 0.5, "high": 20}, "rank": [8]}})
    finish(lambda: Study(spec, url, inbox=inbox), again_after=lambda step: False)
    tried = [(trial.params["lambda"], trial.params["rank"]) for trial in Study(spec, url).trials()]
    assert tried == [(0.1, 4), (0.1, 8), (1, 8), (10, 8)]
    assert Study(spec, url).over


@pytest.mark.parametrize(
    ("word", "axis"),
    [
        ("lambda=0.1..10", Range(0.1, 10.0, log=True)),
        ("rank=8..32", Range(8, 32, log=True, integer=True)),
        ("rank=8,16,32", Choice((8, 16, 32))),
        ("rank=8", Fixed(8)),
        ("dropout=0.05..0.3", Choice((0.1, 0.2))),
        ("method=lora", Fixed("lora")),
    ],
)
def test_a_range_as_it_is_typed(word: str, axis: object) -> None:
    space = loading.parse(f"name: a\nspace: {SPACE}").space
    assert narrowing.narrowed(space, space, narrowing.typed([word])).axes[word.partition("=")[0]] == axis


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["lambda=0.001..10"],
            r"lambda was to be 0\.001 to 10, which is not inside 0\.01 to 100, what the sweep began",
        ),
        (["rank=8,999"], r"rank was to be 999, which is not inside 4 to 128"),
        (["method=fft"], r"method was to be fft, which is not inside lora, fairlora"),
        (["lambda=10..1"], r"lambda has low 10 above high 1\. Exchange them"),
        (["method=a..b"], r"'a'"),
        (["method=fairlora..lora"], r"method has no order\. Use values: lora, fairlora"),
        (["dropout=0.3..0.4"], r"dropout would have no value left of 0\.0, 0\.1, 0\.2"),
        (["epochs=2"], r"epochs is .*, and fixed"),
        (["lamda=1..2"], r"lamda is unknown\. Did you mean 'lambda'"),
        (["lambda"], r"'lambda' is no range\. Write lambda=0\.1\.\.10"),
        (["lambda=1.."], r"is no range"),
        (["rank=8", "rank=9"], r"rank is given twice"),
    ],
)
def test_what_is_no_narrower_range_is_refused_in_a_sentence(words: list[str], said: str) -> None:
    space = loading.parse(f"name: a\nspace: {SPACE}").space
    with pytest.raises(UserError, match=said):
        narrowing.narrowed(space, space, narrowing.typed(words))


def test_one_method_s_own_range_is_named_with_it() -> None:
    space = loading.parse("name: a\nspace: {method: [lora, fft], epochs: {lora: [2, 4], fft: [1, 2]}}").space
    with pytest.raises(UserError, match=r"Say which: epochs\[lora\]=\.\.\., epochs\[fft\]=\.\.\."):
        narrowing.narrowed(space, space, {"epochs": 2})
    now = narrowing.narrowed(space, space, narrowing.typed(["epochs[lora]=4"]))
    assert (now.axes["epochs[lora]"], now.axes["epochs[fft]"]) == (Fixed(4), Choice((1, 2)))
