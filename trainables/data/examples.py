"""What the loaders of datasets share: from rows or files to examples, and from these to the splits."""

from __future__ import annotations

import errno
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TypeVar

import numpy as np

from trainables.data import DataConfig
from trainables.data.base import SPLITS, BadRecord, Split
from trainables.data.contents import identical
from trainables.errors import DataAway, UserError, few

R = TypeVar("R")


@dataclass(frozen=True)
class Example:
    """One image, or the `text` that is in the file `path`.

    `place` is where a person finds it (`index.csv:12`), `id` its name within the dataset.

    Where there are several attributes it has a value of each, and their `joint` as its attribute. `members` says which
    of the overlapping groups it is in.
    """

    place: str
    id: str
    path: Path
    label: str
    attribute: str | None = None
    split: str | None = None
    values: tuple[str, ...] = ()
    members: tuple[bool, ...] = ()
    text: str | None = None


def find_root(
    config: DataConfig, *, folders: Sequence[str], holds: Callable[[Path], bool], lacks: str, fetch: str
) -> Path:
    """The folder that `holds` the dataset: `data.root` itself, or the first of `folders` below it.

    Raises:
        UserError: no root is given, it does not exist, or no folder holds it: it `lacks` that; says what to fetch.
    """
    if config.root is None:
        raise DataAway(f"data.root is missing, and {config.name} needs your own copy. {fetch}")
    root = config.root.expanduser().resolve()
    if not root.is_dir():
        raise (UserError if root.exists() else DataAway)(
            f"data.root is '{config.root}', which is not a folder. {fetch}"
        )
    for folder in candidates(root, folders):
        if folder.is_dir() and holds(folder):
            return folder
    raise UserError(f"data.root is '{config.root}', and {lacks}. {fetch}")


def find_file(config: DataConfig, name: str, *, folders: Sequence[str], fetch: str) -> Path:
    """The folder that holds the file `name`, as `find_root` finds it."""
    tried = ", ".join([name, *(f"{folder}/{name}" for folder in folders)])
    lacks = f"none of these is in it: {tried}"
    return find_root(config, folders=folders, holds=lambda root: (root / name).is_file(), lacks=lacks, fetch=fetch)


def lies_in(root: Path, folders: Sequence[str], holds: Callable[[Path], bool]) -> bool:
    """Whether `root`, or one of the `folders` below it that an archive unpacks to, `holds` a dataset."""
    return any(holds(folder) for folder in candidates(root, folders))


def candidates(root: Path, folders: Sequence[str]) -> list[Path]:
    """Where a dataset may lie: in `root`, or in a folder below it that its archive unpacks to."""
    return [root, *(root / name for name in folders)]


def parsed(rows: Iterable[tuple[str, R]], parse: Callable[[str, R], Example]) -> tuple[list[Example], list[BadRecord]]:
    """The examples that `parse` makes of rows and their places, the first of each id; and records of all others.

    `parse` raises ValueError on a bad row; the message says what is wrong with it.
    """
    first: dict[str, Example] = {}
    bad, repeated = [], []
    for place, row in rows:
        try:
            example = parse(place, row)
        except ValueError as error:
            bad.append(BadRecord(place, str(error)))
            continue
        if example.id in first:
            repeated.append(BadRecord(place, f"lists {example.id} again, first in {first[example.id].place}"))
        else:
            first[example.id] = example
    return list(first.values()), [*bad, *repeated]


def inside(root: Path, name: str) -> Path:
    """`root / name`, for a relative name that stays below `root`.

    Raises:
        ValueError: the name is empty, absolute, or climbs out with '..'; says which, and what to write.
    """
    if not name or "\0" in name:
        raise ValueError("has no file name")
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or name.startswith("\\"):
        mend = f"write {_below(root, name) or 'what follows after the folder of the images'}"
        raise ValueError(f"names an absolute path '{name}', which is not allowed: {mend}")
    if ".." in PureWindowsPath(name).parts:  # knows both kinds of slash
        raise ValueError(f"names a path '{name}' that leads out of the folder")
    return root / name


def splits(
    source: object,
    examples: Iterable[Example],
    classes: Sequence[str],
    attributes: Sequence[str] = (),
    *,
    bad: Sequence[BadRecord] = (),
) -> dict[str, Split]:
    """The three splits, each in the order of its ids: that of rows, files and folders changes nothing.

    `bad` records are shown where they may be why a split is empty.

    Raises:
        UserError: a split has no examples.
    """
    parts: dict[str, list[Example]] = {name: [] for name in SPLITS}
    for example in sorted(examples, key=lambda example: example.id):
        parts[example.split or ""].append(example)
    for name, part in parts.items():
        if not part:
            needed = f"All of {', '.join(SPLITS)} are needed."
            raise UserError(f"{source}: split {name} has no examples. {needed}{left_out(bad)}")
    label_of, attribute_of = ({name: i for i, name in enumerate(names)} for names in (classes, attributes))
    return {name: _split(name, part, label_of, attribute_of) for name, part in parts.items()}


