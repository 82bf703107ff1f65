"""A user's own table or folder: columns by name, splits kept or cut by content, names never paths."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.data.trees import home, ids, picture, table, told
from trainables import data
from trainables.data import Columns, DataConfig
from trainables.data.base import SPLITS, Dataset
from trainables.data.images.cache import decoded
from trainables.data.images.transform import Transform
from trainables.data.report import manifest
from trainables.errors import UserError

ANIMALS = ("cat", "dog")
HOMES = ("indoors", "out/doors")
Row = tuple[str, ...]


def rows(n: int = 60) -> list[Row]:
    return [(f"photos/{i:03d}.png", ANIMALS[i % 2], HOMES[i % 3 == 0], SPLITS[min(i % 5, 2)]) for i in range(n)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("custom")
    for name, *_ in rows():
        picture(root / name)
    return root


@pytest.fixture
def home_of(photos: Path, tmp_path: Path) -> Path:
    shutil.copytree(photos / "photos", tmp_path / "mine" / "photos")
    return tmp_path / "mine"


def load(root: Path, **settings: object) -> Dataset:
    return data.load(DataConfig(name="csv" if root.suffix == ".csv" else "folder", root=root, **settings))


def write(root: Path, width: int = 4, new: Sequence[Row] = (), header: Row = ("image", "label", "attribute", "split")):
    return table(root / "mine.csv", header[:width], [row[:width] for row in (new or rows())])


# --- tables


def test_a_table_with_all_columns_is_taken_as_it_is(home_of: Path) -> None:
    dataset = load(write(home_of))
    assert (dataset.classes, dataset.attributes) == (ANIMALS, HOMES)
    assert home(dataset) == {row[0]: row[3] for row in rows()}
    assert told(dataset) == {row[0]: (row[1], row[2]) for row in rows()}


def test_columns_can_have_other_names_and_others_are_ignored(home_of: Path) -> None:
    path = write(home_of, header=("file", "species", "home", "part"))
    names = Columns(image="file", label="species", attribute="home", split="part")
    assert load(path, columns=names).split_hash == load(write(home_of)).split_hash
    without = load(write(home_of, header=("image", "label", "home", "part")))
    assert without.attributes == ()


def test_a_folder_with_one_table_will_do_and_with_two_it_will_not(home_of: Path) -> None:
    write(home_of)
    config = DataConfig(name="csv", root=home_of)
    assert data.load(config).split_hash == load(home_of / "mine.csv").split_hash
    table(home_of / "other.csv", ("image",), [])
    with pytest.raises(UserError, match=r"these tables: mine\.csv, other\.csv\. Set it to the one table"):
        data.load(config)


def test_without_a_split_column_the_cut_is_by_content_and_a_new_image_moves_no_other(home_of: Path) -> None:
    before = load(write(home_of, 3))
    assert set(home(before).values()) == set(SPLITS)
    assert "train and val and test not given" in before.notes[0]
    picture(home_of / "photos/new.png")
    after = load(write(home_of, 3, [("photos/new.png", "cat", "indoors"), *rows()[::-1]]))
    assert {name: split for name, split in home(after).items() if name != "photos/new.png"} == home(before)


def test_copies_of_an_image_stay_together_and_their_quarrels_are_reported(home_of: Path) -> None:
    copies = [(f"photos/copy{i}.png", "dog", "indoors") for i in range(12)]
    for name, *_ in copies:
        shutil.copy(home_of / rows()[0][0], home_of / name)
    dataset = load(write(home_of, 3, [*rows(), *copies]))
    assert len({home(dataset)[name] for name in (rows()[0][0], *(copy[0] for copy in copies))}) == 1
    assert [record.dropped for record in dataset.bad] == [False]
    assert "they disagree on label (cat, dog) and attribute (indoors, out/doors)" in dataset.bad[0].problem


def test_a_missing_val_is_cut_from_train_and_test_stays(home_of: Path) -> None:
    two = [(name, label, place, "testing" if split == "test" else "Train") for name, label, place, split in rows()]
    dataset = load(write(home_of, 4, two))
    assert ids(dataset, "test") == {row[0] for row in rows() if row[3] == "test"}
    assert dataset.notes == ("val not given: cut by a hash of each file's bytes into train 87.5%, val 12.5%",)
    assert 0 < len(ids(dataset, "val")) < len(ids(dataset, "train"))
    assert len(home(dataset)) == len(rows())


def test_nothing_to_train_on_is_said_so(home_of: Path) -> None:
    with pytest.raises(UserError, match="split train has no examples"):
        load(write(home_of, 4, [(*row[:3], "test") for row in rows()]))


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (("../../../etc/passwd", "cat", "indoors", "train"), "leads out of the folder"),
        (("photos\\..\\..\\x.png", "cat", "indoors", "train"), "leads out of the folder"),
        (("/etc/passwd", "cat", "indoors", "train"), "names an absolute path"),
        (("", "cat", "indoors", "train"), "has no file name"),
        (("photos/none.png", "cat", "indoors", "train"), "no such file: photos/none.png"),
        (("photos/000.png", "dog", "indoors", "test"), "lists photos/000.png again, first in mine.csv:2"),
        (("photos/./000.png", "dog", "indoors", "test"), "lists photos/000.png again, first in mine.csv:2"),
        (("photos/000.png", "", "indoors", "train"), "label is empty"),
        (("photos/000.png", "cat", "", "train"), "attribute is empty"),
        (("photos/000.png", "cat", "indoors", "tarin"), "split is 'tarin'. Use one of: train, val, test"),
        (("photos/000.png", "cat"), "has 2 fields, and the header has 4: write every column"),
    ],
)
def test_a_bad_row_is_told_with_its_line_and_the_rest_stays(home_of: Path, row: Row, problem: str) -> None:
    before = load(write(home_of))
    path = write(home_of, 4, [*rows(), row])
    with pytest.raises(UserError, match=r"mine\.csv: 1 of 61 records are bad"):
        load(path)
    after = load(path, on_bad="skip", max_bad=0.02)
    assert [record.place for record in after.bad] == ["mine.csv:62"]
    assert problem in after.bad[0].problem
    assert after.split_hash == before.split_hash


def test_more_bad_rows_than_allowed_stop_it(home_of: Path) -> None:
    path = write(home_of, 4, [*rows(), ("photos/none.png", "cat", "indoors", "train")])
    with pytest.raises(UserError, match=r"data\.max_bad allows a share of 0\.01"):
        load(path, on_bad="skip", max_bad=0.01)


def test_a_label_is_never_a_path_and_numbers_sort_as_numbers(home_of: Path) -> None:
    labels = ("10", "9", "2")
    numbered = load(write(home_of, 2, [(row[0], labels[i % 3]) for i, row in enumerate(rows())]))
    assert numbered.classes == ("2", "9", "10")
    named = load(write(home_of, 2, [(row[0], ("../../x", "/etc")[i % 2]) for i, row in enumerate(rows())]))
    assert named.classes == ("../../x", "/etc")
    assert all(path.is_relative_to(home_of / "photos") for path in named.splits["train"].paths)


def test_a_table_that_cannot_be_used_says_why(home_of: Path) -> None:
    with pytest.raises(UserError, match=r"column label is missing.*Is 'Label' meant to be 'label'"):
        load(write(home_of, header=("image", "Label", "attribute", "split")))
    with pytest.raises(UserError, match="column race is missing"):
        load(write(home_of), columns=Columns(attribute="race"))
    with pytest.raises(UserError, match="there is only 1 class in it"):
        load(write(home_of, 2, [(row[0], "cat") for row in rows()]))
    with pytest.raises(UserError, match="has no rows"):
        load(table(home_of / "mine.csv", ("image", "label"), []))
    with pytest.raises(UserError, match="which does not exist"):
        load(home_of / "nowhere.csv")


def test_the_manifest_is_a_table_that_gives_the_same_splits(home_of: Path) -> None:
    cut = load(write(home_of, 3))
    manifest(cut, home_of / "manifest.csv", contents=True)
    again = load(home_of / "manifest.csv")
    assert home(again) == home(cut)
    assert told(again) == told(cut)
    lines = (home_of / "manifest.csv").read_text().splitlines()
    assert lines[0] == "split,id,label,attribute,image,sha256"
    assert all(len(line.rsplit(",", 1)[1]) == 32 for line in lines[1:])
    assert [path.name for path in home_of.iterdir() if path.name.startswith(".")] == []


# --- folders


def tree(root: Path, names: Sequence[str]) -> Path:
    for name in names:
        picture(root / name, name)
    return root


CLASSES = [f"{label}/{'deep/' * (i % 2)}{i}.png" for label in ("cat", "dog a") for i in range(20)]


def test_folders_are_classes_and_the_cut_is_by_content(tmp_path: Path) -> None:
    dataset = load(tree(tmp_path, CLASSES))
    assert dataset.classes == ("cat", "dog a")
    assert told(dataset)["dog a/deep/7.png"] == ("dog a", "")
    assert len(home(dataset)) == len(CLASSES)
    (tmp_path / "cat/4.png").rename(tmp_path / "dog a/four.png")
    assert home(load(tmp_path))["dog a/four.png"] == home(dataset)["cat/4.png"]


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "validation", "TEST")])
def test_a_level_of_splits_is_kept(tmp_path: Path, names: tuple[str, ...]) -> None:
    dataset = load(tree(tmp_path, [f"{split}/{name}" for split in names for name in CLASSES]))
    assert dataset.classes == ("cat", "dog a")
    for name, split in zip(names, SPLITS, strict=True):
        assert ids(dataset, split) == {f"{name}/{image}" for image in CLASSES}


def test_train_alone_is_cut_and_a_class_may_be_called_train(tmp_path: Path) -> None:
    alone = load(tree(tmp_path / "a", [f"train/{name}" for name in CLASSES]))
    assert alone.classes == ("cat", "dog a")
    assert set(home(alone).values()) == set(SPLITS)
    vehicles = load(tree(tmp_path / "b", [f"{label}/{i}.png" for label in ("train", "bus") for i in range(20)]))
    assert vehicles.classes == ("bus", "train")


def test_splits_beside_other_folders_are_refused_since_they_may_be_either(tmp_path: Path) -> None:
    tree(tmp_path, [f"{split}/{name}" for split in ("train", "test", "extra") for name in CLASSES])
    with pytest.raises(UserError, match=r"beside test, train there is extra\. Move it away"):
        load(tmp_path)


def test_images_outside_classes_are_bad_and_other_files_are_nothing(tmp_path: Path) -> None:
    tree(tmp_path, [*CLASSES, "loose.png"])
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "cat/._0.png").write_bytes(b"\0")
    (tmp_path / ".hidden").mkdir()
    picture(tmp_path / "cat/.thumbnails/0.png")
    with pytest.raises(UserError, match=r"loose\.png: lies in no class's folder"):
        load(tmp_path)
    assert len(home(load(tmp_path, on_bad="skip", max_bad=0.1))) == len(CLASSES)


def test_a_file_where_a_folder_is_wanted_says_to_use_csv(home_of: Path) -> None:
    with pytest.raises(UserError, match=r"set data\.name to 'csv'"):
        data.load(DataConfig(name="folder", root=write(home_of)))


@settings(max_examples=20)
@given(st.sets(st.integers(0, 59), min_size=40))
def test_any_part_of_the_rows_falls_as_the_whole_does(photos: Path, kept: set[int]) -> None:
    pairs = [row[:2] for row in rows()]
    whole = home(load(table(photos / "whole.csv", ("image", "label"), pairs)))
    rarest = [i for i, (name, _) in enumerate(pairs) if whole[name] != "train"]  # so that no split is empty
    part = home(load(table(photos / "part.csv", ("image", "label"), [pairs[i] for i in {*kept, *rarest}])))
    assert part == {pairs[i][0]: whole[pairs[i][0]] for i in {*kept, *rarest}}


@pytest.mark.parametrize(("settings", "turned"), [({}, True), ({"exif": "apply"}, True), ({"exif": "ignore"}, False)])
def test_a_users_photos_are_turned_upright_unless_they_are_not_to_be(
    tmp_path: Path, settings: dict[str, str], turned: bool
) -> None:
    """Of a table and of a folder alike; the light upper half is stored below."""
    exif = Image.Exif()
    exif[0x0112] = 3
    rows = [(f"{split}/{label}/0.png", label, split) for split in SPLITS for label in ANIMALS]
    for i, (name, *_) in enumerate(rows):
        stored = np.zeros((8, 8, 3), np.uint8)
        stored[4:] = 200 + i
        (tmp_path / name).parent.mkdir(parents=True)
        Image.fromarray(stored).save(tmp_path / name, exif=exif.tobytes())
    table(tmp_path / "mine.csv", ("image", "label", "split"), rows)
    for root in (tmp_path, tmp_path / "mine.csv"):
        shown = decoded(load(root, **settings), "train", Transform(size=8)).images_NCHW
        assert bool((shown[:, :, :4] >= 200).all()) is turned
        assert bool((shown[:, :, 4:] >= 200).all()) is not turned
