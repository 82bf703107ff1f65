"""GeoDE's format: regions repaired, cells cut evenly, names never paths."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from tests.data.trees import home, ids, listed, picture, table, told
from trainables import data
from trainables.data import DataConfig
from trainables.data.base import SPLITS, Dataset
from trainables.data.images.cache import decoded
from trainables.data.images.transform import Transform
from trainables.errors import UserError

HEADER = ("file_path", "object", "region", "ip_country", "license")
OBJECTS = ("stall", "bag", "front_door")
WHERE = {"Africa": "Nigeria", "Americas": "Mexico", "EastAsia": "Japan", "Europe": "Spain"}
PER_CELL = 10
Row = tuple[str, str, str, str, str]


def rows() -> list[Row]:
    return [
        (f"{number:03d}.{label}/{country}_{label}_{i}.jpg", label, region, country, "CC BY")
        for number, label in enumerate(OBJECTS, 1)
        for region, country in WHERE.items()
        for i in range(PER_CELL)
    ]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("geode") / "geode"
    table(root / "index.csv", HEADER, rows())
    for i, row in enumerate(rows()):
        picture(root / "images" / row[0], mode=("RGB", "L", "CMYK", "RGBA")[i % 4])
    return root


@pytest.fixture
def geode(pristine: Path, tmp_path: Path) -> Path:
    shutil.copytree(pristine, tmp_path / "geode")
    return tmp_path / "geode"


def load(root: Path, **settings: object) -> Dataset:
    return data.load(DataConfig(name="geode", root=root, **settings))


def rewrite(root: Path, new: list[Row]) -> None:
    table(root / "index.csv", HEADER, new)


def test_classes_are_the_sorted_objects_and_attributes_the_six_regions(pristine: Path) -> None:
    dataset = load(pristine)
    assert dataset.classes == ("bag", "front_door", "stall")
    assert dataset.attributes == ("Africa", "Americas", "EastAsia", "Europe", "SouthEastAsia", "WestAsia")
    assert told(dataset)["002.bag/Japan_bag_7.jpg"] == ("bag", "EastAsia")
    assert sum(len(part) for part in dataset.splits.values()) == len(rows())


def test_every_cell_of_ten_gives_seven_one_and_two(pristine: Path) -> None:
    dataset = load(pristine)
    for split, count in zip(SPLITS, (7, 1, 2), strict=True):
        cells = dataset.groups(split, "cell")
        expected = [count if name.split("|")[1] in WHERE else 0 for name in cells.names]
        assert cells.counts_G.tolist() == expected


def test_the_parent_folder_will_do_and_so_does_any_order_of_rows(geode: Path) -> None:
    before = load(geode)
    rewrite(geode, rows()[::-1])
    after = load(geode.parent)
    assert after.split_hash == before.split_hash
    assert listed(after) == listed(before)


def test_a_new_image_moves_at_most_two_and_only_of_its_own_cell(geode: Path) -> None:
    before = home(load(geode))
    picture(geode / "images/002.bag/Japan_bag_99.jpg")
    rewrite(geode, [*rows(), ("002.bag/Japan_bag_99.jpg", "bag", "EastAsia", "Japan", "")])
    after = home(load(geode))
    moved = [name for name in before if after[name] != before[name]]
    assert len(moved) <= 2
    assert all(name.startswith("002.bag/Japan") for name in moved)


def test_a_missing_image_is_named_and_moves_no_other(geode: Path) -> None:
    before = home(load(geode))
    lost = "001.stall/Spain_stall_3.jpg"
    (geode / "images" / lost).unlink()
    with pytest.raises(UserError, match=rf"(?s)1 of 120 records are bad.*no such file: {lost}"):
        load(geode)
    dataset = load(geode, on_bad="skip")
    assert home(dataset) == {name: split for name, split in before.items() if name != lost}
    assert [record.problem for record in dataset.bad] == [f"no such file: {lost}"]


def test_regions_are_known_however_they_are_spelt_or_by_their_country(geode: Path) -> None:
    before = load(geode)
    spelt = {"EastAsia": "East Asia", "Europe": "europe", "Americas": "AMERICA", "Africa": ""}
    rewrite(geode, [(name, label, spelt[region], country, "") for name, label, region, country, _ in rows()])
    after = load(geode)
    assert after.split_hash == before.split_hash
    repaired = Counter(record.problem for record in after.bad if not record.dropped)
    assert repaired == {"region is ''; Africa by its country, Nigeria": len(OBJECTS) * PER_CELL}


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (
            ("001.stall/a.jpg", "stall", "Mars", "Phobos", ""),
            "region is 'Mars' and ip_country 'Phobos'. Use one of: Af",
        ),
        (("001.stall/a.jpg", "", "Africa", "Ghana", ""), "object is empty"),
        (("../../index.csv", "bag", "Africa", "Ghana", ""), "leads out of the folder"),
        (("/etc/passwd", "bag", "Africa", "Ghana", ""), "names an absolute path"),
        (("002.bag/Japan_bag_7.jpg", "stall", "Europe", "Spain", ""), "lists 002.bag/Japan_bag_7.jpg again, first in"),
        (("./002.bag//Japan_bag_7.jpg", "stall", "Europe", "Spain", ""), "lists 002.bag/Japan_bag_7.jpg again"),
    ],
)
def test_a_bad_row_is_told_with_its_line_and_the_rest_stays(geode: Path, row: Row, problem: str) -> None:
    before = load(geode)
    rewrite(geode, [*rows(), row])
    after = load(geode, on_bad="skip")
    assert [record.place for record in after.bad] == ["index.csv:122"]
    assert problem in after.bad[0].problem
    assert (listed(after), after.classes) == (listed(before), before.classes)


def test_an_object_is_a_label_and_never_a_path(geode: Path) -> None:
    rewrite(geode, [(name, "../../../" + label, *rest) for name, label, *rest in rows()])
    dataset = load(geode)
    assert dataset.classes[0] == "../../../bag"
    assert all(path.is_relative_to(geode) and ".." not in path.parts for path in dataset.splits["train"].paths)


def test_images_of_any_mode_are_read_as_three_channels(pristine: Path) -> None:
    pixels = decoded(load(pristine), "val", Transform(size=8)).images_NCHW
    assert pixels.shape == (12, 3, 8, 8)
    assert np.asarray(pixels).std() > 0


def test_a_missing_column_and_a_missing_copy_say_what_is_wanted(geode: Path, tmp_path: Path) -> None:
    table(geode / "index.csv", ("path", "object", "region"), [])
    with pytest.raises(UserError, match="column file_path is missing"):
        load(geode)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="Fetch GeoDE"):
        load(tmp_path / "empty")


def test_settings_of_other_datasets_are_refused(pristine: Path) -> None:
    with pytest.raises(ValidationError, match=r"is for utkface, and data.name is 'geode'\. Remove it\."):
        load(pristine, task="age")


def test_every_id_is_in_one_split(pristine: Path) -> None:
    dataset = load(pristine)
    assert len(home(dataset)) == len(rows()) == sum(len(ids(dataset, split)) for split in SPLITS)
