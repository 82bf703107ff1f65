"""D-Lab's measuring hate speech, as it is published: `measuring-hate-speech.parquet`, or the same as CSV.

Source: Kennedy et al., "Constructing interval variables via faceted Rasch measurement", 2020; task and subsets of
"On Fairness of Low-Rank Adaptation of Vision Models", appendix: many annotators rate a comment, and its first row is
kept; hateful is a score above 0.5; a subset is what targets race, religion, age, gender or sexuality. Its groups are
the targets within it, which overlap: each is compared with all comments that are not of it.

There is no official split: 70:10:20, each comment by a hash of its text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from trainables.data import DataConfig
from trainables.data.base import Dataset
from trainables.data.examples import Example, conflicts, find_root, lies_in, parsed, settle, splits
from trainables.data.splitting import by_content
from trainables.data.tables import has_columns, header, read_table
from trainables.errors import UserError

TABLES = ("measuring-hate-speech.parquet", "measuring-hate-speech.csv", "train-00000-of-00001.parquet")
FOLDERS = ("measuring-hate-speech", "data")
CLASSES = ("not hateful", "hateful")
SUBSETS = ("race", "religion", "age", "gender", "sexuality")
HATEFUL = 0.5
# Comments, and hateful ones, as On Fairness of LoRA counts them.
PUBLISHED = {
    "race": (11670, 2954),
    "religion": (6081, 1303),
    "age": (957, 201),
    "gender": (13976, 4129),
    "sexuality": (7297, 2064),
    "all": (39565, 10354),
}
_COLUMNS = ("comment_id", "text", "hate_speech_score", *(f"target_{subset}" for subset in SUBSETS))
_TRUE, _FALSE = ("true", "1", "1.0"), ("false", "0", "0.0", "")
_FETCH = f"Fetch ucberkeley-dlab/measuring-hate-speech, and set data.root to the folder with {TABLES[0]}."


def fits(root: Path) -> bool:
    """Whether `root` looks like a copy."""
    return lies_in(root, FOLDERS, lambda folder: _table(folder) is not None)


def load(config: DataConfig) -> Dataset:
    """The comments of `config.subset` (race, if none is named) in the copy below `config.root`.

    Raises:
        UserError: no copy is there, it lacks a column, a split is empty, or too many rows are bad.
    """
    subset = config.subset or "race"
    root = find_root(
        config,
        folders=FOLDERS,
        holds=lambda folder: _table(folder) is not None,
        lacks=f"no table in it has the columns {', '.join(_COLUMNS)}",
        fetch=_FETCH,
    )
    table = _table(root)
    assert table is not None
    groups = groups_of(table, subset)
    rows = _first_of_each_text(read_table(table, list(dict.fromkeys((*_COLUMNS, *groups)))))
    examples, bad = parsed(rows, partial(_example, table, groups))
    settle(bad, len(examples) + len(bad), config, table)
    target = None if subset == "all" else f"target_{subset}"
    chosen = [example for example in examples if target is None or target in example.values]
    if not chosen:
        raise UserError(f"{table}: no comment has {target} true. Use another data.subset, or fetch the table again.")
    cut, hashes = by_content(root, chosen)
    hateful = sum(example.label == CLASSES[1] for example in chosen)
    notes = [f"the subset is {subset}; no official split: 70:10:20, by a hash of each text"]
    if (len(chosen), hateful) != PUBLISHED[subset]:
        notes.append(
            f"{len(chosen):,} comments, {hateful:,} of them hateful; On Fairness of LoRA counts "
            f"{PUBLISHED[subset][0]:,} and {PUBLISHED[subset][1]:,}. Numbers are not comparable with the paper's."
        )
    return Dataset(
        name=config.name,
        root=root,
        classes=CLASSES,
        attributes=(),
        splits=splits(table, cut, CLASSES, bad=bad),
        bad=(*bad, *conflicts(cut, hashes)),
        notes=tuple(notes),
        licence="CC-BY-4.0",
        overlapping=groups,
    )


def groups_of(table: Path, subset: str) -> tuple[str, ...]:
    """The 0/1 columns of the targets within a subset; of all comments the five subsets."""
    if subset == "all":
        return tuple(f"target_{name}" for name in SUBSETS)
    found = tuple(name for name in header(table) if name.startswith(f"target_{subset}_"))
    if not found:
        raise UserError(f"{table}:1: no column is called target_{subset}_…, and they are the groups. Fetch it again.")
    return found


def _table(folder: Path) -> Path | None:
    there = (folder / name for name in TABLES)
    return next((path for path in there if path.is_file() and has_columns(path, _COLUMNS)), None)


def _first_of_each_text(rows: Iterator[tuple[str, dict[str, str]]]) -> Iterator[tuple[str, dict[str, str]]]:
    seen: set[str] = set()
    for place, row in rows:
        try:
            text = row["text"]
        except ValueError:  # a row that does not fit the header: a bad record
            text = place
        if text not in seen:
            seen.add(text)
            yield place, row


def _example(table: Path, groups: Sequence[str], place: str, row: dict[str, str]) -> Example:
    """`values` names the subsets that it is in."""
    if not row["text"]:
        raise ValueError("text is empty")
    try:
        score = float(row["hate_speech_score"])
    except ValueError:
        raise ValueError(f"hate_speech_score is '{row['hate_speech_score']}', and must be a number") from None
    return Example(
        place=place,
        id=row["comment_id"],
        path=table,
        label=CLASSES[score > HATEFUL],
        values=tuple(f"target_{name}" for name in SUBSETS if _true(f"target_{name}", row[f"target_{name}"])),
        members=tuple(_true(name, row[name]) for name in groups),
        text=row["text"],
    )


def _true(column: str, text: str) -> bool:
    if text.casefold() not in (*_TRUE, *_FALSE):
        raise ValueError(f"{column} is '{text}'. Use true or false")
    return text.casefold() in _TRUE
