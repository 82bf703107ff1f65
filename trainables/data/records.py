"""What loaders share: finding the folder, reading a table by column names, and settling bad records."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from trainables.data.base import BadRecord
from trainables.errors import UserError, nearest
from trainables.task import DataConfig

_SHOWN = 5


def find_root(config: DataConfig, *, folders: Sequence[str], marker: str, fetch: str) -> Path:
    """The folder that holds `marker`: `data.root` itself, or the first of `folders` below it.

    Raises:
        UserError: no root is given, it does not exist, or the marker is nowhere; says what to fetch.
    """
    if config.root is None:
        raise UserError(f"data.root is missing, and {config.name} needs your own copy. {fetch}")
    root = config.root.expanduser().resolve()
    if not root.is_dir():
        raise UserError(f"data.root is '{config.root}', which is not a folder. {fetch}")
    for folder in (root, *(root / name for name in folders)):
        if (folder / marker).is_file():
            return folder
    tried = ", ".join([marker, *(f"{name}/{marker}" for name in folders)])
    raise UserError(f"data.root is '{config.root}', and none of these is in it: {tried}. {fetch}")


def read_table(path: Path, required: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a CSV file with their line numbers; columns are found by name, unknown ones are ignored.

    A field that a short row lacks is "".

    Raises:
        UserError: the file cannot be read as UTF-8 CSV, or lacks a required column.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="", strict=True)
            _require_columns(path, reader.fieldnames or (), required)
            for row in reader:
                yield reader.line_num, {name: row[name].strip() for name in row if name}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a CSV file in UTF-8: {error}.") from error


def _require_columns(path: Path, given: Sequence[str], required: Sequence[str]) -> None:
    missing = [name for name in required if name not in given]
    if not missing:
        return
    close = {name: nearest(name, given) for name in missing}
    guesses = "".join(f" Is '{guess}' meant to be '{name}'?" for name, guess in close.items() if guess)
    raise UserError(
        f"{path}:1: column {', '.join(missing)} is missing; the header has: {', '.join(given) or 'nothing'}."
        f"{guesses} Needed: {', '.join(required)}."
    )


def inside(root: Path, name: str) -> Path:
    """`root / name`, for a relative name that stays below `root`.

    Raises:
        ValueError: the name is empty, absolute, or climbs out with '..'; says which.
    """
    if not name or "\0" in name:
        raise ValueError("has no file name")
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or name.startswith("\\"):
        raise ValueError(f"names an absolute path '{name}', which is not allowed")
    if ".." in PureWindowsPath(name).parts:  # knows both kinds of slash
        raise ValueError(f"names a path '{name}' that leads out of the folder")
    return root / name


def settle(bad: Sequence[BadRecord], total: int, config: DataConfig, source: object) -> None:
    """Lets a few dropped records pass where the config says `skip`, and refuses all others.

    Raises:
        UserError: `on_bad` is `fail` and any record was dropped, or more than `max_bad` of all were.
    """
    dropped = [record for record in bad if record.dropped]
    if not dropped or (config.on_bad == "skip" and len(dropped) <= config.max_bad * total):
        return
    shown = "\n".join(f"  {record.place}: {record.problem}" for record in dropped[:_SHOWN])
    more = f"\n  and {len(dropped) - _SHOWN} more" if len(dropped) > _SHOWN else ""
    if config.on_bad == "fail":
        rule = "data.on_bad is 'fail'"
        mend = "Mend them, or set data.on_bad to 'skip' to leave them out."
    else:
        rule = f"data.max_bad allows a share of {config.max_bad:g}"
        mend = "Mend them, or raise data.max_bad."
    raise UserError(f"{source}: {len(dropped)} of {total} records are bad, and {rule}:\n{shown}{more}\n{mend}")
