"""Tables that name images, or hold texts, row by row: `.csv`, `.tsv`, `.jsonl`, `.parquet`, and `.txt` lists with
blanks between the fields.

A list is as CelebA has them: it may begin with a line that counts its rows, its header may leave the image's
column without a name (it is `image` then), and it may have no header at all.
"""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from trainables.errors import UserError, nearest

ENDINGS = (".csv", ".tsv", ".txt", ".jsonl", ".parquet")
IMAGE = "image"  # what the first column of a list is called, where its header does not say
_NAMES = (".jpg", ".jpeg", ".png")  # how the first field of a list without a header ends
_DISTINCT = 1000

_Line = tuple[int, list[str]]  # where it begins, its fields


class _Misfit(dict[str, str]):
    """A row whose fields are not those of the header: a look at any column says so."""

    def __init__(self, fields: int, columns: int) -> None:
        super().__init__()
        mend = "put a field that holds a separator in quotes" if fields > columns else "write every column"
        self._problem = f"has {fields} field{'s' * (fields != 1)}, and the header has {columns}: {mend}"

    def __missing__(self, column: str) -> str:
        raise ValueError(self._problem)


def header(path: Path) -> tuple[str, ...]:
    """The names of the columns, in their order; of a column without one, "".

    Raises:
        UserError: the file cannot be read as a table in UTF-8, or has not even a header.
    """
    return tuple(next(_lines(path))[1])


def has_columns(path: Path, names: Collection[str]) -> bool:
    """Whether there is a table that can be read and has these columns."""
    try:
        return set(names) <= set(header(path))
    except UserError:
        return False


def read_table(path: Path, required: Sequence[str], also: Sequence[str] = ()) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows with their places (`index.csv:12`, where they begin) and what they have in the `required` columns.

    Columns in `also` may be there or not; all others are not read. A row with more or fewer fields than the header
    has is a mapping that raises ValueError at the first look, so that `parsed` makes a bad record of it.

    Raises:
        UserError: the file cannot be read as a table in UTF-8, lacks a required column, or has one of them twice.
    """
    lines = _lines(path)
    line, names = next(lines)
    if missing := [name for name in required if name not in names]:
        raise UserError(f"{path}:{line}: {_missing(missing, names, required)}")
    wanted = {name: names.index(name) for name in dict.fromkeys((*required, *also)) if name in names}
    for name, first in wanted.items():
        if names.count(name) > 1:
            second = names.index(name, first + 1)
            raise UserError(
                f"{path}:{line}: column '{name}' stands twice in the header (columns {first + 1} and {second + 1}). "
                "Give each a name of its own."
            )
    for line, fields in lines:
        whole = len(fields) == len(names)
        row = {name: fields[i].strip() for name, i in wanted.items()} if whole else _Misfit(len(fields), len(names))
        yield f"{path.name}:{line}", row


@dataclass(frozen=True)
class Column:
    """What is in a column: how many rows, the first `values`, and how often each occurs (None: beyond a thousand)."""

    name: str
    rows: int
    values: tuple[str, ...]
    counts: Mapping[str, int] | None

    @property
    def categories(self) -> int:
        """How many different values it has, if it could be a class or a group: at least two, and most of them again."""
        return len(self.counts) if self.counts and 2 <= len(self.counts) <= max(2, self.rows // 2) else 0


def profile(path: Path, rows: int | None = None) -> list[Column]:
    """Each column of the table, by its first `rows` rows, or by all; rows that do not fit the header are left out.

    Raises:
        UserError: the file cannot be read as a table in UTF-8.
    """
    lines = _lines(path)
    names, count = next(lines)[1], 0
    counters: list[Counter[str] | None] = [Counter() for _ in names]
    firsts: list[list[str]] = [[] for _ in names]
    for _, fields in itertools.islice(lines, rows):
        if len(fields) != len(names):
            continue
        count += 1
        for i, counter in enumerate(counters):
            if counter is None:
                continue
            counter[fields[i].strip()] += 1
            if len(firsts[i]) < 50:
                firsts[i].append(fields[i].strip())
            if len(counter) > _DISTINCT:
                counters[i] = None
    return [Column(*column) for column in zip(names, [count] * len(names), map(tuple, firsts), counters, strict=True)]


def quoted(name: str) -> str:
    """A column's name as YAML takes it: in quotes, unless it is a plain word."""
    plain = re.fullmatch(r"[^\W\d]\w*", name) and name.casefold() not in ("true", "false", "null")
    return name if plain else json.dumps(name, ensure_ascii=False)


