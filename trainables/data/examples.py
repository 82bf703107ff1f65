"""What the loaders of datasets share: from a folder or a table to examples, and from these to the splits."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from trainables.data.base import SPLITS, BadRecord, Split
from trainables.data.contents import identical
from trainables.errors import UserError, few, nearest
from trainables.task import DataConfig


@dataclass(frozen=True)
class Example:
    """One image: `place` is where a person finds it (`index.csv:12`), `id` its name within the dataset."""

    place: str
    id: str
    path: Path
    label: str
    attribute: str | None = None
    split: str | None = None


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


def splits(
    source: object, examples: Iterable[Example], classes: Sequence[str], attributes: Sequence[str] = ()
) -> tuple[dict[str, Split], dict[str, tuple[str, ...]]]:
    """The three splits and their ids, in the order of the ids: that of rows, files and folders changes nothing.

    Raises:
        UserError: a split has no examples.
    """
    parts: dict[str, list[Example]] = {name: [] for name in SPLITS}
    for example in sorted(examples, key=lambda example: example.id):
        parts[example.split or ""].append(example)
    for name, part in parts.items():
        if not part:
            raise UserError(f"{source}: split {name} has no examples. All of {', '.join(SPLITS)} are needed.")
    label_of, attribute_of = ({name: i for i, name in enumerate(names)} for names in (classes, attributes))
    return (
        {name: _split(name, part, label_of, attribute_of) for name, part in parts.items()},
        {name: tuple(example.id for example in part) for name, part in parts.items()},
    )


def only_present(examples: Sequence[Example]) -> tuple[list[Example], list[BadRecord]]:
    """Those whose file is there, and a record for each of the others."""
    there = [example.path.is_file() for example in examples]
    missing = (example for example, found in zip(examples, there, strict=True) if not found)
    bad = [BadRecord(example.place, f"no such file: {example.id}") for example in missing]
    return [example for example, found in zip(examples, there, strict=True) if found], bad


def only_once(examples: Iterable[Example]) -> tuple[list[Example], list[BadRecord]]:
    """The first of each id, and a record for each repetition."""
    first: dict[str, Example] = {}
    bad = []
    for example in examples:
        if example.id in first:
            bad.append(BadRecord(example.place, f"lists {example.id} again, first in {first[example.id].place}"))
        else:
            first[example.id] = example
    return list(first.values()), bad


def settle(bad: Sequence[BadRecord], total: int, config: DataConfig, source: object) -> None:
    """Lets a few dropped records pass where the config says `skip`, and refuses all others.

    Raises:
        UserError: `on_bad` is `fail` and any record was dropped, or more than `max_bad` of all were.
    """
    dropped = [record for record in bad if record.dropped]
    if not dropped or (config.on_bad == "skip" and len(dropped) <= config.max_bad * total):
        return
    shown = "\n".join(f"  {line}" for line in few((f"{record.place}: {record.problem}" for record in dropped), 5))
    if config.on_bad == "fail":
        rule = "data.on_bad is 'fail'"
        mend = "Mend them, or set data.on_bad to 'skip' to leave them out."
    else:
        rule = f"data.max_bad allows a share of {config.max_bad:g}"
        mend = "Mend them, or raise data.max_bad."
    raise UserError(f"{source}: {len(dropped)} of {total} records are bad, and {rule}:\n{shown}\n{mend}")


def conflicts(examples: Sequence[Example], digests: Sequence[str | None]) -> list[BadRecord]:
    """Files with the same bytes that are said to show different things. They are kept, all in one split."""
    groups = ([examples[i] for i in positions] for positions in identical(digests))
    return [record for group in groups for record in _conflict(sorted(group, key=lambda example: example.id))]


def _conflict(group: list[Example]) -> Iterable[BadRecord]:
    said = {"label": {e.label for e in group}, "attribute": {str(e.attribute) for e in group}}
    differing = [f"{what} ({', '.join(sorted(values))})" for what, values in said.items() if len(values) > 1]
    if differing:
        others = ", ".join(few(example.id for example in group[1:]))
        problem = f"has the same bytes as {others}, and they disagree on {' and '.join(differing)}; kept, in one split"
        yield BadRecord(group[0].place, problem, dropped=False)


def _split(name: str, part: list[Example], label_of: dict[str, int], attribute_of: dict[str, int]) -> Split:
    attributes = [attribute_of[example.attribute or ""] for example in part] if attribute_of else None
    return Split(
        name=name,
        paths=tuple(example.path for example in part),
        labels_N=np.array([label_of[example.label] for example in part], dtype=np.int64),
        attributes_N=None if attributes is None else np.array(attributes, dtype=np.int64),
    )
