"""Waterbirds in the formats of group_DRO and WILDS: `metadata.csv` beside folders of images.

Source: Sagawa et al., "Distributionally Robust Neural Networks for Group Shifts", 2020, section 3.1.
Columns: `img_filename`, `y` (0 landbird, 1 waterbird), `place` (0 land, 1 water), `split` (0 train, 1 val, 2 test).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from trainables.data import DataConfig
from trainables.data.base import SPLITS, Dataset
from trainables.data.examples import Example, find_file, inside, lies_in, parsed, present, splits
from trainables.data.tables import has_columns, read_table

FOLDERS = ("waterbird_complete95_forest2water2", "waterbirds_v1.0")
TABLE = "metadata.csv"
COLUMNS = ("img_filename", "y", "split", "place")
CLASSES = ("landbird", "waterbird")
PLACES = ("land", "water")
# Cells (landbird|land, landbird|water, waterbird|land, waterbird|water) of the published draw.
OFFICIAL = {"train": (3498, 184, 56, 1057), "val": (467, 466, 133, 133), "test": (2255, 2255, 642, 642)}

_FETCH = (
    "Fetch waterbird_complete95_forest2water2 (group_DRO) or waterbirds_v1.0 (WILDS), unpack it, "
    f"and set data.root to that folder or to its parent; {TABLE} must be in it."
)


def fits(root: Path) -> bool:
    """Whether `root` looks like a copy."""
    return lies_in(root, FOLDERS, lambda folder: has_columns(folder / TABLE, COLUMNS))


def load(config: DataConfig) -> Dataset:
    """The Waterbirds copy below `config.root`; cells are `2 * label + place`.

    Raises:
        UserError: no copy is there, its table lacks a column, a split is empty, or too many rows are bad.
    """
    root = find_file(config, TABLE, folders=FOLDERS, fetch=_FETCH)
    listed, bad = parsed(read_table(root / TABLE, COLUMNS), partial(_example, root))
    examples, all_bad = present(listed, bad, config, root / TABLE)
    return Dataset(
        name=config.name,
        root=root,
        classes=CLASSES,
        attributes=PLACES,
        splits=splits(root / TABLE, examples, CLASSES, PLACES, bad=all_bad),
        shared_labels=True,
        bad=all_bad,
        notes=_other_draw(listed),  # of the table: a missing file does not make it another draw
        licence="images of CUB-200-2011 and Places: research use only",
    )


def _example(root: Path, place: str, row: dict[str, str]) -> Example:
    name = row["img_filename"]
    return Example(
        place=place,
        id=name,
        path=inside(root, name),
        label=CLASSES[_code("y", row["y"], 2)],
        attribute=PLACES[_code("place", row["place"], 2)],
        split=SPLITS[_code("split", row["split"], 3)],
    )


def _code(column: str, text: str, count: int) -> int:
    """A code in 0..count-1; '1.0' passes too, since spreadsheets write it."""
    for code in range(count):
        if text in (f"{code}", f"{code}.0"):
            return code
    raise ValueError(f"{column} is '{text}'. Use one of: {', '.join(map(str, range(count)))}")


def _other_draw(examples: Sequence[Example]) -> tuple[str, ...]:
    """A note on any table whose cells are not the published ones."""
    counts = Counter((e.split, e.label, e.attribute) for e in examples)
    cells = {split: tuple(counts[split, c, a] for c in CLASSES for a in PLACES) for split in SPLITS}
    differing = [
        f"the cells of {split} are {_slashed(cells[split])}, the published ones {_slashed(published)}"
        for split, published in OFFICIAL.items()
        if cells[split] != published
    ]
    if not differing:
        return ()
    return (f"not the published Waterbirds: {'; '.join(differing)}. Numbers are not comparable with the literature's.",)


def _slashed(counts: Sequence[int]) -> str:
    return " / ".join(map(str, counts))