def present(
    examples: Iterable[Example], bad: Sequence[BadRecord], config: DataConfig, source: object
) -> tuple[list[Example], tuple[BadRecord, ...]]:
    """The examples whose file is there; and `bad`, with a record for each of the others.

    Raises:
        UserError: as `settle` does; or no file is there.
    """
    there: list[Example] = []
    missing = []
    folders: dict[Path, dict[str, str]] = {}
    for example in examples:
        if _is_file(example.path):
            there.append(example)
        else:
            missing.append(BadRecord(example.place, f"no such file: {example.id}{_meant(example, folders)}"))
    dropped = sum(record.dropped for record in [*bad, *missing])
    settle([*bad, *missing], len(there) + dropped, config, source)
    if missing and not there:
        raise UserError(f"{source}: none of its images is there.{left_out([*missing, *bad])}")
    return there, (*bad, *missing)


def left_out(bad: Iterable[BadRecord]) -> str:
    """The first of the dropped ones, to end an error with that they may be the reason of."""
    lines = [f"{record.place}: {record.problem}" for record in bad if record.dropped]
    heading = f" {len(lines)} records are bad, and left out:" if lines else ""
    return "\n  ".join([heading, *map(str, few(lines, 5))])


def alike(name: str) -> str:
    """The same text for names that only a computer tells apart: in another case, or another form of Unicode."""
    return name.casefold() if name.isascii() else unicodedata.normalize("NFKC", name).casefold()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise UserError(f"{path} cannot be looked at: {error.strerror}. Mend that and start again.") from error


def _below(root: Path, name: str) -> str:
    """The longest end of an absolute name that is a file below `root`, in quotes; "" where there is none."""
    parts = PureWindowsPath(name).parts  # knows both kinds of slash
    ends = ("/".join(parts[i:]) for i in range(1, len(parts)) if ".." not in parts[i:])
    return next((f"'{end}', which is there" for end in ends if _is_file(root / end)), "")


def _meant(example: Example, folders: dict[Path, dict[str, str]]) -> str:
    """What to write for a missing file whose name is nearly that of one that is there; else "".

    `folders` remembers what lies where.
    """
    folder, name = example.path.parent, example.path.name
    if "\\" in name:
        other = PureWindowsPath(example.id).as_posix()
        there = _is_file(folder / PureWindowsPath(name).as_posix())
        return f"; write '{other}', which is there" if there else f"; write '/' between folders: '{other}'"
    if folder not in folders:
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        folders[folder] = {alike(name): name for name in names}
    found = folders[folder].get(alike(name))
    if found is None:
        return ""
    differs = "the form of Unicode" if found.casefold() != name.casefold() else "upper and lower case"
    return f"; '{found}' is there, which differs in {differs}: write it as the file is called"


def settle(bad: Sequence[BadRecord], total: int, config: DataConfig, source: object) -> None:
    """Lets a few dropped records pass where the config says `skip`, and refuses more.

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


def check_classes(listed: Iterable[str], left: Iterable[str], bad: Sequence[BadRecord], source: object) -> None:
    """Refuses to go on without a class: a task of fewer classes is another task.

    Raises:
        UserError: a class that is `listed` has none of the images that are `left`; shows the first of the `bad` ones.
    """
    if lost := sorted(set(listed) - set(left)):
        names = f"{'classes' if len(lost) > 1 else 'class'} {', '.join(few(lost))}"
        raise UserError(
            f"{source}: {names} has no image that can be used.{left_out(bad)}\nMend that, or take the class out."
        )


def conflicts(examples: Sequence[Example], digests: Sequence[str | None]) -> list[BadRecord]:
    """Files with the same bytes that are said to show different things. They are kept, all in one split."""
    records = []
    for positions in identical(digests):
        copies = sorted((examples[i] for i in positions), key=lambda example: example.id)
        given = {"label": {e.label for e in copies}, "attribute": {str(e.attribute) for e in copies}}
        given["groups"] = {"".join(map(str, map(int, e.members))) for e in copies}
        differing = [f"{what} ({', '.join(sorted(values))})" for what, values in given.items() if len(values) > 1]
        if differing:
            others, facts = ", ".join(few(copy.id for copy in copies[1:])), " and ".join(differing)
            problem = f"has the same bytes as {others}, and they disagree on {facts}; kept, in one split"
            records.append(BadRecord(copies[0].place, problem, dropped=False))
    return records


def _split(name: str, part: list[Example], label_of: dict[str, int], attribute_of: dict[str, int]) -> Split:
    attributes = [attribute_of[example.attribute or ""] for example in part] if attribute_of else None
    return Split(
        name=name,
        paths=tuple(example.path for example in part),
        labels_N=np.array([label_of[example.label] for example in part], dtype=np.int64),
        attributes_N=None if attributes is None else np.array(attributes, dtype=np.int64),
        ids=tuple(example.id for example in part),
        members_NG=np.array([example.members for example in part], dtype=np.bool_) if part[0].members else None,
        texts=() if part[0].text is None else tuple(example.text or "" for example in part),
    )
