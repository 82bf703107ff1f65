"""The dataset: lying or standing stripes on a red or a blue ground, drawn when it is first used.

In train most of what lies is red, and of what stands blue; in val and test it is half and half.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from trainables.data import DataConfig
from trainables.data.base import SPLITS, Dataset, Split
from trainables.files import cache_root, whole_folder

CLASSES, GROUNDS = ("lying", "standing"), ("red", "blue")
PER_CLASS = {"train": 100, "val": 40, "test": 40}
SIZE = 32


def load(config: DataConfig) -> Dataset:
    """The images below `config.root`, or the cache, where they are drawn if they are not there."""
    home = config.root.expanduser().resolve() if config.root else cache_root() / "data" / "stripes"
    root, agreement = home / f"{config.agreement:g}", config.agreement
    if not root.exists():
        home.mkdir(parents=True, exist_ok=True)
        with whole_folder(root, over=True) as folder:  # all of it or nothing, if two processes begin at once
            _draw(folder, agreement)
    parts = {name: _split(root, name, agreement) for name in SPLITS}
    return Dataset("stripes", root, CLASSES, GROUNDS, parts, licence="CC0")


def _rows(split: str, agreement: float) -> list[tuple[int, int, int]]:
    """Number, class and ground of every image of a split."""
    n, agreeing = PER_CLASS[split], agreement if split == "train" else 0.5
    return [(i, label, label if i < agreeing * n else 1 - label) for label in range(2) for i in range(n)]


def _split(root: Path, name: str, agreement: float) -> Split:
    rows = np.array(_rows(name, agreement), dtype=np.int64)
    paths = tuple(root / name / f"{CLASSES[label]}-{i}.png" for i, label, _ in rows)
    return Split(name, paths, rows[:, 1], rows[:, 2])


def _draw(folder: Path, agreement: float) -> None:
    for seed, name in enumerate(SPLITS):
        (folder / name).mkdir()
        for i, label, ground in _rows(name, agreement):
            chance = np.random.default_rng([seed, i, label])
            pixels_HW3 = chance.integers(0, 120, (SIZE, SIZE, 3))
            pixels_HW3[:, :, 2 * ground] += 60
            stripes_HW3 = pixels_HW3 if label == 0 else pixels_HW3.swapaxes(0, 1)  # a view: rows or columns
            stripes_HW3[chance.integers(0, 4) :: 4] += 60
            Image.fromarray(pixels_HW3.astype(np.uint8)).save(folder / name / f"{CLASSES[label]}-{i}.png")
