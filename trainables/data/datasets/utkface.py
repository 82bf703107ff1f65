"""UTKFace: a flat folder of faces named `[age]_[gender]_[race]_[time].jpg.chip.jpg`.

Source: Zhang, Song and Qi, "Age Progression/Regression by Conditional Adversarial Autoencoder", 2017; tasks, bins
and 80:20 of "On Fairness of Low-Rank Adaptation of Vision Models", section 4: learn gender or one of nine ages; race
is the attribute, or what `attributes` says: race, gender and age as far as they are not the task.

There is no official split. 765 published files are byte-identical to another one, so the cut is by content:
70:10:20, each file by the hash of its own bytes; no image is on both sides, and none moves another.
"""

from __future__ import annotations

import bisect
import itertools
import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from trainables.data import DataConfig
from trainables.data.base import Dataset, Facet, crossed, joint
from trainables.data.contents import identical
from trainables.data.examples import Example, conflicts, find_root, lies_in, parsed, settle, splits
from trainables.data.splitting import by_content
from trainables.errors import UserError

FOLDERS = ("UTKFace", "utkface")
SUFFIX = ".chip.jpg"
GENDERS = ("male", "female")
RACES = ("White", "Black", "Asian", "Indian", "Others")
EDGES = (0, 10, 20, 30, 40, 50, 60, 70, 80, 200)  # (0, 10], (10, 20], ..., (80, 200]
AGES = tuple(f"{low + 1}-{high}" for low, high in itertools.pairwise(EDGES))
VALUES = {"gender": GENDERS, "race": RACES, "age": AGES}
# Published without a race. They are left out whatever `on_bad` says, and reported.
RACELESS = ("39_1_20170116174525125", "61_1_20170109142408075", "61_1_20170109150557335")

_NAME = re.compile(r"(?P<age>\d{1,3})_(?P<gender>\d)_(?P<race>\d)_(?P<time>\d+)(?P<tail> ?\.?jpg\.chip\.jpg)", re.ASCII)
_FETCH = "Fetch the aligned and cropped faces of UTKFace, unpack them, and set data.root to their folder or its parent."


def fits(root: Path) -> bool:
    """Whether `root` looks like a copy."""
    return lies_in(root, FOLDERS, lambda folder: folder.is_dir() and holds_faces(folder))


def load(config: DataConfig) -> Dataset:
    """The faces below `config.root`; `config.task` says what is learnt, gender (the default) or age.

    Raises:
        UserError: no faces are there, a split is empty, or too many names are bad.
    """
    task, asked = config.task or "gender", config.attributes or ("race",)
    if task in asked or len(set(asked)) < len(asked):
        raise UserError(
            f"data.attributes is [{', '.join(asked)}], and the task is {task}. Use each of the others once."
        )
    lacks = f"no file name in it ends in {SUFFIX}"
    root = find_root(config, folders=FOLDERS, holds=holds_faces, lacks=lacks, fetch=_FETCH)
    names = sorted(name for name in os.listdir(root) if name.endswith(SUFFIX) and not name.startswith("."))
    examples, bad = parsed(((name, name) for name in names), partial(_example, root, task, asked))
    # The three raceless faces are in every copy: they count in the total, and are never a reason to refuse it.
    unforeseen = [record for record in bad if not record.place.startswith(RACELESS)]
    settle(unforeseen, len(examples) + len(bad), config, root)
    cut, hashes = by_content(root, examples)
    classes, attributes = VALUES[task], VALUES[asked[0]]
    facets: tuple[Facet, ...] = ()
    if len(asked) > 1:
        attributes, facets = crossed({name: VALUES[name] for name in asked}, (each.values for each in examples))
    notes = [f"the task is {task}; no official split: 70:10:20, by a hash of each file's bytes"]
    if twins := identical(hashes):
        copies = sum(map(len, twins))
        notes.append(f"{copies} files in {len(twins)} groups have the same bytes; each group is in one split")
    return Dataset(
        name=config.name,
        root=root,
        classes=classes,
        attributes=attributes,
        splits=splits(root, cut, classes, attributes),
        bad=(*bad, *conflicts(cut, hashes)),
        notes=tuple(notes),
        licence="non-commercial research",
        facets=facets,
    )


def holds_faces(folder: Path) -> bool:
    """Whether any name in `folder` ends as UTKFace's names do."""
    with os.scandir(folder) as entries:
        return any(entry.name.endswith(SUFFIX) for entry in entries)


def _example(root: Path, task: str, attributes: Sequence[str], place: str, name: str) -> Example:
    match = _NAME.fullmatch(name)
    if match is None:
        raise ValueError("is not named [age]_[gender]_[race]_[time].jpg.chip.jpg; three published names lack the race")
    age, gender, race = (int(match[part]) for part in ("age", "gender", "race"))
    if gender >= len(GENDERS) or race >= len(RACES) or not EDGES[0] < age <= EDGES[-1]:
        raise ValueError(f"says age {age}, gender {gender}, race {race}. Use 1 to 200, 0 or 1, and 0 to 4")
    # The bins include their upper edge: 10 is the last age of the first, 11 the first of the second.
    shown = {"gender": GENDERS[gender], "age": AGES[bisect.bisect_left(EDGES, age) - 1], "race": RACES[race]}
    values = tuple(shown[attribute] for attribute in attributes)
    if len(values) == 1:
        return Example(place, name, root / name, shown[task], values[0])
    return Example(place, name, root / name, shown[task], joint(values), values=values)
