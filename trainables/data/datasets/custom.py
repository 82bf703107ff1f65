"""A user's own images: a table that names them (`csv`), or a folder for each class (`folder`); or a table of texts.

`csv`: `data.root` is the table, or a folder with one, or with one for each split (`faces_train.csv`, `faces_val.csv`).
Paths are relative to `data.images`, or else to the table's folder.
Columns: image (or `data.columns.text`: the texts themselves), label, and, where there are such, attribute and split
(`data.columns` renames them). Several attributes make joint values and cells of all of them; columns of 0 and 1 make
groups that may overlap.

`folder`: `root/CLASS/**/image.jpg`, or `root/{train,val,test}/CLASS/**/image.jpg`.

Splits that are given are kept. Val or test, where they are not, are cut from train by a hash of each
file's bytes, so that copies of an image stay together and a new image moves no other one.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from trainables.data import Columns, DataConfig
from trainables.data.base import SPLITS, BadRecord, Dataset, Facet, crossed, joint
from trainables.data.datasets.columns import guess
from trainables.data.datasets.tree import Tree, folders
from trainables.data.doubts import doubts
from trainables.data.examples import Example, check_classes, conflicts, inside, left_out, parsed, present, splits
from trainables.data.splitting import SHARES, SPELLINGS, by_content
from trainables.data.tables import header, profile, quoted, read_table
from trainables.errors import DataAway, UserError, few

# As tables write who is in a group; CelebA has 1 and -1.
_MEMBER = dict.fromkeys(("1", "1.0", "true", "yes"), True) | dict.fromkeys(("0", "0.0", "-1", "false", "no"), False)
_CODES = dict(zip("012", SPLITS, strict=True))
_SPLIT_OF = {spelling: split for split, spellings in SPELLINGS.items() for spelling in spellings}


def load_table(config: DataConfig) -> Dataset:
    """The images that a table names, or the texts in it.

    Raises:
        UserError: no table, a column is missing or twice there, a split is empty, one class only, or too many rows
            are bad.
    """
    tables = _tables(config)
    source = next(iter(tables))
    columns = _columns(source, config)
    root = source.parent if config.images is None else _folder(source.parent / config.images.expanduser())
    listed = _partition(source.parent / config.partition.expanduser()) if config.partition else None
    rows = ((place, (row, split)) for path, split in tables.items() for place, row in read_table(path, columns.used))
    examples, bad = parsed(rows, partial(_example, root, columns, listed))
    if not examples and not bad:
        raise UserError(f"{source} has no rows.")
    if columns.text:
        examples = _each_its_own(examples)
    known, uncoded, notes = _decoded(source if listed is None else config.partition, examples)
    unused = [note for path in tables for note in _unused(path, columns)]
    return _dataset(config, root, source, known, [*bad, *uncoded], columns=columns, notes=notes + unused)


def load_folder(config: DataConfig) -> Dataset:
    """The images of a folder of classes.

    Raises:
        UserError: no folder, a split or a class is empty, one class only, or too many files are bad.
    """
    root = _existing(config)
    if not root.is_dir():
        raise UserError(f"data.root is '{config.root}', a file. For a table of images, set data.name to 'csv'.")
    level, tree = split_level(root), Tree(root)
    tops: list[tuple[str | None, Path]] = [*level.items()] if level else [(None, root)]
    examples, classes = [], set()
    for split, top in tops:
        classes |= {folder.name for folder in folders(top)}
        for folder in tree.folders(top):
            for path in tree.images(folder):
                name = path.relative_to(root).as_posix()
                examples.append(Example(name, name, path, folder.name, split=split))
    stray = [path for folder in (root, *level.values()) for path in tree.images(folder, deep=False)]
    bad = [BadRecord(path.relative_to(root).as_posix(), "lies in no class's folder") for path in stray]
    return _dataset(config, root, root, examples, [*bad, *tree.bad], classes, notes=tree.notes())


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
    config: DataConfig,
    root: Path,
    source: Path,
    examples: list[Example],
    bad: list[BadRecord],
    classes: Iterable[str] = (),
    *,
    columns: Columns | None = None,
    notes: Sequence[str] = (),
) -> Dataset:
    there, all_bad = present(examples, bad, config, source)
    # Names of all that are listed: a missing file must not change what the others' labels mean.
    classes = _sorted({*classes, *(example.label for example in examples)})
    if there:
        check_classes(classes, (example.label for example in there), all_bad, source)
    if len(classes) < 2:
        problem = f"there is only {len(classes)} class in it" if classes else "no image in it can be used"
        raise UserError(f"{source}: {problem}. At least two classes are needed.{left_out(all_bad)}")
    names, overlapping = (columns.attributes, columns.groups or ()) if columns else ((), ())
    attributes, facets = _attributes(names, examples)
    sides = {facet.name: facet.values for facet in facets} or {"attribute": attributes}
    members = {name: {example.members[g] for example in examples} for g, name in enumerate(overlapping)}
    one = {name: own[0] for name, own in sides.items() if len(own) == 1}
    alone = [f"every {name} is '{value}': there are no two groups to compare" for name, value in one.items()]
    for name, found in members.items():
        if len(found) == 1:
            alone.append(
                f"{'everybody' if True in found else 'nobody'} is in the group '{name}': it cannot be compared"
            )
    complete, clashes, cut = _completed(root, there)
    return Dataset(
        name=config.name,
        root=root,
        classes=classes,
        attributes=attributes,
        splits=splits(source, complete, classes, attributes, bad=all_bad),
        bad=(*all_bad, *clashes, *doubts(complete, names if facets else (), overlapping)),
        notes=(*cut, *notes, *alone),
        licence="the user's own",
        upright=config.exif != "ignore",
        facets=facets,
        overlapping=overlapping,
    )


def _attributes(names: Sequence[str], examples: Sequence[Example]) -> tuple[tuple[str, ...], tuple[Facet, ...]]:
    """The values of the attribute; of several the joint ones that occur, and each attribute."""
    if len(names) < 2:
        return (_sorted({str(example.attribute) for example in examples}) if names else ()), ()
    values = {name: _sorted({example.values[f] for example in examples}) for f, name in enumerate(names)}
    return crossed(values, (example.values for example in examples))


def _completed(root: Path, examples: list[Example]) -> tuple[list[Example], list[BadRecord], tuple[str, ...]]:
    """The examples, with splits that are not given cut from train; copies that disagree; and a note on the cut."""
    given = {example.split for example in examples if example.split}
    absent = [split for split in SPLITS if split not in given]
    if not absent or (given and "train" in absent):
        return examples, [], ()  # nothing to cut, or nothing to cut from
    pool = [example for example in examples if example.split in (None, "train")]
    # Train and the absent parts, in the proportions of `SHARES`.
    parts = {split: share for split, share in SHARES.items() if split == "train" or split in absent}
    shares = {split: share / sum(parts.values()) for split, share in parts.items()}
    cut, hashes = by_content(root, pool, shares)
    described = ", ".join(f"{split} {share:.1%}" for split, share in shares.items())
    what = "file's bytes" if pool[0].text is None else "text"
    note = f"{' and '.join(absent)} not given: cut by a hash of each {what} into {described}"
    part_of = {example.id: example for example in cut}
    return [part_of.get(example.id, example) for example in examples], conflicts(cut, hashes), (note,)


# --- tables


def _tables(config: DataConfig) -> dict[Path, str | None]:
    """The table, or those of a folder that are named after different splits; and the split of each."""
    root = _existing(config)
    if root.is_file():
        return {root: None}
    kinds = ("*.csv", "*.jsonl", "*.parquet")
    tables = sorted(path for kind in kinds for path in root.glob(kind) if not path.name.startswith("."))
    if len(tables) == 1:
        return {tables[0]: None}
    splits_of = {path: split_in(path) for path in tables}
    named = {path: split for path, split in splits_of.items() if split is not None}
    if tables and len(set(named.values())) == len(tables) and len(set(map(header, tables))) == 1:
        return dict(named)
    there = ", ".join(path.name for path in tables) or "none"
    raise UserError(f"data.root is '{config.root}', a folder with these tables: {there}. Set it to the one table.")


def split_in(path: Path) -> str | None:
    """The split that a table's name says: train of `faces_train.csv`; None where it says none, or two."""
    found = {_SPLIT_OF[word] for word in re.split(r"[\W_]+", path.stem.casefold()) if word in _SPLIT_OF}
    return found.pop() if len(found) == 1 else None


