"""digits-on-scenes: its law is FACTS 4: who is where, how often, on what, and the same in each build."""

from __future__ import annotations

import itertools
import multiprocessing
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits, load_sample_image

from trainables.data import DataConfig, load
from trainables.data.base import SPLITS, Dataset
from trainables.data.datasets import digits
from trainables.files import cache_root


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("digits")


@pytest.fixture(scope="module")
def dataset(home: Path) -> Dataset:
    return load(DataConfig(name="digits-on-scenes", root=home))


def indices(dataset: Dataset, split: str) -> list[int]:
    """Which of scikit-learn's digits, in order: the file's name says it."""
    return [int(path.name[:4]) for path in dataset.splits[split].paths]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


def test_counts_are_those_that_the_module_tells(dataset: Dataset) -> None:
    cells = {split: dataset.groups(split, "cell").counts_G.tolist() for split in SPLITS}
    assert cells == {"train": [459, 24, 6, 108], "val": [240, 240, 60, 60], "test": [240, 240, 60, 60]}
    assert dataset.groups("train", "cell").names == ("0-7|flower", "0-7|china", "8-9|flower", "8-9|china")


def test_background_agrees_with_y_in_95_percent_of_train_and_half_of_the_rest(dataset: Dataset) -> None:
    agreeing = {split: float(np.mean(p.labels_N == p.attributes_N)) for split, p in dataset.splits.items()}
    assert agreeing["train"] == pytest.approx(0.95, abs=0.001)
    assert (agreeing["val"], agreeing["test"]) == (0.5, 0.5)


def test_y_is_one_for_eight_and_nine(dataset: Dataset) -> None:
    target = load_digits().target
    for split in SPLITS:
        expected = target[indices(dataset, split)] >= 8
        assert (dataset.splits[split].labels_N == expected).all()


def test_each_digit_serves_once_and_none_is_lost(dataset: Dataset) -> None:
    parts = {"pretraining": set(digits._partition()["pretraining"])}
    parts |= {split: set(indices(dataset, split)) for split in SPLITS}
    assert {name: len(part) for name, part in parts.items()} == {
        "pretraining": 600,
        "train": 597,
        "val": 300,
        "test": 300,
    }
    assert set.union(*parts.values()) == set(range(1797))  # 600 + 597 + 300 + 300: disjoint, since complete


@pytest.mark.parametrize("split", ["val", "test"])
def test_each_held_out_digit_stands_on_both_backgrounds(dataset: Dataset, split: str) -> None:
    part = dataset.splits[split]
    assert part.attributes_N is not None
    places = Counter(zip(indices(dataset, split), part.attributes_N.tolist(), strict=True))
    assert places == Counter((i, place) for i in set(indices(dataset, split)) for place in (0, 1))


def test_backgrounds_come_from_strips_that_splits_do_not_share(dataset: Dataset) -> None:
    """Where the digit is transparent, the image is the photo, at a place inside the split's strip."""
    strips = sorted(digits.STRIPS.values())
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(strips))
    photos = [load_sample_image(f"{place}.jpg") for place in digits.PLACES]
    shapes = load_digits().images
    for split in SPLITS:
        part = dataset.splits[split]
        assert part.attributes_N is not None
        for i in range(0, len(part), 150):
            clear = np.kron(shapes[indices(dataset, split)[i]] == 0, np.ones((4, 4))).astype(bool)
            image = np.asarray(Image.open(part.paths[i]))
            start, end = digits.STRIPS[split]
            assert found(image, clear, photos[part.attributes_N[i]][:, start:end])


def found(image: np.ndarray, clear: np.ndarray, photo: np.ndarray) -> bool:
    windows = np.lib.stride_tricks.sliding_window_view(photo, (32, 32), axis=(0, 1))
    y, x = np.argwhere(clear)[0]
    candidates = np.argwhere((windows[:, :, :, y, x] == image[y, x]).all(axis=2))
    return any((windows[t, left].transpose(1, 2, 0)[clear] == image[clear]).all() for t, left in candidates)


def test_ink_hides_the_photo_in_the_measure_of_the_digits_value(dataset: Dataset) -> None:
    """Value 16 is pure ink; value v leaves 1 - v / 16 of whatever is behind."""
    index = indices(dataset, "test")[0]
    opacity = np.kron(load_digits().images[index], np.ones((4, 4))) / 16
    image = np.asarray(Image.open(dataset.splits["test"].paths[0])).astype(float)
    assert image.shape == (32, 32, 3)
    behind = (image - opacity[:, :, None] * digits.INK)[opacity < 1] / (1 - opacity[opacity < 1])[:, None]
    slack = 0.5 / (1 - opacity[opacity < 1]).min()  # what rounding to whole numbers can move
    assert behind.min() >= -slack
    assert behind.max() <= 255 + slack
    assert (image[opacity == 1] == digits.INK).all()


def test_the_split_hash_is_the_published_one(dataset: Dataset) -> None:
    """Made by this builder, version 1; it depends on scikit-learn's digits and SHA-256 alone."""
    assert dataset.split_hash == "9131768c957bc922"


def test_two_builds_are_byte_identical(home: Path, dataset: Dataset, tmp_path: Path) -> None:
    digits.build(tmp_path)
    assert contents(tmp_path) == contents(home)
    # On another machine too: no compressor had a say, each file holds its 32 x 32 pixels as they are.
    assert all(path.stat().st_size > 32 * 32 * 3 for path in home.rglob("*.png"))


def test_processes_that_ask_at_once_get_one_whole_build(home: Path, dataset: Dataset, tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        folders = pool.map(digits.build, [tmp_path, tmp_path])
    assert len(set(folders)) == 1
    assert contents(tmp_path) == contents(home)  # and no draft is left over


def test_what_a_cleaner_took_away_is_built_again(home: Path, dataset: Dataset) -> None:
    before = contents(home)
    dataset.splits["val"].paths[7].unlink()
    (home / "waterbird_complete95_forest2water2" / "test" / "stray.png").touch()
    digits.build(home)
    assert contents(home) == before


def test_without_a_root_it_lives_in_the_cache(own_cache: Path) -> None:
    root = load(DataConfig()).root
    assert root == (cache_root() / "data/digits-on-scenes-v1-plain/waterbird_complete95_forest2water2").resolve()
    assert own_cache in root.parents


def test_pretraining_images_are_digits_on_flat_colours() -> None:
    images, labels = digits.pretraining_set()
    assert images.shape == (600, 3, 32, 32)
    assert images.dtype == np.uint8
    assert np.bincount(labels).tolist() == [60] * 10
    clear = np.kron(load_digits().images[digits._partition()["pretraining"][0]] == 0, np.ones((4, 4))).astype(bool)
    assert len(np.unique(images[0][:, clear], axis=1).T) == 1
