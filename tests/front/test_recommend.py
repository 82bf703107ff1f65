"""Choosing from a front: rules one can follow with a finger, and shares that one can work out."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweeper.cli import main
from sweeper.errors import UserError
from sweeper.front import recommend
from sweeper.trial import State, Trial
from tests import finished
from trainables.metrics import METRICS

SENSES = {"accuracy": "max", "delta_f1": "min"}


def trial(number: int, accuracy: float, delta_f1: float, **over: Any) -> Trial:
    values = {"accuracy": accuracy, "delta_f1": delta_f1}
    given = {"params": {"method": "fairlora", "lambda": 0.5, "rank": 8}, "values": values, "metrics": values} | over
    return Trial(number=number, state=State.COMPLETE, **given)


# A staircase: 3 is the most accurate, 9 the fairest; between them 5 has most of both.
STAIRS = [trial(3, 0.90, 0.40), trial(5, 0.88, 0.20), trial(9, 0.70, 0.15), trial(1, 0.60, 0.50)]
FRONT = [3, 5, 9]


def test_the_knee_is_recommended_unless_told_otherwise_and_says_what_it_gives_up() -> None:
    found = recommend.recommend(STAIRS, FRONT, SENSES)
    assert found is not None
    assert found.number == 5
    assert "Against the best accuracy (#3) it gives up 0.020; delta_f1 is better by 0.200." in found.why
    assert "Against the best delta_f1 (#9) it gives up 0.050; accuracy is better by 0.180." in found.why


@pytest.mark.parametrize(
    ("bounds", "number"),
    [
        ({"accuracy": 0.88}, 5),  # 0.88 itself will do
        ({"accuracy": 0.89}, 3),
        ({"accuracy": 0.5}, 9),  # accurate enough all of them: the least delta F1
        ({"delta_f1": 0.30}, 5),
        ({"accuracy": 0.6, "delta_f1": 0.2}, 5),  # both bounded: the first objective decides
    ],
)
def test_within_bounds_the_best_of_the_other_objective_is_taken(bounds: dict[str, float], number: int) -> None:
    found = recommend.recommend(STAIRS, FRONT, SENSES, by=recommend.rule(SENSES, bounds))
    assert found is not None
    assert found.number == number


def test_a_bound_that_rounding_hides_is_kept() -> None:
    just_below = [trial(0, math.nextafter(0.82, 0), 0.3)]  # 0.8199999999999998
    found = recommend.recommend(just_below, [0], SENSES, by=recommend.rule(SENSES, {"accuracy": 0.82}))
    assert found is not None
    assert found.number == 0


def test_a_rule_is_said_in_words() -> None:
    assert recommend.rule(SENSES, {"accuracy": 0.82}).text == "accuracy at least 0.82, then least delta_f1"
    assert recommend.rule(SENSES, {"delta_f1": 0.1}).text == "delta_f1 at most 0.1, then most accuracy"


def test_a_bound_that_nobody_keeps_says_what_the_front_reaches() -> None:
    with pytest.raises(UserError, match=r"no member of the front has accuracy at least 0.95.*reaches accuracy 0.9, "):
        recommend.recommend(STAIRS, FRONT, SENSES, by=recommend.rule(SENSES, {"accuracy": 0.95}))


def test_a_bound_on_what_is_no_objective_names_those_there_are() -> None:
    with pytest.raises(UserError, match=r"the bound on 'acuracy' is unknown. Did you mean 'accuracy'"):
        recommend.rule(SENSES, {"acuracy": 0.9})


def test_the_points_with_names() -> None:
    assert recommend.named(STAIRS, FRONT, SENSES) == {"knee": 5, "most-accurate": 3, "fairest": 9}
    assert recommend.named(STAIRS, FRONT, {"delta_f1": "min", "accuracy": "max"})["most-accurate"] == 3
    assert recommend.named([], [], SENSES) == {}
    assert recommend.recommend([], [], SENSES) is None


@pytest.mark.parametrize(
    ("objectives", "names"),
    [
        (("accuracy", "ece"), {"knee", "most-accurate", "best-calibrated"}),  # ece says nothing of groups
        (("accuracy", "worst_group_ece"), {"knee", "most-accurate", "fairest"}),
        (("loss", "delta_f1"), {"knee", "fairest"}),  # the least loss need not be the most accurate
        (("adjusted_accuracy", "median_f1", "eod"), {"knee", "most-accurate", "fairest"}),
    ],
)
def test_a_point_is_called_by_what_it_is_best_in(objectives: tuple[str, ...], names: set[str]) -> None:
    assert recommend.rules({name: METRICS[name].direction for name in objectives}).keys() == names


def test_the_best_calibrated_has_the_least_ece() -> None:
    values = [{"accuracy": 0.9, "ece": 0.3}, {"accuracy": 0.8, "ece": 0.1}]
    pair = [replace(trial(number, 0, 0), values=own) for number, own in enumerate(values)]
    found = recommend.named(pair, [0, 1], {"accuracy": "max", "ece": "min"})
    assert (found["most-accurate"], found["best-calibrated"]) == (0, 1)


def test_of_two_equally_accurate_the_fairer_is_most_accurate() -> None:
    tied = [trial(0, 0.9, 0.4), trial(1, 0.9, 0.3)]
    assert recommend.named(tied, [0, 1], SENSES)["most-accurate"] == 1


def test_each_method_has_its_knee_and_its_most_accurate_point() -> None:
    """fairlora: 1 is the knee of 0, 1, 2, and 0 the most accurate; lora has one trial, which all others beat."""
    trials = [
        trial(0, 0.9, 0.5),
        trial(1, 0.88, 0.1),
        trial(2, 0.5, 0.05),
        trial(3, 0.4, 0.9, params={"method": "lora"}),
    ]
    assert recommend.per_method(trials, *recommend.method_rule("knee", SENSES)) == {"lora": 3, "fairlora": 1}
    assert recommend.per_method(trials, *recommend.method_rule("accuracy", SENSES)) == {"lora": 3, "fairlora": 0}
    assert recommend.measured_per_method(trials, SENSES) == {0, 1, 3}


def test_the_papers_rule_looks_at_accuracy_though_it_is_no_objective() -> None:
    trials = [trial(0, 0.9, 0.5, values={"delta_f1": 0.5}), trial(1, 0.8, 0.1, values={"delta_f1": 0.1})]
    assert recommend.per_method(trials, *recommend.method_rule("accuracy", {"delta_f1": "min"})) == {"fairlora": 0}


def test_one_member_is_its_own_reason() -> None:
    found = recommend.recommend(STAIRS[:1], [3], SENSES)
    assert found is not None
    assert found.why == "It is the only member of the front."
    assert "cannot be said" in str(found)


# --- the command


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("sweeps")
    finished.sweep(made / "birds")
    return made


def test_the_front_is_printed_with_the_point_to_take_and_its_test_numbers_apart(root: Path, capsys) -> None:
    assert main.main(["pareto", "birds", "--root", str(root)]) == 0
    told = capsys.readouterr().out
    assert "Recommended: #2 " in told
    assert "With the noise of the 2 seeds and the 40 validation examples it is on the true front" in told
    assert "The best of many looks better than it is. Taken from 6 trials by the knee, it " in told
    assert "On the test split, seen only after the choice: accuracy " in told


def test_a_bound_moves_the_recommendation(root: Path, capsys) -> None:
    assert main.main(["pareto", "birds", "--root", str(root), "--json"]) == 0
    knee = json.loads(capsys.readouterr().out)["recommended"]
    assert main.main(["pareto", "birds", "--root", str(root), "--json", "--at-least", "accuracy=0.9"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["recommended"]["number"] != knee["number"]
    assert told["recommended"]["values"]["accuracy"] >= 0.9
    assert set(told["held_out"]) >= {str(row["number"]) for row in told["front"]}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--at-least", "delta_f1=0.3"], "of delta_f1, lower is better. Use --at-most."),
        (["--at-most", "accuracy=0.3"], "of accuracy, higher is better. Use --at-least."),
        (["--at-least", "accuracy"], "such as accuracy=0.82"),
        (["--at-least", "accuracy=0.999"], "The front reaches accuracy"),
        (["--at-most", "eod=0.1"], "'eod' is unknown"),
    ],
)
def test_a_bound_that_makes_no_sense_is_told_with_its_mend(root: Path, capsys, words: list[str], said: str) -> None:
    assert main.main(["pareto", "birds", "--root", str(root), *words]) == 2
    assert said in capsys.readouterr().err
