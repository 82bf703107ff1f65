"""A tiny copy of every dataset in its own format. A newcomer to DATASETS adds its tree to `TREES`."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.data.trees import VARIANTS, picture, table
from trainables.contracts.bench import PER_CELL
from trainables.data.base import SPLITS
from trainables.data.datasets.dlab import SUBSETS

SIZE = (32, 32)


def _waterbirds(root: Path) -> dict[str, Any]:
    cells = itertools.product(range(3), range(2), range(2), range(PER_CELL))
    rows = [(f"{y:03d}.Bird/{split}{y}{place}{i}.jpg", y, split, place) for split, y, place, i in cells]
    table(root / "metadata.csv", ("img_filename", "y", "split", "place"), rows)
    for name, *_ in rows:
        picture(root / name, size=SIZE)
    return {"groups": "cell"}


def _geode(root: Path) -> dict[str, Any]:
    places = {"Africa": "Nigeria", "Europe": "Spain"}
    rows = [
        (f"{label}/{country}_{label}_{i}.jpg", label, region, country)
        for label in ("bag", "stall", "front_door")
        for region, country in places.items()
        for i in range(20)
    ]
    table(root / "index.csv", ("file_path", "object", "region", "ip_country"), rows)
    for name, *_ in rows:
        picture(root / "images" / name, size=SIZE)
    return {"groups": "class"}


def _utkface(root: Path) -> dict[str, Any]:
    for i in range(400):  # the cut is by content: a tenth for validation, and ten cells to fill
        name = f"{1 + i % 80}_{i % 2}_{i // 2 % 5}_2017{i:013d}.jpg.chip.jpg"
        picture(root / name, name)
    return {"groups": "attribute"}


def _aircraft(root: Path) -> dict[str, Any]:
    (root / "images").mkdir()
    (root / "variants.txt").write_text("\n".join(VARIANTS) + "\n")
    for number, split in enumerate(SPLITS):
        ids = [f"{number}{k:03d}{i:03d} {label}" for k, label in enumerate(VARIANTS) for i in range(PER_CELL)]
        (root / f"images_variant_{split}.txt").write_text("\n".join(ids) + "\n")
        for line in ids:
            picture(root / "images" / f"{line[:7]}.jpg", line, size=SIZE)
    return {"groups": "class"}


def _folder(root: Path) -> dict[str, Any]:
    for split, label, i in itertools.product(SPLITS, ("cat", "dog"), range(PER_CELL)):
        picture(root / split / label / f"{i}.png", f"{split} {label} {i}", size=SIZE)
    return {"groups": "class"}


def _csv(root: Path) -> dict[str, Any]:
    cells = itertools.product(SPLITS, ("cat", "dog"), ("indoors", "outdoors"), range(PER_CELL))
    rows = [(f"{split}-{label}-{place}-{i}.png", label, place, split) for split, label, place, i in cells]
    table(root / "mine.csv", ("image", "label", "attribute", "split"), rows)
    for name, *_ in rows:
        picture(root / name, name, size=SIZE)
    return {"groups": "attribute"}


def _dlab(root: Path) -> dict[str, Any]:
    groups = [f"target_race_{name}" for name in ("asian", "black", "white")]
    columns = ("comment_id", "text", "hate_speech_score", *(f"target_{subset}" for subset in SUBSETS), *groups)
    rows = [
        (
            i,
            f"they saw {'bad' if i % 2 else 'good'} book {i}",
            1.5 if i % 2 else -1.5,
            True,
            *[False] * 4,
            i % 3 == 0,
            i % 4 < 2,
            True,
        )
        for i in range(200)
    ]
    table(root / "measuring-hate-speech.csv", columns, rows)
    return {"groups": "class"}


def _embedded(root: Path) -> dict[str, Any]:
    return {"groups": "cell", "root": None}


TREES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "aircraft": _aircraft,
    "csv": _csv,
    "digits-on-scenes": _embedded,
    "dlab-hate-speech": _dlab,
    "docstrings": _embedded,
    "folder": _folder,
    "geode": _geode,
    "utkface": _utkface,
    "waterbirds": _waterbirds,
}
