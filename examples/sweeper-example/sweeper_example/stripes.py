"""The dataset: lying or standing stripes on a red or a blue ground, drawn when it is first used.

In train 90 % of what lies is red, and of what stands blue; in val and test it is half and half.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from trainables.data.base import SPLITS, Dataset, Split
from trainables.files import whole_folder
from trainables.task import DataConfig, cache_root

CLASSES, GROUNDS = ("lying", "standing"), ("red", "blue")
PER_CLASS = {"train": 100, "val": 40, "test": 40}
SIZE = 32


def load(config: DataConfig) -> Dataset:
    """The images below `config.root`, or the cache, where they are drawn if they are not there."""
    root = config.root.expanduser().resolve() if config.root else cache_root() / "data" / "stripes-1"
    if not root.exists():
        root.parent.mkdir(parents=True, exist_ok=True)
        with whole_folder(root, over=True) as folder:  # all of it or nothing, if two processes begin at once
            _draw(folder)
    return Dataset("stripes", root, CLASSES, GROUNDS, {name: _split(root, name) for name in SPLITS}, licence="CC0")


def _rows(split: str) -> list[tuple[int, int, int]]:
    """Number, class and ground of every image of a split."""
    n, agreeing = PER_CLASS[split], 0.9 if split == "train" else 0.5
    return [(i, label, label if i < agreeing * n else 1 - label) for label in range(2) for i in range(n)]


def _split(root: Path, name: str) -> Split:
    rows = np.array(_rows(name), dtype=np.int64)
    paths = tuple(root / name / f"{CLASSES[label]}-{i}.png" for i, label, _ in rows)
    return Split(name, paths, rows[:, 1], rows[:, 2])


def _draw(folder: Path) -> None:
    for seed, name in enumerate(SPLITS):
        (folder / name).mkdir()
        for i, label, ground in _rows(name):
            chance = np.random.default_rng([seed, i, label])
            pixels_HW3 = chance.integers(0, 120, (SIZE, SIZE, 3))
            pixels_HW3[:, :, 2 * ground] += 60
            stripes_HW3 = pixels_HW3 if label == 0 else pixels_HW3.swapaxes(0, 1)  # a view: rows or columns
            stripes_HW3[chance.integers(0, 4) :: 4] += 60
            Image.fromarray(pixels_HW3.astype(np.uint8)).save(folder / name / f"{CLASSES[label]}-{i}.png")
