"""digits-on-scenes: Waterbirds in small, from what scikit-learn ships, in the Waterbirds format; no download.

Foreground: 1,797 real handwritten digits of 8 x 8, each pixel repeated 4 x 4, opacity = value / 16, in
blue ink, which neither the near-white sky of the one photo nor the leaves of the other hide.
Background: 32 x 32 crops of two photos, from strips of columns that train, val and test do not share.
y = 1 for the digits 8 and 9, so that one class is rare. place agrees with y in 95 % of train; in val and
test each digit stands on both backgrounds.

| use | digits | images | of which y = 1 |
|---|---|---|---|
| pre-training of the small backbone, flat backgrounds | 600 (60 of each) | 600 | 120 |
| train | 597 (the rest) | 597 | 114 |
| val | 300 (30 of each) | 600 | 120 |
| test | 300 (30 of each) | 600 | 120 |

Half of what pre-training leaves is kept for val and test: 60 images in the rarest cell. Always answering "0-7" scores
.80, with a delta F1 of .89. It is a smoke benchmark, not evidence about vision models; its test split was looked at
while this recipe was made.

All chance comes from SHA-256 of what is being drawn, so that the bytes depend on no library's generator.
"""

from __future__ import annotations

import csv
import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from filelock import FileLock
from PIL import Image

from trainables.arrays import Floats, Ints, Pixels
from trainables.data import DataConfig
from trainables.data.base import SPLITS, Dataset
from trainables.data.datasets import waterbirds
from trainables.data.tables import read_table
from trainables.files import cache_root, whole_folder

VERSION = "digits-on-scenes-v1"
SIZE = 32
RARE = (8, 9)
AGREEMENT = 0.95
IMAGES = 597 + 2 * 300 + 2 * 300  # train, val, test
PLACES = ("flower", "china")  # place 0 and place 1: the photo behind the digit
STRIPS = {"train": (0, 320), "val": (320, 480), "test": (480, 640)}  # columns [from, to) of both photos
INK = np.array([0.0, 0.0, 255.0])
_PER_DIGIT = {"pretraining": 60, "val": 30, "test": 30}  # train takes the rest
_COLUMNS = ("img_id", "img_filename", "y", "split", "place", "place_filename", "digit")


@dataclass(frozen=True)
class _Row:
    """One image to be: digit `index` of scikit-learn's set on photo `place`."""

    split: str
    index: int
    digit: int
    place: int

    @property
    def label(self) -> int:
        return int(self.digit in RARE)

    @property
    def file(self) -> str:
        return f"{self.split}/{self.index:04d}-{PLACES[self.place]}.png"


def load(config: DataConfig) -> Dataset:
    """The embedded dataset, built below `config.root` or the cache at first use."""
    home = config.root.expanduser() if config.root else cache_root() / "data" / f"{VERSION}-plain"
    dataset = waterbirds.load(config.model_copy(update={"root": build(home)}))
    return replace(
        dataset,
        classes=("0-7", "8-9"),
        attributes=PLACES,
        notes=(),  # of Waterbirds
        licence="scikit-learn's digits (UCI, CC BY 4.0) and sample photos (CC BY 2.0)",
    )


def build(folder: Path) -> Path:
    """Writes the dataset below `folder`, unless it is there whole; several processes may ask at once.

    Returns:
        The folder of `metadata.csv`, named as Waterbirds names it.
    """
    home = folder / waterbirds.FOLDERS[0]
    if _whole(home):
        return home
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        if not _whole(home):
            with whole_folder(home, over=True) as draft:
                _fill(draft)
    return home


def pretraining_set() -> tuple[Pixels, Ints]:
    """The 600 digits set apart for the small backbone, each on a flat random colour.

    One colour each, so that the backbone is good but not past being misled by a background: that is
    what leaves fairness something to trade.

    Returns:
        images [600, 3, 32, 32] uint8 and labels [600], the digits 0 to 9.
    """
    digits, targets = _digits()
    chosen = _partition()["pretraining"]
    flat = [np.array([_draw(256, "flat", i, channel) for channel in range(3)], np.uint8) for i in chosen]
    images = [_compose(digits[i], colour) for i, colour in zip(chosen, flat, strict=True)]
    return np.stack(images).transpose(0, 3, 1, 2).copy(), targets[list(chosen)]


