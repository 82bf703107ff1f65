"""Which dataset lies in a folder, by the files that only it has; and the settings that it is loaded with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from trainables.data import DATASETS, Columns, DataConfig
from trainables.data.datasets import columns, custom
from trainables.data.datasets.tree import folders
from trainables.data.tables import ENDINGS, has_columns
from trainables.errors import UserError
from trainables.options import ELSEWHERE

GENERAL = ("csv", "folder")


def recognise(path: Path) -> str:
    """The name, of the DATASETS table, that fits what is at `path`: a user's own table or folder last.

    Raises:
        UserError: nothing is there, or nothing fits.
    """
    root = path.expanduser().resolve()
    if root.is_file() and root.suffix.lower() in ENDINGS:
        return "csv"
    if not root.is_dir():
        raise UserError(f"'{path}' is neither a folder nor a table ({', '.join(ENDINGS)}).")
    lines = DATASETS.sound
    for name in sorted(lines, key=lambda name: name in GENERAL):  # what fits nearly anything comes last
        fits = lines[name].fits
        if fits is not None and fits.load()(root):
            return name
    raise UserError(f"what is in '{path}' fits no known layout. Name the dataset with --name.")


def configure(
    path: Path, name: str | None = None, given: Mapping[str, str] = MappingProxyType({}), task: str | None = None
) -> tuple[DataConfig, tuple[str, ...]]:
    """The settings for what is at `path`, and a line on each column of a table.

    `name`, `task` and what is `given` of the columns are the user's words.

    Raises:
        UserError: as `recognise` and `columns.guess` do; or several tables are there, or none for the columns `given`.
    """
    name = name or recognise(path)
    settings: dict[str, Any] = {"name": name, "root": path} | ({"task": task} if task else {})
    options = {option.name for option in DATASETS[name].options} if name in DATASETS else set()
    if "attributes" in options and given.keys() == {"attribute"}:
        return _config(settings | {"attributes": given["attribute"].split("+")}), ()
    if name != "csv":
        if given:
            raise UserError(f"--columns is for tables, and this is {name}. Name the table itself.")
        return _config(settings), ()
    root = path.expanduser().resolve()
    table = _table(root) if root.is_dir() else root
    if not table.is_file():
        raise UserError(f"'{path}' is neither a folder nor a table ({', '.join(ENDINGS)}).")
    guessed = columns.guess(table, given)
    if root.is_dir() and custom.split_in(table) is None:
        settings["root"] = path / table.name
    settings |= {"columns": guessed.columns, "images": guessed.images, "partition": guessed.partition}
    return _config(settings), guessed.lines


def _config(settings: Mapping[str, Any]) -> DataConfig:
    try:
        return DataConfig.model_validate(settings)
    except ValidationError as error:
        told = [(".".join(map(str, e["loc"])), e["type"] == ELSEWHERE, e["msg"]) for e in error.errors()]
        raise UserError("\n".join(f"data.{key}{'' if whole else ':'} {msg}" for key, whole, msg in told)) from None


def _table(folder: Path) -> Path:
    """The one table of a folder, or the first of those that stand for its splits."""
    found = [table for table in folder.glob("*.csv") if has_columns(table, (Columns().image, Columns().label))]
    found = sorted(found) or columns.tables(folder)
    if len(found) > 1 and len({custom.split_in(table) for table in found} - {None}) < len(found):
        raise UserError(f"'{folder}' has several tables: {', '.join(table.name for table in found)}. Name the one.")
    if not found:
        raise UserError(f"'{folder}' has no table of images. Name the table itself.")
    return found[0]


def fits_table(root: Path) -> bool:
    """Whether there is a user's table of images in `root`."""
    found = root.glob("*.csv")
    return any(has_columns(table, (Columns().image, Columns().label)) for table in found) or bool(columns.tables(root))


def fits_folder(root: Path) -> bool:
    """Whether `root` has folders of a user's classes or splits."""
    return bool(custom.split_level(root)) or len(folders(root)) > 1
