"""Several attributes, and columns of groups that overlap: read, counted, hashed, told."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from tests.data.trees import picture, table
from trainables import data
from trainables.data import Columns, DataConfig
from trainables.data.base import SPLITS, Dataset
from trainables.data.datasets.utkface import RACES
from trainables.data.report import describe, manifest
from trainables.errors import UserError

HEADER = ("image", "label", "gender", "race", "black", "women", "split")


def rows() -> list[list[object]]:
    """24 images: each class, gender and race in each split; race is not the group black."""
    found = []
    for i in range(24):
        split, j = SPLITS[i // 8], i % 8
        found.append([f"{i:02}.png", "ab"[j % 2], "mw"[j // 2 % 2], "AB"[j // 4], int(j in (1, 2)), int(j > 4), split])
    return found


def load(folder: Path, written: list[list[object]], **columns: object) -> Dataset:
    for name, *_ in written:
        picture(folder / str(name))
    table(folder / "t.csv", HEADER, written)
    return data.load(DataConfig(name="csv", root=folder / "t.csv", columns=Columns(**columns)))


def test_two_attributes_make_joint_values_and_cells_and_each_has_its_own_groups(tmp_path: Path) -> None:
    dataset = load(tmp_path, rows(), attribute=["gender", "race"])
    assert dataset.attributes == ("m|A", "m|B", "w|A", "w|B")
    assert dataset.kinds == ("class", "gender", "race", "attribute", "cell")
    assert dataset.groups("train", "race").names == ("A", "B")
    assert dataset.groups("train", "race").counts_G.tolist() == [4, 4]
    assert dataset.groups("train", "cell").names[4] == "b|m|A"
    assert dataset.groups("train", "cell").counts_G.tolist() == [1] * 8
    with pytest.raises(ValueError, match=r"has no groups by raze. Use one of: class, gender, race, attribute, cell"):
        dataset.groups("train", "raze")


def test_groups_that_overlap_are_read_from_their_columns(tmp_path: Path) -> None:
    dataset = load(tmp_path, rows(), groups=["black", "women"])
    assert dataset.kinds == ("class", "overlapping")
    groups = dataset.groups("val", "overlapping")
    assert groups.names == ("black", "women")
    assert groups.counts_G.tolist() == [2, 3]
    assert groups.member_N(0).tolist() == [False, True, True, False, False, False, False, False]
    assert describe(dataset)["splits"]["val"]["overlapping"] == {"black": 2, "women": 3}


@pytest.mark.parametrize("word", ["-1", "false", "No", "0.0"])
def test_who_is_in_a_group_may_be_said_in_several_ways_and_anything_else_is_a_bad_record(tmp_path: Path, word) -> None:
    written = rows()
    written[3][4] = word
    assert load(tmp_path, written, groups="black").splits["train"].members_NG.sum() == 2
    written[3][4] = "perhaps"
    with pytest.raises(UserError, match=r"t.csv:5: black is 'perhaps', and says who is in a group. Use 1 or 0"):
        load(tmp_path, written, groups=["black"])


def test_one_attribute_in_a_list_is_that_attribute_and_hashes_as_ever(tmp_path: Path) -> None:
    one, listed = load(tmp_path, rows(), attribute="race"), load(tmp_path, rows(), attribute=["race"])
    assert (listed.facets, listed.attributes, listed.split_hash) == ((), ("A", "B"), one.split_hash)
    assert one.split_hash == "4a46499fd5691fd2"  # as older releases have it
    assert describe(one) == describe(listed)
    assert Columns(attribute=["race"]) == Columns(attribute="race")


def test_the_hash_tells_attributes_groups_and_their_members_apart(tmp_path: Path) -> None:
    written = rows()
    hashes = {
        load(tmp_path, written, **columns).split_hash
        for columns in (
            {"attribute": "gender"},
            {"attribute": ["gender", "race"]},
            {"attribute": ["race", "gender"]},
            {"groups": ["black"]},
            {"groups": ["women"]},
            {"groups": ["black", "women"]},
            {"attribute": "gender", "groups": ["black", "women"]},
        )
    }
    written[0][4] = 1
    hashes.add(load(tmp_path, written, groups=["black"]).split_hash)
    assert len(hashes) == 8


def test_the_manifest_has_a_column_for_each_and_is_a_table_to_train_on(tmp_path: Path) -> None:
    dataset = load(tmp_path, rows(), attribute=["gender", "race"], groups=["black", "women"])
    manifest(dataset, tmp_path / "m" / "manifest.csv")
    with (tmp_path / "m" / "manifest.csv").open() as file:
        listed = list(csv.DictReader(file))
    assert listed[1] | {"sha256": ""} == {
        **{"split": "train", "id": "01.png", "label": "b", "attribute": "m|A", "image": "01.png", "sha256": ""},
        **{"gender": "m", "race": "A", "black": "1", "women": "0"},
    }
    columns = Columns(attribute=["gender", "race"], groups=["black", "women"])
    config = DataConfig(name="csv", root=tmp_path / "m" / "manifest.csv", columns=columns, images=tmp_path)
    assert data.load(config).split_hash == dataset.split_hash


def test_a_value_and_a_group_that_a_split_lacks_are_told_by_their_column(tmp_path: Path) -> None:
    written = [row for row in rows() if not (row[3] == "B" and row[-1] == "val")]
    for row in written:
        row[4] = int(row[0] == "02.png")
    told = [
        f"{bad.place}: {bad.problem}"
        for bad in load(tmp_path, written, attribute=["gender", "race"], groups="black").bad
    ]
    assert told == [
        "t.csv:6: is the first of 8 examples of race 'B', and none is in val",
        "t.csv:4: is the only example of group 'black': val, test have none",
    ]


@pytest.mark.parametrize(("value", "who"), [(0, "nobody"), (1, "everybody")])
def test_a_group_of_nobody_or_of_everybody_is_told(tmp_path: Path, value: int, who: str) -> None:
    written = rows()
    for row in written:
        row[5] = value
    notes = load(tmp_path, written, groups=["black", "women"]).notes
    assert f"{who} is in the group 'women': it cannot be compared" in notes
    assert not any("black" in note and "compared" in note for note in notes)


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"attribute": ["race", "race"]}, "'race' is used twice"),
        ({"attribute": ["label", "race"]}, "'label' is used twice"),
        ({"attribute": ["gender", "race"], "groups": ["race"]}, "'race' is used twice"),
        ({"attribute": "race", "groups": ["race"]}, "'race' is used twice"),
        ({"groups": ["cell"]}, "'cell' is what sweeper calls something else: rename that column"),
        ({"attribute": []}, "at least 1 item"),
    ],
)
def test_a_name_that_would_mean_two_things_is_refused(columns: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Columns(**columns)


def test_a_limit_keeps_some_of_every_cell_of_all_attributes(tmp_path: Path) -> None:
    load(tmp_path, rows(), attribute=["gender", "race"], groups=["black"])
    columns = Columns(attribute=["gender", "race"], groups=["black"])
    config = DataConfig(name="csv", root=tmp_path / "t.csv", columns=columns, limit=24)
    assert len(data.load(config).splits["train"]) == 8
    with pytest.raises(UserError, match=r"data.limit is 23, and the three splits have 24 cells"):
        data.load(config.model_copy(update={"limit": 23}))


def test_utkface_has_the_attributes_that_are_asked_for(tmp_path: Path) -> None:
    for i in range(60):
        picture(tmp_path / f"{(5, 25, 45)[i % 3]}_{i % 2}_{i // 3 % 5}_20170000000000{i:03}.jpg.chip.jpg")
    assert data.load(DataConfig(name="utkface", root=tmp_path)).attributes == RACES
    dataset = data.load(DataConfig(name="utkface", root=tmp_path, attributes=["race", "age"]))
    assert [facet.name for facet in dataset.facets] == ["race", "age"]
    assert "Asian|21-30" in dataset.attributes
    assert np.unique(dataset.groups("train", "age").index_N).tolist() == [0, 2, 4]
    alone = data.load(DataConfig(name="utkface", root=tmp_path, task="age", attributes=["gender"]))
    assert (alone.attributes, alone.facets) == (("male", "female"), ())
    with pytest.raises(UserError, match=r"data.attributes is \[gender, race\], and the task is gender"):
        data.load(DataConfig(name="utkface", root=tmp_path, attributes=["gender", "race"]))
