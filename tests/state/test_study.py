"""The memory of a sweep: every trial asked once, told once, and never half true."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import optuna
import pytest

from sweeper.errors import UserError
from sweeper.spec import loading
from sweeper.spec.samplers import SAMPLERS
from sweeper.state import database, migrations, samplers
from sweeper.state.opening import study_url
from sweeper.state.study import NoSuchSweep, Study
from sweeper.state.sweep_folder import SweepFolder
from sweeper.trial import State

SPEC = """
name: a-sweep
space: {{method: {method}}}
search: {{sampler: {sampler}, trials: {trials}, seeds: 2, baselines: [{baselines}]}}
"""


def spec(sampler: str = "tpe", method: str = "[lora, fairlora]", trials: int = 12, baselines: str = "", more: str = ""):
    text = SPEC.format(sampler=sampler, method=method, trials=trials, baselines=baselines)
    return loading.parse(text + more)


def study(place: Path | str, asked, create: bool = True) -> Study:
    return Study(asked, place if isinstance(place, str) else f"sqlite:///{place / 'study.db'}", create=create)


def rows(params, seeds: int = 2):
    """A made-up surface: more rank is more accurate, more lambda is fairer."""
    x = math.log10(params.get("lambda", 0.01))
    fit = {"accuracy": 0.9 - 0.02 * x + 0.0001 * params.get("rank", 4), "delta_f1": 0.3 - 0.05 * x}
    return [{k: v + 0.01 * seed for k, v in fit.items()} for seed in range(seeds)]


def play(memory: Study, most: int = 10**6) -> list[dict]:
    """Ask and tell, one trial at a time; the params in order."""
    found = []
    while len(found) < most and (proposal := memory.propose()) is not None:
        memory.complete(proposal.number, rows(proposal.params))
        found.append(dict(proposal.params))
    return found


DRAWING = [name for name, sampler in SAMPLERS.items() if not sampler.grid]  # a grid has no chance in it
REPEATING = [name for name, sampler in SAMPLERS.items() if sampler.repeats]


@pytest.mark.parametrize("sampler", DRAWING)
def test_the_same_seed_proposes_the_same_points(tmp_path: Path, sampler: str) -> None:
    both = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        both.append(play(study(tmp_path / name, spec(sampler, baselines="lora, fft"))))
    assert both[0] == both[1]
    assert len({str(point) for point in both[0]}) > 8, "a search that repeats itself searches nothing"


@pytest.mark.parametrize("sampler", DRAWING)
def test_a_study_opened_again_goes_on_as_if_it_had_never_been_closed(tmp_path: Path, sampler: str) -> None:
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    asked = spec(sampler, baselines="lora")
    whole = play(study(tmp_path / "whole", asked))
    broken = play(study(tmp_path / "broken", asked), most=5)
    broken += play(study(tmp_path / "broken", asked, create=False))
    assert broken == whole


@pytest.mark.parametrize("sampler", DRAWING)
def test_lambda_exists_only_where_the_method_is_fair_and_rank_only_where_it_is_lora(tmp_path: Path, sampler) -> None:
    points = play(study(tmp_path, spec(sampler, method="[lora, fairlora, fft, fairfft]", trials=16)))
    assert len({point["method"] for point in points}) == 4
    for point in points:
        assert ("lambda" in point) == point["method"].startswith("fair")
        assert ("rank" in point) == point["method"].endswith("lora")


@pytest.mark.parametrize("sampler", REPEATING)
def test_what_was_tried_is_not_proposed_again_while_there_is_something_else(tmp_path: Path, sampler: str) -> None:
    text = "name: r\nspace: {method: [lora, fft], rank: [4, 8, 16]}\n"
    points = play(study(tmp_path, loading.parse(text + f"search: {{sampler: {sampler}, trials: 4}}\n")))
    assert sorted(str(p.get("rank", "fft")) for p in points) == ["16", "4", "8", "fft"]


@pytest.mark.parametrize("sampler", REPEATING)
def test_a_method_with_nothing_to_search_is_tried_once(tmp_path: Path, sampler: str) -> None:
    points = play(study(tmp_path, spec(sampler, method="[fairlora, fft]", baselines="fft", trials=12)))
    assert [point["method"] for point in points].count("fft") == 1


def test_baselines_come_first_and_are_marked(url: str) -> None:
    memory = study(url, spec(method="fairlora", baselines="lora, fft", trials=4))
    play(memory)
    trials = memory.trials()
    assert [t.baseline for t in trials] == ["lora", "fft", None, None]
    assert [t.params["method"] for t in trials] == ["lora", "fft", "fairlora", "fairlora"]
    assert "lambda" not in trials[0].params


# --- a baseline with trials of its own

LORA = "name: a\nspace: {{method: {method}, rank: {{low: 4, high: 64, log: true}}, learning_rate: {{}}}}\n"
OWN = LORA + "search: {{sampler: {sampler}, trials: {trials}, seeds: 2, baselines: {baselines}}}\n"


def own(sampler: str, method: str = "fairlora", trials: int = 10, baselines: str = "{fft: 3, lora: 5}"):
    return loading.parse(OWN.format(sampler=sampler, method=method, trials=trials, baselines=baselines))


@pytest.mark.parametrize("sampler", DRAWING)
def test_a_baseline_is_tuned_as_in_a_sweep_of_its_method_alone(tmp_path: Path, sampler: str) -> None:
    """Whatever else the sweep has, and also where its space does not have the method."""
    for name in ("alone", "among"):
        (tmp_path / name).mkdir()
    alone = play(study(tmp_path / "alone", own(sampler, method="lora", trials=5, baselines="[lora]")))
    memory = study(tmp_path / "among", own(sampler, baselines="{lora: 5, fft: 3}"))
    among = play(memory)
    assert among[:5] == alone
    assert len({str(point) for point in alone}) == 5
    assert [point["method"] for point in among] == ["lora"] * 5 + ["fft"] * 3 + ["fairlora"] * 2
    assert [trial.baseline for trial in memory.trials()] == ["lora"] * 5 + ["fft"] * 3 + [None] * 2


@pytest.mark.parametrize(("sampler", "at"), [("tpe", 1), ("random", 7), ("nsga2", 4), ("gp", 4)])
def test_a_sweep_with_tuned_baselines_that_was_closed_goes_on_as_if_it_had_not(
    tmp_path: Path, sampler: str, at: int
) -> None:
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    whole = play(study(tmp_path / "whole", own(sampler)))
    broken = play(study(tmp_path / "broken", own(sampler)), most=at)
    crashed = study(tmp_path / "broken", own(sampler), create=False)
    asked = crashed._study.get_trials()
    crashed._enqueue(at, asked, crashed._spec)  # the process dies here, and once more with the row taken up
    crashed._study.ask()
    again = study(tmp_path / "broken", own(sampler), create=False)
    (open_proposal,) = again.open_proposals()
    again.complete(open_proposal.number, rows(open_proposal.params))
    assert [*broken, dict(open_proposal.params), *play(again)] == whole


def test_what_was_drawn_for_a_baseline_stays_though_more_is_told_before_it_is_taken_up(tmp_path: Path) -> None:
    memory = study(tmp_path, own("tpe", baselines="{lora: 8}"))
    first = [memory.propose() for _ in range(6)]
    memory._enqueue(6, memory._study.get_trials(), memory._spec)  # the process dies here
    kept = memory._study.get_trials()[6].user_attrs["point"]
    again = study(tmp_path, own("tpe", baselines="{lora: 8}"), create=False)
    for proposal in again.open_proposals():
        again.complete(proposal.number, rows(proposal.params))
    assert (again.propose().params, len(first)) == (kept, 6)
    assert again.trials()[6].baseline == "lora"


@pytest.mark.parametrize("sampler", DRAWING)
def test_a_baseline_with_few_points_is_given_each_once(tmp_path: Path, sampler: str) -> None:
    text = "name: f\nspace: {method: fairlora, rank: [4, 8, 16]}\n"
    asked = loading.parse(text + f"search: {{sampler: {sampler}, trials: 8, baselines: {{lora: 3}}}}\n")
    assert sorted(point["rank"] for point in play(study(tmp_path, asked))[:3]) == [4, 8, 16]


def test_the_baseline_of_a_grid_is_its_own_grid(url: str) -> None:
    text = "name: g\nspace: {method: fairlora, lambda: [1, 10], rank: [4, 16]}\n"
    points = play(study(url, loading.parse(text + "search: {sampler: grid, trials: 6, baselines: {lora: 2}}\n")))
    assert [(p["method"], p["rank"], p.get("lambda")) for p in points[:3]] == [
        ("lora", 4, None), ("lora", 16, None), ("fairlora", 4, 1)
    ]  # fmt: skip
    assert len(points) == 6


def test_tuned_baselines_leave_the_search_as_many_trials_by_chance_as_without_them() -> None:
    plain, tuned = own("tpe", baselines="[lora]").search, own("tpe", trials=16, baselines="{lora: 5}").search
    assert samplers.build(tuned, 9, 0, constrained=False)._n_startup_trials == 4 + 4
    assert samplers.build(plain, 9, 0, constrained=False)._n_startup_trials == 4


def test_a_grid_is_walked_once_and_then_ends(url: str) -> None:
    text = "name: g\nspace: {method: [lora, fairlora], lambda: [1, 10], rank: [4, 8]}\n"
    asked = loading.parse(text + "search: {sampler: grid, trials: 7, baselines: [fft]}\n")
    points = play(study(url, asked))
    assert [(p["method"], p.get("lambda"), p.get("rank")) for p in points] == [
        ("fft", None, None),
        ("lora", None, 4),
        ("lora", None, 8),
        ("fairlora", 1, 4),
        ("fairlora", 1, 8),
        ("fairlora", 10, 4),
        ("fairlora", 10, 8),
    ]


def test_objectives_are_means_over_the_seeds_and_the_spread_is_kept(url: str) -> None:
    memory = study(url, spec())
    number = memory.propose().number
    told = memory.complete(number, [{"accuracy": 0.8, "delta_f1": 0.2}, {"accuracy": 0.9, "delta_f1": 0.4}])
    assert told.values == pytest.approx({"accuracy": 0.85, "delta_f1": 0.3})
    assert told.spread == pytest.approx({"accuracy": math.sqrt(0.005), "delta_f1": math.sqrt(0.02)})
    assert (told.state, told.seeds) == (State.COMPLETE, 2)


@pytest.mark.parametrize("bad", [None, math.nan, math.inf])
def test_an_undefined_objective_fails_the_trial_with_its_reason(tmp_path: Path, bad) -> None:
    memory = study(tmp_path, spec())
    good, ill = memory.propose().number, memory.propose().number
    memory.complete(good, [{"accuracy": 0.8, "delta_f1": 0.2}])
    told = memory.complete(ill, [{"accuracy": 0.99, "delta_f1": bad}])
    assert told.state is State.FAILED
    assert told.reason == "undefined: delta_f1 is not a finite number"
    assert memory.front() == [good]


def test_a_failed_trial_is_told_once_and_a_second_telling_changes_nothing(url: str) -> None:
    memory = study(url, spec())
    number = memory.propose().number
    memory.fail(number, "seed 0: diverged: loss is nan")
    again = memory.complete(number, [{"accuracy": 1.0, "delta_f1": 0.0}])
    assert (again.state, again.reason) == (State.FAILED, "seed 0: diverged: loss is nan")


def test_a_trial_without_parameters_after_a_crash_gets_those_it_would_have_had(urls: Callable[[], str]) -> None:
    asked, place = spec(baselines="lora"), urls()
    expected = play(study(urls(), asked), most=7)[-1]
    crashed = study(place, asked)
    play(crashed, most=6)
    crashed._study.ask()  # the process dies here: a row, no parameters
    again = study(place, asked, create=False)
    (found,) = again.open_proposals()
    assert (found.number, dict(found.params)) == (6, expected)
    assert again.open_proposals() == [found]


def test_a_baseline_enqueued_before_a_crash_is_not_enqueued_twice(url: str) -> None:
    asked = spec(baselines="lora, fft", trials=3)
    memory = study(url, asked)
    memory._study.enqueue_trial(samplers.anchors(asked, asked.space.baseline("lora")))  # the process dies here
    play(study(url, asked, create=False))
    assert [t.baseline for t in memory.trials()] == ["lora", "fft", None]


def test_constraints_decide_who_may_be_on_the_front(url: str) -> None:
    memory = study(url, spec(more="constraints: {accuracy: '>= 0.85'}\n"))
    for accuracy, gap in ((0.80, 0.1), (0.86, 0.2), (0.90, 0.3)):
        memory.complete(memory.propose().number, [{"accuracy": accuracy, "delta_f1": gap}])
    assert memory.front() == [1, 2]
    assert [t.feasible for t in memory.trials()] == [False, True, True]


def test_optuna_is_told_the_violations(url: str) -> None:
    memory = study(url, spec(more="constraints: {accuracy: '>= 0.85'}\n"))
    for accuracy in (0.80, 0.90):
        memory.complete(memory.propose().number, [{"accuracy": accuracy, "delta_f1": 0.1}])
    assert [t.number for t in memory._study.best_trials] == [1]


def test_the_front_is_optunas(tmp_path: Path) -> None:
    memory = study(tmp_path, spec("random", trials=40))
    rng = np.random.default_rng(0)
    while (proposal := memory.propose()) is not None:
        accuracy, gap = rng.random(2).round(1)
        memory.complete(proposal.number, [{"accuracy": accuracy, "delta_f1": gap}])
    assert memory.front() == sorted(t.number for t in memory._study.best_trials)


def test_optunas_own_tools_see_the_same_front_with_the_names_of_the_objectives(url: str) -> None:
    asked = spec("random", trials=8, baselines="lora")
    play(study(url, asked))
    seen = optuna.load_study(study_name=asked.name, storage=url)
    assert seen.metric_names == ["accuracy", "delta_f1"]
    assert [sense.name for sense in seen.directions] == ["MAXIMIZE", "MINIMIZE"]
    memory = study(url, asked, create=False)
    assert [t.number for t in seen.best_trials] == memory.front()
    table = seen.trials_dataframe()
    for trial in memory.trials():
        assert dict(table.loc[trial.number, ["values_accuracy", "values_delta_f1"]]) == {
            f"values_{name}": value for name, value in trial.values.items()
        }


def test_nothing_is_written_when_the_guard_forbids(url: str) -> None:
    def forbid() -> None:
        raise UserError("taken over")

    asked = spec()
    number = study(url, asked).propose().number
    late = Study(asked, url, guard=forbid)
    for act in (late.propose, lambda: late.fail(number, "x"), lambda: late.complete(number, rows({}))):
        with pytest.raises(UserError, match="taken over"):
            act()
    assert [t.state for t in late.trials()] == [State.RUNNING]


def test_a_study_of_another_schema_is_refused_with_the_mend(url: str) -> None:
    memory = study(url, spec())
    memory._study.set_user_attr("sweeper", {"schema": 99, "identity": {}})
    with pytest.raises(
        UserError, match=rf"has schema 99; this release reads 1 to {migrations.SCHEMA}\. Use the release"
    ):
        study(url, spec(), create=False)


def test_names_are_unique_in_a_database(url: str) -> None:
    study(url, spec())
    with pytest.raises(UserError, match=r"has a study '.*' already"):
        study(url, spec())
    with pytest.raises(NoSuchSweep, match="no study 'other'"):
        Study(loading.changed(spec(), {"name": "other"}), url)


def test_constraints_are_told_to_optuna_by_a_study_that_was_opened_again_too(url: str) -> None:
    asked = spec(more="constraints: {accuracy: '>= 0.85'}\n")
    number = study(url, asked).propose().number
    again = study(url, asked, create=False)
    again.complete(number, [{"accuracy": 0.80, "delta_f1": 0.1}])
    assert again._study.trials[number].system_attrs["constraints"] == pytest.approx([0.05])


@pytest.mark.parametrize("sampler", ["tpe", "gp", "random"])
def test_a_crash_between_two_parameters_leaves_the_others_what_they_would_have_been(tmp_path: Path, sampler) -> None:
    for name in ("whole", "crashed"):
        (tmp_path / name).mkdir()
    asked = loading.changed(spec(sampler, method="fairlora"), {"space.learning_rate": {"low": 1e-4, "high": 1e-2}})
    expected = play(study(tmp_path / "whole", asked), most=7)[-1]
    crashed = study(tmp_path / "crashed", asked)
    play(crashed, most=6)
    crashed._study.sampler = crashed._sampler(6)
    trial = crashed._study.ask()
    crashed._draw(trial, {}, "lambda", asked.space.dimensions["lambda"])  # the process dies here
    (found,) = study(tmp_path / "crashed", asked, create=False).open_proposals()
    assert dict(found.params) == expected


# --- which sweep it is


def test_two_sweeps_of_one_name_are_told_apart_and_one_sweep_is_always_itself(urls: Callable[[], str]) -> None:
    place = urls()
    one, two = study(place, spec()), study(urls(), spec())
    assert len(one.uuid) == 32
    assert one.uuid != two.uuid
    assert study(place, spec(), create=False).uuid == one.uuid


def test_a_study_from_before_there_were_uuids_keeps_one_too(url: str) -> None:
    first = study(url, spec())
    begun = first._study.user_attrs["sweeper"]
    first._study.set_user_attr("sweeper", {"schema": 1, "identity": begun["identity"]})
    again = study(url, spec(), create=False)
    assert len(again.uuid) == 32
    assert again.uuid == study(url, spec(), create=False).uuid


def test_a_folder_whose_name_has_signs_of_urls_has_its_database_in_it(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path / "50%20 off?" / "a-sweep")
    folder.path.mkdir(parents=True)
    study(study_url(spec(), folder), spec())
    assert [path.name for path in folder.path.iterdir()] == ["study.db"]


@pytest.mark.parametrize(
    "url", ["mysql+nodriver://host/db", "postgresql+nodriver://host/db", "oracle+nodriver://host/db"]
)
def test_a_database_whose_driver_is_not_here_is_one_sentence(url: str) -> None:
    with pytest.raises(UserError, match=r"'db' on host: the database's driver is not installed .*name another\."):
        database.driven(url)
