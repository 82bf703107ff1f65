"""From single examples to the splits of a dataset: what the loaders of tables and folders share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainables.data.base import SPLITS, BadRecord, Split
from trainables.data.contents import identical
from trainables.errors import UserError


@dataclass(frozen=True)
class Example:
    """One image: `place` is where a person finds it (`index.csv:12`), `id` its name within the dataset."""

    place: str
    id: str
    path: Path
    label: str
    attribute: str | None = None
    split: str | None = None


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
    label_of, attribute_of = _positions(classes), _positions(attributes)
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


def conflicts(examples: Sequence[Example], digests: Sequence[str | None]) -> list[BadRecord]:
    """Files with the same bytes that are said to show different things. They are kept, all in one split."""
    groups = ([examples[i] for i in positions] for positions in identical(digests))
    return [record for group in groups for record in _conflict(sorted(group, key=lambda example: example.id))]


def few(names: Sequence[str], shown: int = 4) -> str:
    """The names on one line, the first `shown` of them and how many more there are."""
    return ", ".join(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")


def _conflict(group: list[Example]) -> Iterable[BadRecord]:
    said = {"label": {e.label for e in group}, "attribute": {str(e.attribute) for e in group}}
    differing = [f"{what} ({', '.join(sorted(values))})" for what, values in said.items() if len(values) > 1]
    if differing:
        others = few([example.id for example in group[1:]])
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


def _positions(names: Sequence[str]) -> dict[str, int]:
    return {name: i for i, name in enumerate(names)}
