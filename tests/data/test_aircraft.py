"""FGVC-Aircraft's lists: leading zeros, labels with spaces and slashes, official splits, the banner."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.trees import VARIANTS, home, ids, picture, told
from trainables import data
from trainables.data import DataConfig
from trainables.data.base import SPLITS, Dataset
from trainables.data.images.cache import decoded
from trainables.data.images.transform import Transform
from trainables.errors import UserError

PER_CLASS = 5  # in each split
HEIGHT = 8 + 20


def lines(split: str) -> list[str]:
    first = 1000 * SPLITS.index(split)
    return [f"{first + PER_CLASS * k + i:07d} {label}" for k, label in enumerate(VARIANTS) for i in range(PER_CLASS)]


def write(root: Path, name: str, listed: list[str]) -> None:
    (root / name).write_text("\n".join(listed) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("aircraft") / "fgvc-aircraft-2013b" / "data"
    for split in SPLITS:
        for line in lines(split):
            picture(root / "images" / f"{line[:7]}.jpg", line, size=(8, HEIGHT))
        write(root, f"images_variant_{split}.txt", lines(split))
    write(root, "images_variant_trainval.txt", [*lines("train"), *lines("val")])
    write(root, "variants.txt", list(VARIANTS))
    return root


@pytest.fixture
def aircraft(pristine: Path, tmp_path: Path) -> Path:
    shutil.copytree(pristine, tmp_path / "data")
    return tmp_path / "data"


def load(root: Path, **settings: object) -> Dataset:
    return data.load(DataConfig(name="aircraft", root=root, **settings))


def test_ids_keep_their_zeros_and_labels_their_spaces_and_slashes(pristine: Path) -> None:
    found = told(load(pristine))
    assert found["0000010"] == ("F/A-18", "")
    assert found["0002020"] == ("Boeing 717", "")
    assert load(pristine).splits["train"].paths[0].name == "0000000.jpg"


def test_the_official_splits_are_the_default_and_classes_are_the_groups(pristine: Path) -> None:
    dataset = load(pristine.parent.parent)
    assert dataset.classes == VARIANTS
    assert dataset.attributes == ()
    for split in SPLITS:
        assert ids(dataset, split) == {line[:7] for line in lines(split)}
        assert dataset.groups(split, "class").counts_G.tolist() == [PER_CLASS] * len(VARIANTS)
    assert dataset.split_hash == load(pristine, validation="official").split_hash


def test_a_fifth_of_each_class_of_trainval_can_be_the_validation_and_test_stays(pristine: Path) -> None:
    official, dataset = load(pristine), load(pristine, validation="from-trainval")
    assert dataset.groups("train", "class").counts_G.tolist() == [8] * len(VARIANTS)
    assert dataset.groups("val", "class").counts_G.tolist() == [2] * len(VARIANTS)
    assert ids(dataset, "train") | ids(dataset, "val") == ids(official, "train") | ids(official, "val")
    assert dataset.ids("test") == official.ids("test")
    assert told(dataset) == told(official)
    assert Counter(home(dataset).values()) == {"train": 48, "val": 12, "test": 30}


def test_the_order_of_lines_changes_nothing_but_that_of_variants_is_the_order_of_classes(aircraft: Path) -> None:
    before = load(aircraft, validation="from-trainval")
    for split in SPLITS:
        write(aircraft, f"images_variant_{split}.txt", lines(split)[::-1])
    assert load(aircraft, validation="from-trainval").split_hash == before.split_hash
    write(aircraft, "variants.txt", list(VARIANTS[::-1]))
    after = load(aircraft)
    assert after.classes == VARIANTS[::-1]
    assert told(after) == told(before)


def test_the_banner_is_cut_off_when_asked_and_it_is_recorded(pristine: Path, tmp_path: Path) -> None:
    whole, cut = load(pristine), load(pristine, crop_banner=True)
    assert whole.crop_bottom == 0
    assert "the 20 lowest pixels of each image are cut off" in cut.notes
    pixels = decoded(cut, "val", Transform(size=8, interpolation="nearest"))
    with Image.open(cut.splits["val"].paths[0]) as image:
        expected = np.asarray(image)[: HEIGHT - 20]
    np.testing.assert_array_equal(pixels.images_NCHW[0], expected.transpose(2, 0, 1))
    assert pixels.hash != decoded(whole, "val", Transform(size=8, interpolation="nearest")).hash
    assert cut.split_hash == whole.split_hash


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("0000003 707-320", "lists 0000003 again"),
        ("0009999 Spitfire", "label is 'Spitfire', which variants.txt does not list"),
        ("0009999", "label is ''"),
        ("../../secret 707-320", "leads out of the folder"),
        ("/etc/passwd 707-320", "names an absolute path"),
        ("0009999 707-320", "no such file: 0009999"),
    ],
)
def test_a_bad_line_is_told_with_its_place_and_the_rest_stays(aircraft: Path, line: str, problem: str) -> None:
    before = load(aircraft)
    write(aircraft, "images_variant_train.txt", [*lines("train"), "", line])
    with pytest.raises(UserError, match="1 of 91 records are bad"):
        load(aircraft)
    after = load(aircraft, on_bad="skip", max_bad=0.02)
    assert [record.place for record in after.bad] == ["images_variant_train.txt:32"]
    assert problem in after.bad[0].problem
    assert after.split_hash == before.split_hash


def test_what_is_in_test_is_not_trained_on(aircraft: Path) -> None:
    write(aircraft, "images_variant_train.txt", [*lines("train"), lines("test")[0]])
    dataset = load(aircraft, on_bad="skip", max_bad=0.02)
    assert home(dataset)[lines("test")[0][:7]] == "test"


def test_a_label_is_never_a_path(pristine: Path) -> None:
    dataset = load(pristine)
    assert {path.parent for split in SPLITS for path in dataset.splits[split].paths} == {pristine / "images"}


def test_a_missing_list_and_a_missing_copy_say_what_to_fetch(aircraft: Path, tmp_path: Path) -> None:
    (aircraft / "images_variant_val.txt").unlink()
    with pytest.raises(UserError, match=r"images_variant_val\.txt cannot be read.*Fetch fgvc-aircraft-2013b"):
        load(aircraft)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"none of these is in it: variants\.txt, fgvc-aircraft-2013b/data/variants"):
        load(tmp_path / "empty")
