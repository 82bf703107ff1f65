"""What a dataset is: its counts, hash, bad records and notes; and who is in which split, as a table."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trainables.data.base import OVERLAPPING, SPLITS, Dataset
from trainables.data.contents import identical, of_examples
from trainables.errors import few
from trainables.files import write_text

_MOST_GROUPS = 10  # of more, a line has the range
COLUMNS = ("split", "id", "label", "attribute", "image", "sha256")


def describe(dataset: Dataset) -> dict[str, Any]:
    """Everything countable about `dataset`, fit for JSON.

    `splits[split]` holds `n` and one mapping name -> count per kind of group that the dataset has.
    """
    return {
        "name": dataset.name,
        "root": str(dataset.root),
        "split_hash": dataset.split_hash,
        "classes": list(dataset.classes),
        "attributes": list(dataset.attributes),
        **_several(dataset),
        "splits": {split: _counts(dataset, split) for split in SPLITS},
        "bad": [asdict(record) for record in dataset.bad],
        "notes": list(dataset.notes),
        "licence": dataset.licence,
        "crop_bottom": dataset.crop_bottom,
        "upright": dataset.upright,
    }


def _several(dataset: Dataset) -> dict[str, Any]:
    """The names of several attributes and of overlapping groups, where there are such."""
    several = {"facets": {facet.name: list(facet.values) for facet in dataset.facets}} if dataset.facets else {}
    return several | ({"overlapping": list(dataset.overlapping)} if dataset.overlapping else {})


def tell(dataset: Dataset) -> str:
    """The same for people: a few lines."""
    lines = [f"{dataset.name}: {len(dataset.classes)} classes, split hash {dataset.split_hash}"]
    for split in SPLITS:
        counts = _counts(dataset, split)
        groups = counts.get("cell") or counts["class"]
        lines.append(_folded(f"  {split} {counts['n']:,}: {_sizes(groups)}"))
        named = [*(facet.name for facet in dataset.facets), *([OVERLAPPING] if dataset.overlapping else [])]
        lines += [_folded(f"    {kind}: {_sizes(counts[kind])}") for kind in named]
    for title, dropped in (("bad records left out", True), ("doubtful records kept", False)):
        records = [f"{record.place}: {record.problem}" for record in dataset.bad if record.dropped is dropped]
        if records or dropped:
            lines += [f"  {title}: {len(records)}", *(f"    {line}" for line in few(records, 10))]
    return "\n".join(lines + [f"  note: {note}" for note in dataset.notes])


def _sizes(groups: Mapping[str, int]) -> str:
    """Every group with its count; of many their number, their range and the smallest."""
    said = [f"{name} {n:,}" for name, n in sorted(groups.items(), key=lambda item: item[1])]
    if len(groups) <= _MOST_GROUPS:
        return ", ".join(f"{name} {n:,}" for name, n in groups.items())
    most = f"{len(groups)} groups of {min(groups.values()):,} to {max(groups.values()):,} examples"
    return f"{most}; the smallest: {', '.join(said[:5])}"


def _folded(line: str, width: int = 80) -> str:
    """The line in rows of at most `width` letters, broken between groups; one group is never broken."""
    rows, indent = [""], " " * (len(line) - len(line.lstrip()) + 4)
    for part in line.split(", "):
        if rows[-1] and len(rows[-1]) + len(part) + 2 > width:
            rows[-1] += ","
            rows.append(indent + part)
        else:
            rows[-1] += f", {part}" if rows[-1] else part
    return "\n".join(rows)


def manifest(dataset: Dataset, path: Path, *, contents: bool = False) -> None:
    """Writes one line per example, for anybody to check or to train on (`data.name: csv`).

    Each of several attributes, and each overlapping group, has a column more, at the end, under its name.
    `image` is the path below the dataset's root, `sha256` the first 32 digits of the file's hash, or
    empty where `contents` is not asked for: that reads every file once on this machine.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*COLUMNS, *(facet.name for facet in dataset.facets), *dataset.overlapping])
    table.writerows(_rows(dataset, contents))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text.getvalue())


def file_digests(dataset: Dataset) -> dict[str, str]:
    """Of each example's id the hash of its file's bytes, "" where there is no file."""
    names = [name for split in SPLITS for name in dataset.ids(split)]
    return {name: found or "" for name, found in zip(names, hashes(dataset), strict=True)}


