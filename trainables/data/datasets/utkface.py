"""UTKFace: a flat folder of faces whose names tell `[age]_[gender]_[race]_[time].jpg.chip.jpg`.

Source: Zhang, Song and Qi, "Age Progression/Regression by Conditional Adversarial Autoencoder", 2017; tasks, bins
and 80:20 of "On Fairness of Low-Rank Adaptation of Vision Models", section 4: learn gender or one of nine ages; race
is the attribute.

There is no official split. 765 published files are byte-identical to another one, so the cut is by content:
70:10:20, each file by the hash of its own bytes; no image is on both sides, and none moves another.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

from trainables.data.base import BadRecord, Dataset
from trainables.data.contents import identical
from trainables.data.examples import Example, conflicts, settle, splits
from trainables.data.splitting import by_content
from trainables.errors import UserError
from trainables.task import DataConfig

FOLDERS = ("UTKFace", "utkface")
SUFFIX = ".chip.jpg"
GENDERS = ("male", "female")
RACES = ("White", "Black", "Asian", "Indian", "Others")
EDGES = (0, 10, 20, 30, 40, 50, 60, 70, 80, 200)  # (0, 10], (10, 20], ..., (80, 200]
AGES = tuple(f"{low + 1}-{high}" for low, high in itertools.pairwise(EDGES))
# Published without a race. They are left out whatever `on_bad` says, and reported.
RACELESS = ("39_1_20170116174525125", "61_1_20170109142408075", "61_1_20170109150557335")

_NAME = re.compile(r"(?P<age>\d{1,3})_(?P<gender>\d)_(?P<race>\d)_(?P<time>\d+)(?P<tail> ?\.?jpg\.chip\.jpg)", re.ASCII)
_FETCH = "Fetch the aligned and cropped faces of UTKFace, unpack them, and set data.root to their folder or its parent."


def load(config: DataConfig) -> Dataset:
    """The faces below `config.root`; `config.task` says what is learnt, gender (the default) or age.

    Raises:
        UserError: no faces are there, a split is empty, or too many names are bad.
    """
    task = config.task or "gender"
    root = _root(config)
    examples, bad = _read(root, task)
    unforeseen = [record for record in bad if not record.place.startswith(RACELESS)]
    settle(unforeseen, len(examples) + len(bad), config, root)
    cut, hashes = by_content(root, examples)
    classes = GENDERS if task == "gender" else AGES
    parts, ids = splits(root, cut, classes, RACES)
    return Dataset(
        name=config.name,
        root=root,
        classes=classes,
        attributes=RACES,
        splits=parts,
        bad=(*bad, *conflicts(cut, hashes)),
        notes=(f"the task is {task}; no official split: 70:10:20, by a hash of each file's bytes", *_twins(hashes)),
        licence="non-commercial research",
        ids=ids,
    )


def holds_faces(folder: Path) -> bool:
    """Whether any name in `folder` ends as UTKFace's names do."""
    with os.scandir(folder) as entries:
        return any(entry.name.endswith(SUFFIX) for entry in entries)


def _root(config: DataConfig) -> Path:
    if config.root is None:
        raise UserError(f"data.root is missing, and {config.name} needs your own copy. {_FETCH}")
    root = config.root.expanduser().resolve()
    for folder in (root, *(root / name for name in FOLDERS)):
        if folder.is_dir() and holds_faces(folder):
            return folder
    raise UserError(f"data.root is '{config.root}', and no file name in it ends in {SUFFIX}. {_FETCH}")


def _read(root: Path, task: str) -> tuple[list[Example], list[BadRecord]]:
    examples: list[Example] = []
    bad: list[BadRecord] = []
    for name in sorted(name for name in os.listdir(root) if name.endswith(SUFFIX) and not name.startswith(".")):
        try:
            examples.append(_parse(root, name, task))
        except ValueError as error:
            bad.append(BadRecord(name, str(error)))
    return examples, bad


def _parse(root: Path, name: str, task: str) -> Example:
    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError("is not named [age]_[gender]_[race]_[time].jpg.chip.jpg; three published names lack the race")
    age, gender, race = (int(found[part]) for part in ("age", "gender", "race"))
    if gender >= len(GENDERS) or race >= len(RACES) or not EDGES[0] < age <= EDGES[-1]:
        raise ValueError(f"tells age {age}, gender {gender}, race {race}. Use 1 to 200, 0 or 1, and 0 to 4")
    label = GENDERS[gender] if task == "gender" else AGES[_bin(age)]
    return Example(name, name, root / name, label, RACES[race])


def _bin(age: int) -> int:
    """The right-closed bin that holds `age`: 10 is the last of the first, 11 the first of the second."""
    return next(i for i, high in enumerate(EDGES[1:]) if age <= high)


def _twins(hashes: list[str | None]) -> Iterator[str]:
    groups = identical(hashes)
    if groups:
        yield f"{sum(map(len, groups))} files in {len(groups)} groups have the same bytes; each group is in one split"
