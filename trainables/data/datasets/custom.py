"""A user's own images: a table that names them (`csv`), or a folder for each class (`folder`).

`csv`: `data.root` is the table, or a folder with one `*.csv`; paths are relative to the table's folder.
Columns: image, label, and, where there are such, attribute and split (`data.columns` renames them).

`folder`: `root/CLASS/**/image.jpg`, or `root/{train,val,test}/CLASS/**/image.jpg`.

Splits that are given are kept. Val or test, where they are not, are cut from train by a hash of each
file's bytes, so that copies of an image stay together and a new image moves no other one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from trainables.data.base import SPLITS, BadRecord, Dataset
from trainables.data.examples import Example, conflicts, inside, parsed, present, read_table, splits
from trainables.data.splitting import SHARES, by_content
from trainables.errors import UserError
from trainables.task import Columns, DataConfig

SPELLINGS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm"})

_SPLIT_OF = {spelling: split for split, spellings in SPELLINGS.items() for spelling in spellings}


def load_table(config: DataConfig) -> Dataset:
    """The images that a table names.

    Raises:
        UserError: no table, a column is missing, a split is empty, one class only, or too many rows are bad.
    """
    table = _table(config)
    columns = _columns(table, config.columns)
    rows = read_table(table, (columns.image, columns.label))
    examples, bad = parsed(rows, partial(_example, table.parent, columns))
    return _dataset(config, table.parent, table, examples, bad, has_attribute=columns.attribute is not None)


def load_folder(config: DataConfig) -> Dataset:
    """The images of a folder of classes.

    Raises:
        UserError: no folder, a split is empty, one class only, or too many files lie in no class's folder.
    """
    root = _existing(config)
    if not root.is_dir():
        raise UserError(f"data.root is '{config.root}', a file. For a table of images, set data.name to 'csv'.")
    level = split_level(root)
    tops: list[tuple[str | None, Path]] = [*level.items()] if level else [(None, root)]
    examples = []
    for split, top in tops:
        for folder in folders(top):
            for path in image_files(folder, deep=True):
                name = path.relative_to(root).as_posix()
                examples.append(Example(name, name, path, folder.name, split=split))
    stray = (path for folder in (root, *level.values()) for path in image_files(folder, deep=False))
    bad = [BadRecord(path.relative_to(root).as_posix(), "lies in no class's folder") for path in stray]
    return _dataset(config, root, root, examples, bad, has_attribute=False)


def split_level(root: Path) -> dict[str, Path]:
    """The folders train, val and test of `root`; empty where its folders are classes.

    Raises:
        UserError: folders of splits stand beside other folders, so that it may be either.
    """
    tops = folders(root)
    level = {_SPLIT_OF[f.name.casefold()]: f for f in tops if f.name.casefold() in _SPLIT_OF}
    if "train" not in level or (len(level) == 1 and len(tops) > 1):  # a class may be called train
        return {}
    if len(level) < len(tops):
        others = ", ".join(folder.name for folder in tops if folder not in level.values())
        raise UserError(f"{root}: beside {', '.join(f.name for f in level.values())} there is {others}. Move it away.")
    return level


def _dataset(
    config: DataConfig, root: Path, source: Path, examples: list[Example], bad: list[BadRecord], *, has_attribute: bool
) -> Dataset:
    there, all_bad = present(examples, bad, config, source)
    # Names of all that are listed: a missing file must not change what the others' labels mean.
    classes = _sorted({example.label for example in examples})
    if len(classes) < 2:
        raise UserError(f"{source}: there is {len(classes)} class in it. At least two are needed.")
    attributes = _sorted({str(example.attribute) for example in examples}) if has_attribute else ()
    complete, clashes, notes = _completed(root, there)
    return Dataset(
        name=config.name,
        root=root,
        classes=classes,
        attributes=attributes,
        splits=splits(source, complete, classes, attributes),
        bad=(*all_bad, *clashes),
        notes=notes,
        licence="the user's own",
    )


def _completed(root: Path, examples: list[Example]) -> tuple[list[Example], list[BadRecord], tuple[str, ...]]:
    """The examples, with splits that are not given cut from train; copies that disagree; and a note on the cut."""
    given = {example.split for example in examples if example.split}
    absent = [split for split in SPLITS if split not in given]
    if not absent or (given and "train" in absent):
        return examples, [], ()  # nothing to cut, or nothing to cut from
    pool = [example for example in examples if example.split in (None, "train")]
    others = [example for example in examples if example.split not in (None, "train")]
    # Train and the absent parts, in the proportions of `SHARES`.
    parts = {split: share for split, share in SHARES.items() if split == "train" or split in absent}
    shares = {split: share / sum(parts.values()) for split, share in parts.items()}
    cut, hashes = by_content(root, pool, shares)
    described = ", ".join(f"{split} {share:.1%}" for split, share in shares.items())
    note = f"{' and '.join(absent)} not given: cut by a hash of each file's bytes into {described}"
    return [*others, *cut], conflicts(cut, hashes), (note,)


# --- tables


def _table(config: DataConfig) -> Path:
    root = _existing(config)
    if root.is_file():
        return root
    tables = sorted(path for path in root.glob("*.csv") if not path.name.startswith("."))
    if len(tables) == 1:
        return tables[0]
    there = ", ".join(path.name for path in tables) or "none"
    raise UserError(f"data.root is '{config.root}', a folder with these tables: {there}. Set it to the one CSV file.")


def _columns(table: Path, columns: Columns) -> Columns:
    """`columns`, with a column of the table or None for attribute and split."""
    named = [name for name in (columns.image, columns.label, columns.attribute, columns.split) if name]
    first = next(read_table(table, named), None)
    if first is None:
        raise UserError(f"{table} has no rows.")
    usual = {name: name for name in ("attribute", "split") if name in first[1]}
    return columns.model_copy(update=usual | columns.model_dump(exclude_none=True))


def _example(root: Path, columns: Columns, place: str, record: dict[str, str]) -> Example:
    path = inside(root, record[columns.image])
    for column in (columns.label, columns.attribute):
        if column and not record[column]:
            raise ValueError(f"{column} is empty")
    split = record[columns.split] if columns.split else None
    if split is not None and split.casefold() not in _SPLIT_OF:
        raise ValueError(f"split is '{split}'. Use one of: {', '.join(SPLITS)}")
    return Example(
        place=place,
        id=path.relative_to(root).as_posix(),
        path=path,
        label=record[columns.label],
        attribute=record[columns.attribute] if columns.attribute else None,
        split=None if split is None else _SPLIT_OF[split.casefold()],
    )


# --- folders


def folders(top: Path) -> list[Path]:
    """Those in `top`, by name; hidden ones are the system's, not the user's."""
    return sorted(path for path in top.iterdir() if path.is_dir() and not path.name.startswith("."))


def image_files(folder: Path, *, deep: bool) -> Iterator[Path]:
    """Visible files, by their endings. Links to folders are not followed: one may lead back to where it lies."""
    for here, inner, names in os.walk(folder):
        inner[:] = sorted(name for name in inner if deep and not name.startswith("."))
        for name in sorted(names):
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield Path(here, name)


# --- tables and folders


def _existing(config: DataConfig) -> Path:
    if config.root is None:
        kind = "table" if config.name == "csv" else "folder"
        raise UserError(f"data.root is missing. Set it to your {kind} of images.")
    root = config.root.expanduser().resolve()
    if not root.exists():
        raise UserError(f"data.root is '{config.root}', which does not exist.")
    return root


def _sorted(names: Iterable[str]) -> tuple[str, ...]:
    """By value where all are whole numbers, so that 10 comes after 9."""
    ordered = sorted(names)
    return tuple(sorted(ordered, key=int) if all(name.isdecimal() for name in ordered) else ordered)