def _columns(table: Path, config: DataConfig) -> Columns:
    """`columns` with a column of the table, or None, for attribute and split."""
    names = header(table)
    columns: Columns = config.columns
    if not {columns.example, columns.label} <= set(names):
        raise UserError(_other_names(table, columns))
    usual = {name: name for name in ("attribute", "split") if name in names}
    if config.partition is not None:
        if columns.split is not None:
            raise UserError("data.columns.split and data.partition both say the splits. Remove one.")
        usual.pop("split", None)
    return columns.model_copy(update=usual | columns.model_dump(exclude_none=True))


def _other_names(table: Path, columns: Columns) -> str:
    """What is wrong with the columns, and, if they can be guessed by what is in them, what to write."""
    try:
        problem = str(next(read_table(table, (columns.example, columns.label)), ""))
    except UserError as error:
        problem = str(error)
    try:
        said = guess(table, {}).columns.model_dump(exclude_defaults=True)
    except UserError:
        return problem
    pairs = ", ".join(f"{role}: {quoted(name)}" for role, name in said.items())
    return f"{problem} By what is in them, write below data: `columns: {{{pairs}}}`"


def _example(
    root: Path,
    columns: Columns,
    listed: Mapping[str, str] | None,
    place: str,
    found: tuple[dict[str, str], str | None],
) -> Example:
    record, split = found
    text = record[columns.text] if columns.text else None
    if text == "":
        raise ValueError(f"{columns.text} is empty")
    path = inside(root, record[columns.image]) if text is None else root / place.rpartition(":")[0]
    for column in (columns.label, *columns.attributes, *(columns.groups or ())):
        if not record[column]:
            raise ValueError(f"{column} is empty")
    values = tuple(record[column] for column in columns.attributes)
    if listed is not None:
        if record[columns.image] not in listed:
            raise ValueError(f"{record[columns.image]} is not in data.partition")
        split = listed[record[columns.image]]
    elif columns.split:
        split = record[columns.split]
    if split is not None and split.casefold() not in {*_SPLIT_OF, *_CODES}:
        raise ValueError(f"split is '{split}'. Use one of: {', '.join(SPLITS)}")
    return Example(
        place=place,
        id=path.relative_to(root).as_posix() if text is None else place,
        path=path,
        label=record[columns.label],
        attribute=joint(values) if len(values) > 1 else next(iter(values), None),
        split=None if split is None else _SPLIT_OF.get(split.casefold(), split),
        values=values if len(values) > 1 else (),
        members=tuple(_member(column, record[column]) for column in columns.groups or ()),
        text=text,
    )


