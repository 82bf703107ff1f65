"""What the record says: the parent's note, the typical seed, intervals, and a record made again from the folder."""

from __future__ import annotations

import math

import pytest

from sweeper import note, views
from sweeper import spec as specs
from sweeper.intervals import wilson
from sweeper.note import Place
from sweeper.trial import State, Trial, typical

SPEC = specs.parse(
    "name: a-sweep\ngroups: cell\nspace: {method: [lora, fairlora], rank: [4, 8]}\n"
    "constraints: {accuracy: '>= 0.5'}\nsearch: {trials: 40, seeds: 2, baselines: [lora]}\n"
)
VAL = {"n": 600, "class": {"0-7": 480, "8-9": 120}, "cell": {"0-7|land": 540, "8-9|water": 60}}


def trial(number: int, accuracy: float, delta_f1: float) -> Trial:
    values = {"accuracy": accuracy, "delta_f1": delta_f1}
    params = {"method": "fairlora", "lambda": 0.5, "rank": 8}
    spread = {"accuracy": 0.01, "delta_f1": math.nan}
    return Trial(
        number, State.COMPLETE, params, values, values, spread, seeds=2, baseline="lora" if number == 0 else None
    )


def told(count: int, recommended: str = "**#1**, by the knee.") -> str:
    trials = [trial(n, 0.8 + n / 1000, 0.2 + n / 1000) for n in range(count)]
    place = Place("7", "parent", {n: f"run{n}" for n in range(count)})
    dataset = {"splits": {"val": VAL}}
    front = list(range(count))
    return note.write(SPEC, trials, front, place, named={"knee": 1}, recommended=recommended, dataset=dataset)


def test_the_note_tells_what_was_asked_where_it_stands_and_which_point_with_links_to_the_runs() -> None:
    text = told(2)
    assert "which `method`, `lambda`, `rank` give most accuracy and least delta_f1, accuracy at least 0.5 on" in text
    assert "2 complete of 40; 2 on the front." in text
    row = "| [1](#/experiments/7/runs/run1?workflowType=machine_learning) | fairlora λ=0.5 r=8 | 0.8010 ± 0.0100 |"
    assert f"{row} 0.2010 | knee |" in text
    assert "fairlora λ=0.5 r=8 (baseline lora)" in text
    assert "](get-artifact?path=front.png&run_uuid=parent)" in text
    assert "**#1**, by the knee." in text


def test_the_note_warns_of_the_smallest_group_with_its_interval() -> None:
    assert "smallest group of the validation split is `8-9|water`, 60 images" in told(2)
    assert "anything from 0.68 to 0.88" in told(2)  # Wilson, 48 of 60


@pytest.mark.parametrize("count", [1, 30, 300])
def test_the_note_stays_below_what_mlflow_cuts_and_says_how_many_it_left_out(count: int) -> None:
    text = told(count)
    assert len(text) < 8000
    assert ("more in `front.csv`" in text) == (count > 25)


def test_a_sweep_without_a_front_has_a_note_too() -> None:
    text = note.write(SPEC, [], [], Place("7", "p"), named={}, recommended="", dataset={})
    assert "nothing yet of 40" in text
    assert "Which one" not in text


def test_the_typical_seed_is_the_one_nearest_to_the_mean_not_the_best() -> None:
    rows = {0: {"accuracy": 0.9, "f1": 0.1}, 3: {"accuracy": 0.6, "f1": 0.1}, 5: {"accuracy": 0.8, "f1": 0.1}}
    assert typical(rows, ["accuracy", "f1"]) == 5  # the mean is .767
    assert typical({2: {"accuracy": 0.5}}, ["accuracy"]) == 2
    assert typical({1: {"accuracy": 0.4}, 0: {"accuracy": 0.6}}, ["accuracy"]) == 1  # a tie: the one given first


def test_objectives_count_in_units_of_their_own_spread() -> None:
    rows = {0: {"a": 0.0, "b": 1000.0}, 1: {"a": 1.0, "b": 0.0}, 2: {"a": 0.5, "b": 400.0}}
    assert typical(rows, ["a", "b"]) == 2


def test_wilsons_interval_is_the_published_one() -> None:
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)  # Newcombe 1998, method 3
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 20)[0] == 0.0
    assert wilson(0, 20)[1] == pytest.approx(0.1611, abs=1e-4)


@pytest.mark.parametrize(("version", "read"), [("3.17.0", True), ("4.0.1", True), ("3.16.9", False), ("dev", False)])
def test_saved_views_are_for_the_releases_that_were_looked_at_and_later(version: str, read: bool) -> None:
    assert views.understood(version) == read
