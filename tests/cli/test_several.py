"""Several attributes and groups that overlap, from a table to a front: check, init, validate, sweep."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sweeper.cli import main
from sweeper.engine import attempt, driver, planning
from sweeper.record import pictures
from sweeper.results.results import Results
from sweeper.spec import loading
from sweeper.spec.faults import Faults
from sweeper.state.sweep_folder import SweepFolder
from tests.cli.test_first_spec import plan
from tests.data.trees import picture, table
from tests.faults import tiny
from trainables.data.base import SPLITS

HEADER = ("image", "label", "gender", "race", "black", "women", "split")
DATA = "data: {name: csv, root: %s, columns: {attribute: [gender, race], groups: [black, women]}}\n"


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """96 images, twice as many to train on; no woman of race B is in test."""
    rows: list[tuple[object, ...]] = []
    for i in range(96):
        split, j = (*SPLITS, "train")[i % 4], i // 4
        gender, race = "mw"[j // 2 % 2], "AB"[j // 4 % 2]
        if split == "test" and gender == "w":
            race = "A"
        rows.append((f"{i}.png", "ab"[j % 2], gender, race, int(j % 5 < 2), int(j % 3 == 0), split))
        picture(tmp_path / f"{i}.png")
    return table(tmp_path / "faces.csv", HEADER, rows)


def spec(faces: Path, text: str) -> str:
    return f"name: x\n{DATA % faces}{text}"


def test_data_check_shows_each_attribute_the_cells_and_the_groups_and_what_is_doubtful(faces: Path, capsys) -> None:
    assert main.main(["data", "check", str(faces), "--columns", "attribute=gender+race,groups=black+women"]) == 0
    shown = capsys.readouterr().out
    for line in (
        "  attribute  gender  2 values: m 48, w 48",
        "  attribute  race    2 values: A 54, B 42",
        "  group      black   2 values: 0 56, 1 40",
        "a|w|B              6        3        0",
        "race           train      val      test".replace("      test", "     test"),
        "B                 24       12        6",
        "black             20       10       10",
        "doubtful cells: 2",
        "  b|w|B has 9 examples, and none in test",
        "  columns:\n    attribute: [gender, race]\n    groups: [black, women]",
    ):
        assert line in shown, line
    block = shown.partition("write into sweep.yaml:\n")[2]
    assert loading.parse(f"name: x\ngroups: race\n{block}").data.columns.named == ("gender", "race", "black", "women")


def test_init_writes_what_it_was_told_of_columns(faces: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(planning, "plan", plan)
    made = tmp_path / "made.yaml"
    columns = "attribute=gender+race,groups=black+women"
    assert main.main(["init", str(faces), "--columns", columns, "-o", str(made)]) == 0
    assert loading.load(made).groups == "cell"
    assert loading.load(made).data.columns.attribute == ("gender", "race")
    assert "gender: m 24, w 24" in made.read_text()
    capsys.readouterr()
    assert main.main(["validate", str(made)]) == 0
    made.unlink()
    assert main.main(["init", str(faces), "--columns", "groups=black+women", "-o", str(made)]) == 0
    assert loading.load(made).groups == "overlapping"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("groups: raze", "3: groups is 'raze'. Use one of: class, attribute, cell, gender, race, overlapping."),
        ("groups: racee", "3: groups is 'racee'. Did you mean 'race'? "
         "Use 'class', 'attribute', 'cell', 'gender', 'race' or 'overlapping'."),
        ("groups: women", "3: groups is 'women'. It is one of several that may overlap: use 'overlapping', for all of "
         "them."),
        ("objectives: {accuracy: max, eod/rcae: min}", "3: objectives.eod/rcae: the data names no attribute 'rcae'. "
         "Did you mean 'race'? Known: black, gender, overlapping, race, women."),
        ("groups: overlapping\nspace: {method: [fairlora, lora-groupdro, lora-dfr]}", "3: groups is 'overlapping', and "
         "lora-groupdro, lora-dfr need groups that do not overlap. Use other groups, or one of: "),
        ("groups: overlapping\ntrain: {sampler: group-balanced}", "4: train.sampler is 'group-balanced', and groups is "
         "'overlapping'. Use 'shuffle', or other groups."),
    ],
)  # fmt: skip
def test_a_name_that_the_data_does_not_give_is_told_with_its_line(faces: Path, text: str, sentence: str) -> None:
    with pytest.raises(Faults) as told:
        loading.parse(spec(faces, text))
    assert f"sweep.yaml:{sentence}" in str(told.value)


def test_of_data_with_one_attribute_the_mend_is_its_plain_name() -> None:
    one = "name: x\ndata: {name: csv, columns: {attribute: race}}\n"
    with pytest.raises(Faults, match=r"groups is 'race'. It is the only attribute: use 'attribute'"):
        loading.parse(one + "groups: race")
    with pytest.raises(
        Faults, match=r"groups is 'overlapping'. None are named that may overlap: name their 0/1 columns"
    ):
        loading.parse(one + "groups: overlapping")
    with pytest.raises(Faults, match=r"Of its only attribute, if it has one, use eod."):
        loading.parse(one + "objectives: {accuracy: max, eod/race: min}")


@pytest.mark.parametrize("groups", ["race", "overlapping"])
def test_a_sweep_of_two_attributes_comes_to_a_front(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: str
) -> None:
    put: Callable[..., None] = monkeypatch.setattr
    put(attempt, "Projector", tiny.Mute)
    put(pictures, "draw", lambda *what: None)
    text = (
        f"groups: {groups}\nbackbone: {{name: small-vit, weights: none}}\n"
        "space: {method: fairlora, lambda: {low: 0.1, high: 10}, rank: 4, epochs: 1}\nmetrics: {min_group: 3}\n"
        "objectives: {accuracy: max, accuracy_spread_by_attribute/race: min, worst_accuracy_by_attribute/black: max}\n"
        "constraints: {delta_f1/gender: '<= 1'}\nsearch: {sampler: random, trials: 2, seeds: 1, baselines: []}\n"
        f"storage: {{root: {tmp_path / 'sweeps'}}}"
    )
    asked = loading.parse(spec(faces, text))
    outcome = driver.run(asked, tiny.Silent(), executor=tiny.in_process)
    assert outcome.exit_code == 0
    results = Results.open(SweepFolder(tmp_path / "sweeps" / "x"))
    assert len(results.ended) == 2
    assert results.front
    number = results.front[0]
    (trial,) = (each for each in results.ended if each.number == number)
    rows = results.groups_table
    by_race = rows[(rows["number"] == number) & (rows["kind"] == "race")].set_index("name")["accuracy"]
    assert trial.values["accuracy_spread_by_attribute/race"] == pytest.approx(by_race.max() - by_race.min())
    assert set(rows["kind"]) == {"class", "gender", "race", "overlapping", "attribute", "cell"}
    (black,) = rows[(rows["number"] == number) & (rows["name"] == "black")].to_dict("records")
    assert min(black["accuracy"], black["rest_accuracy"]) == trial.values["worst_accuracy_by_attribute/black"]
    names = {"race": {"A", "B"}, "overlapping": {"black", "women"}}[groups]
    logged = {name.partition("/")[2] for name in results.epochs_table if str(name).startswith("train_loss/")}
    assert logged == names
