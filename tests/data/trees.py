"""Small trees in the exact formats of the published datasets, with their dirty records inside."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path

from PIL import Image

from trainables.data.base import SPLITS, Dataset

RACELESS_FACES = (
    "39_1_20170116174525125.jpg.chip.jpg",
    "61_1_20170109142408075.jpg.chip.jpg",
    "61_1_20170109150557335.jpg.chip.jpg",
)
COSMETIC_FACES = ("55_0_0_20170116232725357jpg.chip.jpg", "24_0_1_20170116220224657 .jpg.chip.jpg")
VARIANTS = ("707-320", "737-200", "F/A-18", "BAE 146-200", "Boeing 717", "DH-82")


def picture(path: Path, shows: str | None = None, *, mode: str = "RGB", size: tuple[int, int] = (8, 8)) -> Path:
    """An image whose pixels depend on `shows`: other words, other bytes.

    If not given, on the end of its path: the beginning is pytest's, and differs from run to run.
    """
    seed = hashlib.sha256((shows or "/".join(path.parts[-3:])).encode()).digest()
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size)
    image.putdata([tuple(seed[(i + k) % 32] ^ (i * 37 % 256) for k in range(3)) for i in range(size[0] * size[1])])
    image.convert(mode).save(path, format="PNG" if mode == "RGBA" or path.suffix == ".png" else "JPEG")
    return path


def table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def ids(dataset: Dataset, split: str) -> set[str]:
    return set(dataset.ids(split))


def listed(dataset: Dataset) -> list[tuple[str, ...]]:
    """The ids of every split, in order."""
    return [dataset.ids(split) for split in SPLITS]


def home(dataset: Dataset) -> dict[str, str]:
    """id -> split; an id in two splits fails."""
    for a, b in combinations(SPLITS, 2):
        assert not ids(dataset, a) & ids(dataset, b)
    return {name: split for split in SPLITS for name in dataset.ids(split)}


def told(dataset: Dataset) -> dict[str, tuple[str, str]]:
    """id -> label and attribute, by name."""
    return {
        name: (
            dataset.classes[part.labels_N[i]],
            dataset.attributes[part.attributes_N[i]] if part.attributes_N is not None else "",
        )
        for split, part in dataset.splits.items()
        for i, name in enumerate(dataset.ids(split))
    }