def _each_its_own(examples: Sequence[Example]) -> list[Example]:
    """Texts named after what they say, with a number behind a copy: rows that move or come change no other name."""
    count: Counter[str] = Counter()
    named = []
    for example in examples:
        name = hashlib.sha256((example.text or "").encode(errors="surrogatepass")).hexdigest()[:16]
        count[name] += 1
        named.append(replace(example, id=name if count[name] == 1 else f"{name}-{count[name]}"))
    return named


def _member(column: str, text: str) -> bool:
    if text.casefold() not in _MEMBER:
        raise ValueError(f"{column} is '{text}', and says who is in a group. Use 1 or 0")
    return _MEMBER[text.casefold()]


def _partition(table: Path) -> dict[str, str]:
    """What the second column of `table` says of each image in its first."""
    names = header(table)
    if len(names) != 2 or names[0] == names[1]:
        raise UserError(f"{table}: a partition has two columns, the image and its split; its header has {len(names)}.")
    part_of: dict[str, str] = {}
    for place, row in read_table(table, names):
        try:
            image, split = row[names[0]], row[names[1]]
        except ValueError as error:
            raise UserError(f"{place}: {error}.") from None
        if part_of.setdefault(image, split) != split:
            raise UserError(f"{place}: {image} is in '{split}' here, and in '{part_of[image]}' further up. Keep one.")
    return part_of


def _decoded(source: object, examples: list[Example]) -> tuple[list[Example], list[BadRecord], list[str]]:
    """Splits written as 0, 1 and 2 by their names, as Waterbirds and CelebA mean them.

    Where not all three occur, and nothing else, they may mean anything: then they are bad records.
    """
    written = {example.split for example in examples}
    if written == set(_CODES):
        named = [replace(example, split=_CODES[example.split or ""]) for example in examples]
        return named, [], [f"{source}: the splits 0, 1 and 2 are read as train, val and test"]
    if not written & set(_CODES):
        return examples, [], []
    rule = "numbers are read where 0, 1 and 2 all occur and nothing else. Write train, val or test"
    bad = [BadRecord(e.place, f"split is '{e.split}': {rule}") for e in examples if e.split in _CODES]
    return [example for example in examples if example.split not in _CODES], bad, []


def _unused(table: Path, columns: Columns) -> list[str]:
    """A note on the columns that nothing is done with, and on how to use those that could be groups."""
    left = [column for column in profile(table, 1000) if column.name not in columns.used]
    if not left:
        return []
    could = [quoted(column.name) for column in left if column.name and column.categories]
    note = f"{table.name}:1: not used: column {', '.join(map(str, few([c.name or '(unnamed)' for c in left], 50)))}"
    if could and columns.attribute is None:
        note += f". To compare groups by one, write below data: `columns: {{attribute: {could[0]}}}`"
        note += f" (or {', '.join(map(str, few(could[1:], 10)))})" if could[1:] else ""
    return [note]


# --- folders


# --- tables and folders


def _existing(config: DataConfig) -> Path:
    if config.root is None:
        kind = "table" if config.name == "csv" else "folder"
        raise DataAway(f"data.root is missing. Set it to your {kind} of images.")
    root = config.root.expanduser().resolve()
    if not root.exists():
        raise DataAway(f"data.root is '{config.root}', which does not exist.")
    return root


def _folder(path: Path) -> Path:
    if not path.is_dir():
        raise UserError(f"data.images is '{path}', which is not a folder. Set it to the folder of the images.")
    return path.resolve()


def _sorted(names: Iterable[str]) -> tuple[str, ...]:
    """By value where all are whole numbers, so that 10 comes after 9."""
    ordered = sorted(names)
    numbers = all(name.isdecimal() and len(name) < 1000 for name in ordered)  # Python reads no longer ones by default
    return tuple(sorted(ordered, key=int) if numbers else ordered)
