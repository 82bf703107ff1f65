"""Waterbirds in the formats of group_DRO and WILDS: `metadata.csv` beside folders of images.

Source: Sagawa et al., "Distributionally Robust Neural Networks for Group Shifts", 2020, section 3.1.
Columns: `img_filename`, `y` (0 landbird, 1 waterbird), `place` (0 land, 1 water), `split` (0 train, 1 val, 2 test).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainables.data.base import SPLITS, BadRecord, Dataset, Split
from trainables.data.records import find_root, inside, read_table, settle
from trainables.errors import UserError
from trainables.task import DataConfig

FOLDERS = ("waterbird_complete95_forest2water2", "waterbirds_v1.0")
TABLE = "metadata.csv"
COLUMNS = ("img_filename", "y", "split", "place")
# Cells (landbird|land, landbird|water, waterbird|land, waterbird|water) of the published draw.
OFFICIAL = {"train": (3498, 184, 56, 1057), "val": (467, 466, 133, 133), "test": (2255, 2255, 642, 642)}

_FETCH = (
    "Fetch waterbird_complete95_forest2water2 (group_DRO) or waterbirds_v1.0 (WILDS), unpack it, "
    f"and set data.root to that folder or to its parent; {TABLE} must be in it."
)


@dataclass(frozen=True)
class _Row:
    line: int
    name: str
    path: Path
    label: int
    split: int
    place: int


def load(config: DataConfig) -> Dataset:
    """The Waterbirds copy below `config.root`; cells are `2 * label + place`.

    Raises:
        UserError: no copy is there, its table lacks a column, a split is empty, or too many rows are bad.
    """
    root = find_root(config, folders=FOLDERS, marker=TABLE, fetch=_FETCH)
    rows, bad = _read(root)
    notes = _redrawn(rows)
    present = [row for row in rows if row.path.is_file()]
    bad += [BadRecord(f"{TABLE}:{row.line}", f"no such file: {row.name}") for row in rows if not row.path.is_file()]
    settle(bad, len(present) + len(bad), config, root / TABLE)
    splits = {name: _split(root, name, [row for row in present if row.split == i]) for i, name in enumerate(SPLITS)}
    return Dataset(
        name=config.name,
        root=root,
        classes=("landbird", "waterbird"),
        attributes=("land", "water"),
        splits=splits,
        shared_labels=True,
        bad=tuple(bad),
        notes=notes,
        licence="images of CUB-200-2011 and Places: research use only",
    )


def _read(root: Path) -> tuple[list[_Row], list[BadRecord]]:
    rows: list[_Row] = []
    bad: list[BadRecord] = []
    first_line: dict[str, int] = {}
    for line, record in read_table(root / TABLE, COLUMNS):
        try:
            row = _parse(root, line, record)
            if row.name in first_line:
                raise ValueError(f"lists {row.name} again, first in line {first_line[row.name]}")
        except ValueError as error:
            bad.append(BadRecord(f"{TABLE}:{line}", str(error)))
        else:
            first_line[row.name] = line
            rows.append(row)
    return rows, bad


def _parse(root: Path, line: int, record: dict[str, str]) -> _Row:
    name = record["img_filename"]
    return _Row(
        line=line,
        name=name,
        path=inside(root, name),
        label=_code("y", record["y"], 2),
        split=_code("split", record["split"], 3),
        place=_code("place", record["place"], 2),
    )


def _code(column: str, text: str, count: int) -> int:
    """A code in 0..count-1; '1.0' passes too, since spreadsheets write it."""
    for code in range(count):
        if text in (f"{code}", f"{code}.0"):
            return code
    raise ValueError(f"{column} is '{text}'. Use one of: {', '.join(map(str, range(count)))}")


def _redrawn(rows: list[_Row]) -> tuple[str, ...]:
    """Notes on a set of the published size whose cells are not the published ones."""
    cells = {name: tuple(_cells(rows, i)) for i, name in enumerate(SPLITS)}
    if any(sum(cells[name]) != sum(OFFICIAL[name]) for name in SPLITS):
        return ()
    return tuple(_difference(name, cells[name]) for name in SPLITS if cells[name] != OFFICIAL[name])


def _cells(rows: list[_Row], split: int) -> Iterator[int]:
    cells = [2 * row.label + row.place for row in rows if row.split == split]
    return (cells.count(cell) for cell in range(4))


def _difference(split: str, cells: tuple[int, ...]) -> str:
    given, published = (" / ".join(map(str, counts)) for counts in (cells, OFFICIAL[split]))
    return (
        f"a re-drawn variant of Waterbirds: the cells of {split} are {given}, the published ones {published}. "
        "Numbers are not comparable with the literature's."
    )


def _split(root: Path, name: str, rows: list[_Row]) -> Split:
    if not rows:
        raise UserError(f"{root / TABLE}: split {name} ({SPLITS.index(name)}) has no examples. All three are needed.")
    return Split(
        name=name,
        paths=tuple(row.path for row in rows),
        labels_N=np.array([row.label for row in rows], dtype=np.int64),
        attributes_N=np.array([row.place for row in rows], dtype=np.int64),
    )
