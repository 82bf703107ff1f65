"""Which dataset lies in a folder, by the files that only it has."""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from trainables.data.datasets import aircraft, custom, geode, utkface, waterbirds
from trainables.data.examples import candidates
from trainables.errors import UserError
from trainables.task import Columns


def recognise(path: Path) -> str:
    """The name, of the DATASETS table, that fits what is at `path`: the published formats first.

    Raises:
        UserError: nothing is there, or nothing fits.
    """
    root = path.expanduser().resolve()
    if root.is_file() and root.suffix.lower() == ".csv":
        return "csv"
    if not root.is_dir():
        raise UserError(f"'{path}' is neither a folder nor a CSV file.")
    for name, fits in _FITS.items():
        if fits(root):
            return name
    raise UserError(f"what is in '{path}' fits no known layout. Name the dataset with --name.")


_FITS: dict[str, Callable[[Path], bool]] = {
    "waterbirds": lambda root: _any(
        root, waterbirds.FOLDERS, lambda folder: _heads(folder / waterbirds.TABLE, waterbirds.COLUMNS)
    ),
    "geode": lambda root: _any(root, geode.FOLDERS, lambda folder: _heads(folder / geode.TABLE, geode.COLUMNS)),
    "aircraft": lambda root: _any(root, aircraft.FOLDERS, lambda folder: (folder / aircraft.NAMES).is_file()),
    "utkface": lambda root: _any(root, utkface.FOLDERS, lambda folder: folder.is_dir() and utkface.holds_faces(folder)),
    "csv": lambda root: any(_heads(table, (Columns().image, Columns().label)) for table in root.glob("*.csv")),
    "folder": lambda root: bool(custom.split_level(root)) or len(custom.folders(root)) > 1,
}


def _any(root: Path, folders: Sequence[str], holds: Callable[[Path], bool]) -> bool:
    return any(holds(folder) for folder in candidates(root, folders))


def _heads(table: Path, columns: Collection[str]) -> bool:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            header = next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError, csv.Error):
        return False
    return set(columns) <= set(header)