def pretraining_digits() -> tuple[Floats, Ints]:
    """The same 600 digits without a background.

    Returns:
        opacity of the ink [600, 32, 32] in 0..1, and labels [600].
    """
    digits, targets = _digits()
    chosen = list(_partition()["pretraining"])
    return np.stack([_opacity(digits[i]) for i in chosen]), targets[chosen]


def _whole(home: Path) -> bool:
    # A cleaner of temporary files may have taken some images: the table alone proves nothing.
    table = home / waterbirds.TABLE
    if not table.is_file():
        return False
    files = [record["img_filename"] for _, record in read_table(table, ("img_filename",))]
    return len(files) == IMAGES and all((home / file).is_file() for file in files)


def _fill(home: Path) -> None:
    from sklearn.datasets import load_sample_image

    digits, _ = _digits()
    photos = [load_sample_image(f"{place}.jpg") for place in PLACES]  # [427, 640, 3] each
    for split in SPLITS:
        (home / split).mkdir()
    with (home / waterbirds.TABLE).open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(_COLUMNS)
        for number, row in enumerate(_rows()):  # crops lie within the split's strip of columns
            photo, (start, end) = photos[row.place], STRIPS[row.split]
            top = _draw(photo.shape[0] - SIZE + 1, "top", row.index, row.place)
            left = start + _draw(end - start - SIZE + 1, "left", row.index, row.place)
            image = _compose(digits[row.index], photo[top : top + SIZE, left : left + SIZE])
            # Not compressed: what a compressor makes of them depends on its release and on the processor.
            Image.fromarray(image).save(home / row.file, format="PNG", compress_level=0)
            codes = (row.label, SPLITS.index(row.split), row.place)
            table.writerow((number, row.file, *codes, f"{PLACES[row.place]}.jpg", row.digit))


def _rows() -> Iterator[_Row]:
    """Train: the first 95 % of each class, in drawn order, stand on the class's own background, the rest on the other.

    Val and test: each digit stands on both.
    """
    _, targets = _digits()
    parts = _partition()
    for label in (0, 1):
        own = [i for i in parts["train"] if (targets[i] in RARE) == label]
        own.sort(key=lambda i: _draw(2**64, "place", i))
        agreeing = round(AGREEMENT * len(own))
        for position, i in enumerate(own):
            yield _Row("train", i, int(targets[i]), label if position < agreeing else 1 - label)
    for split in ("val", "test"):
        for i in parts[split]:
            yield from (_Row(split, i, int(targets[i]), place) for place in (0, 1))


@functools.cache
def _partition() -> dict[str, tuple[int, ...]]:
    """Which of the 1,797 digits serve what; every digit serves once."""
    _, targets = _digits()
    parts: dict[str, list[int]] = {"pretraining": [], "train": [], "val": [], "test": []}
    for digit in range(10):
        left = sorted(np.flatnonzero(targets == digit).tolist(), key=lambda i: _draw(2**64, "part", i))
        for part, count in _PER_DIGIT.items():
            parts[part] += left[:count]
            left = left[count:]
        parts["train"] += left
    return {part: tuple(sorted(members)) for part, members in parts.items()}


def _compose(digit: Floats, background: Pixels) -> Pixels:
    """Ink of opacity value / 16 over a background [32, 32, 3] or a colour [3]."""
    opacity = _opacity(digit)[:, :, None]
    return np.rint(background * (1 - opacity) + INK * opacity).astype(np.uint8)


def _opacity(digit: Floats) -> Floats:
    return np.kron(digit, np.ones((SIZE // 8, SIZE // 8))) / 16


def _draw(count: int, *what: object) -> int:
    """A number in 0..count-1 that depends on nothing but `what`."""
    digest = hashlib.sha256(f"{VERSION}:{what}".encode()).digest()
    return int.from_bytes(digest[:16], "big") % count


@functools.cache
def _digits() -> tuple[Floats, Ints]:
    """scikit-learn's digits [1797, 8, 8] in 0..16, and what they are [1797]."""
    from sklearn.datasets import load_digits  # costs a second: only where pixels are made

    bunch = load_digits()
    return bunch.images, bunch.target.astype(np.int64)