def _missing(missing: Sequence[str], given: Sequence[str], required: Sequence[str]) -> str:
    close = {name: nearest(name, given, 0.8) for name in missing}  # 'age' is not a slip of 'image'
    guesses = "".join(f" Is '{guess}' meant to be '{name}'?" for name, guess in close.items() if guess)
    if len(given) == 1 and (";" in given[0] or "\t" in given[0]):
        guesses = " It is one column: save the table with commas between the fields."
    return (
        f"column {', '.join(missing)} is missing; the header has: {', '.join(given)}."
        f"{guesses} Needed: {', '.join(required)}."
    )


def _lines(path: Path) -> Iterator[_Line]:
    """The header, its names without blanks around them, and then the rows; lines with nothing on them are none."""
    line = 1
    if path.suffix.lower() == ".parquet":
        yield from _parquet(path)
        return
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets begin UTF-8 with a mark
            kinds = {".txt": _listed, ".jsonl": _objects}
            lines = kinds.get(path.suffix.lower(), _separated)(path, file)
            line, names = next(lines, (1, []))
            if not names:
                raise UserError(f"{path} is empty. Its first line must name the columns.")
            yield line, [name.strip() for name in names]
            for line, fields in lines:
                yield line, fields
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        where = f" near line {line}" if isinstance(error, csv.Error) else ""
        raise UserError(f"{path} cannot be read as a table in UTF-8{where}: {error}.") from error


def _separated(path: Path, file: TextIO) -> Iterator[_Line]:
    reader = csv.reader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
    line = 1
    for fields in reader:
        if fields:
            yield line, fields
        line = reader.line_num + 1


def _objects(path: Path, file: TextIO) -> Iterator[_Line]:
    """A JSON object on each line; the columns are all keys that occur, and what an object lacks is empty."""
    rows: list[tuple[int, dict[str, Any]]] = []
    for number, text in enumerate(file, 1):
        if text.strip():
            try:
                row = json.loads(text)
            except ValueError as error:
                raise UserError(f"{path}:{number}: no JSON ({error}). Write one object on each line.") from None
            if not isinstance(row, dict):
                raise UserError(f"{path}:{number}: a {type(row).__name__}. Write one JSON object on each line.")
            rows.append((number, row))
    names = list(dict.fromkeys(name for _, row in rows for name in row))
    if names:
        yield 1, names
    for number, row in rows:
        yield number, [_written(row.get(name)) for name in names]


def _parquet(path: Path) -> Iterator[_Line]:
    """The columns, and then the rows, which are counted from 1."""
    import pyarrow
    from pyarrow import parquet  # takes a quarter of a second

    try:
        with parquet.ParquetFile(path) as file:
            names = list(file.schema_arrow.names)
            yield 1, names
            row = 0
            for batch in file.iter_batches():
                for fields in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    row += 1
                    yield row, [_written(value) for value in fields]
    except (OSError, pyarrow.ArrowException) as error:
        raise UserError(f"{path} cannot be read as a parquet table: {error}.") from error


def _written(value: object) -> str:
    """As a CSV would have it."""
    if value is None or isinstance(value, str):
        return value or ""
    return str(value) if isinstance(value, bool | int | float) else json.dumps(value, default=str)


def _listed(path: Path, file: TextIO) -> Iterator[_Line]:
    lines = ((number, fields) for number, text in enumerate(file, 1) if (fields := text.split()))
    first = next(lines, (1, []))
    stated = int(first[1][0]) if len(first[1]) == 1 and first[1][0].isdecimal() else None
    top = first if stated is None else next(lines, (1, []))
    rows = list(itertools.islice(lines, 1))
    if top[1] and top[1][0].lower().endswith(_NAMES):
        rows = [top, *rows]
        yield top[0], [IMAGE, *(f"column {i + 2}" for i in range(len(top[1]) - 1))]
    elif rows and len(rows[0][1]) == len(top[1]) + 1:
        yield top[0], [IMAGE, *top[1]]
    else:
        yield top
    count = 0
    for row in itertools.chain(rows, lines):
        count += 1
        yield row
    if stated is not None and stated != count:
        raise UserError(
            f"{path}:{first[0]}: says {stated:,} rows, and there are {count:,}. Fetch it again, or mend it."
        )