def hashes(dataset: Dataset) -> list[str | None]:
    """Of each example, split by split, the hash of what it is."""
    return [
        found
        for part in map(dataset.splits.__getitem__, SPLITS)
        for found in of_examples(dataset.root, part.paths, part.texts)
    ]


def data_digest(files: Mapping[str, str]) -> str:
    """16 hex digits over the files of `file_digests`: while it is the same, all images are, wherever they lie."""
    text = "\x1e".join(f"{name}\x1f{files[name]}" for name in sorted(files))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def changed_files(files: Mapping[str, str], table: Path) -> str:
    """Which of the files are others than a `manifest` with contents says, in a few words; "" where none are.

    So it is, too, where there is no such table that could say it.
    """
    try:
        with table.open(encoding="utf-8", newline="") as file:
            before = {row["id"]: row["sha256"] for row in csv.DictReader(file) if row["sha256"]}
    except (OSError, UnicodeDecodeError, csv.Error, KeyError):
        return ""
    if not before:
        return ""
    kinds = {
        "other bytes": [name for name in sorted(files.keys() & before.keys()) if files[name] != before[name]],
        "gone": sorted(before.keys() - files.keys()),
        "new": sorted(files.keys() - before.keys()),
    }
    return "; ".join(f"{what}: {len(names):,} ({', '.join(few(names))})" for what, names in kinds.items() if names)


def leaks(dataset: Dataset, hashes: Sequence[str | None]) -> list[str]:
    """A line for each example that several splits hold with the same content: its files, or text, with its splits.

    `hashes` are of what they hold, split by split.
    """
    places = [(split, name) for split in SPLITS for name in _named(dataset, split)]
    lines = []
    for positions in identical(hashes):
        if len({places[i][0] for i in positions}) > 1:
            copies = (f"{places[i][1]} ({places[i][0]})" for i in positions)
            lines.append(", ".join(few(copies)))
    return lines


def _named(dataset: Dataset, split: str) -> Iterator[str]:
    """What a person finds each example by: its file below the root, or how its text begins."""
    part = dataset.splits[split]
    if part.texts:
        return (repr(shortened(text)) for text in part.texts)
    return (path.relative_to(dataset.root).as_posix() for path in part.paths)


def shortened(text: str, letters: int = 60) -> str:
    """How a text begins, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= letters else f"{line[: letters - 1]}…"


def leak_note(dataset: Dataset) -> str | None:
    """A sentence on them, for whoever is about to use the dataset; None where there are none."""
    found = leaks(dataset, hashes(dataset))
    if not found:
        return None
    content = "words" if dataset.noun == "text" else "bytes"
    return (
        f"{len(found)} {dataset.noun}{'s are' if len(found) > 1 else ' is'} in more than one split, with the "
        f"same {content}: {'; '.join(few(found, 3))}. What is measured on them was seen before. "
        "'sweeper data check' lists them."
    )


def _counts(dataset: Dataset, split: str) -> dict[str, Any]:
    counts: dict[str, Any] = {"n": len(dataset.splits[split])}
    for kind in dataset.kinds:
        groups = dataset.groups(split, kind)
        counts[kind] = dict(zip(groups.names, groups.counts_G.tolist(), strict=True))
    return counts


def _rows(dataset: Dataset, contents: bool) -> Iterator[tuple[str, ...]]:
    for split in SPLITS:
        part = dataset.splits[split]
        images = [file.relative_to(dataset.root).as_posix() for file in part.paths]
        found = of_examples(dataset.root, part.paths, part.texts) if contents else [None] * len(part)
        labels = [dataset.classes[i] for i in part.labels_N]
        attributes = [""] * len(part)
        if part.attributes_N is not None:
            attributes = [dataset.attributes[i] for i in part.attributes_N]
        more = [dataset.groups(split, facet.name) for facet in dataset.facets]
        values = [[groups.names[g] for g in groups.index_N] for groups in more]
        members = [] if part.members_NG is None else part.members_NG.astype(int).astype(str).T.tolist()
        hashed = [digest or "" for digest in found]
        yield from zip(
            *([split] * len(part), dataset.ids(split), labels, attributes, images, hashed),
            *values,
            *members,
            strict=True,
        )
