"""Cutting data: a dataset that has no official split, and a half of a split, the same on every machine.

A part of a dataset, for a first try (`limited`), and two cuts by hashes. `keyed` looks at each record's own key only:
adding or losing records moves no other one, and records with equal keys (the same bytes) stay together. `stratified`
cuts every stratum to the same shares, to the nearest record; there a newcomer moves at most one other record over each
border, of its own stratum.

Shapes: N examples.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from trainables.arrays import Ints, Mask
from trainables.data.base import SPLITS, Dataset
from trainables.data.contents import of_examples
from trainables.data.examples import Example
from trainables.errors import UserError

SHARES: Mapping[str, float] = {"train": 0.7, "val": 0.1, "test": 0.2}  # 80:20, and val out of the 80
SPELLINGS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
_SALT = "sweeper-split-1"  # another text is another split of every dataset


def fraction(key: str) -> float:
    """A number in [0, 1) that depends on nothing but `key`; evenly spread over many keys."""
    digest = hashlib.sha256(f"{_SALT}:{key}".encode()).digest()
    return int.from_bytes(digest[:6], "big") / 2**48


def keyed(key: str, shares: Mapping[str, float] = SHARES) -> str:
    """The part that `key` belongs to, by itself. `shares` add up to 1."""
    left = fraction(key)
    for part, share in shares.items():
        if left < share:
            return part
        left -= share
    return next(iter(shares))  # what rounding left over


def by_content(
    root: Path, examples: Sequence[Example], shares: Mapping[str, float] = SHARES
) -> tuple[list[Example], list[str | None]]:
    """The examples with their parts, each by the hash of its file's bytes, or of its text, and those hashes.

    Copies stay together, and a new image moves no other one.
    """
    hashes = of_examples(root, [example.path for example in examples], [example.text for example in examples])
    parts = (keyed(digest or "", shares) for digest in hashes)
    return [replace(example, split=part) for example, part in zip(examples, parts, strict=True)], hashes


def stratified(keys: Sequence[str], strata: Sequence[Hashable], shares: Mapping[str, float] = SHARES) -> dict[str, str]:
    """The part of each key, every stratum in the same shares. The first part takes what rounding leaves.

    Keys are distinct; their order changes nothing.
    """
    members: dict[Hashable, list[str]] = defaultdict(list)
    for key, stratum in zip(keys, strata, strict=True):
        members[stratum].append(key)
    first, *others = shares
    part_of: dict[str, str] = {}
    for stratum_keys in members.values():
        ranked = sorted(stratum_keys, key=lambda key: (fraction(key), key))
        parts = [part for part in others for _ in range(round(shares[part] * len(ranked)))]
        parts += [first] * (len(ranked) - len(parts))
        part_of.update(zip(ranked, parts, strict=False))  # rounding may give a part more than is left
    return part_of


def limited(dataset: Dataset, limit: int) -> Dataset:
    """`limit` examples of `dataset` in all, each cell of each split (class, where there is no attribute) by its share.

    Every cell that has any keeps one. Which of a cell's examples stay is decided by a hash of their names: the same
    on every machine, and all that a smaller limit keeps, a larger one keeps too.

    Raises:
        UserError: there are more cells than that.
    """
    kind = dataset.finest
    names = {split: dataset.ids(split) for split in SPLITS}
    members: dict[tuple[str, int], list[tuple[float, str, int]]] = defaultdict(list)
    for split in SPLITS:
        for row, (name, group) in enumerate(zip(names[split], dataset.groups(split, kind).index_N, strict=True)):
            members[split, int(group)].append((fraction(f"limit:{name}"), name, row))
    if limit < len(members):
        raise UserError(
            f"data.limit is {limit}, and the three splits have {len(members)} {kind}s. Use {len(members)} or more."
        )
    # The place of an example in its cell, as a share of it: cutting all cells at one share keeps their proportions.
    ranked = (
        (rank / len(cell), hashed, name, split, row)
        for (split, _), cell in members.items()
        for rank, (hashed, name, row) in enumerate(sorted(cell))
    )
    rows: dict[str, list[int]] = {split: [] for split in SPLITS}
    for *_, split, row in sorted(ranked)[:limit]:
        rows[split].append(row)
    total, kept = (sum(map(len, parts.values())) for parts in (names, rows))
    return replace(
        dataset,
        splits={split: dataset.splits[split].part(np.sort(np.array(rows[split], np.int64))) for split in SPLITS},
        notes=(*dataset.notes, f"data.limit: {kept:,} of {total:,} examples, each {kind} of each split by its share"),
    )


def cells(labels_N: Ints, groups_N: Ints) -> list[Ints]:
    """The rows of each group within each class that has any."""
    cell_N = np.unique(np.stack([labels_N, groups_N]), axis=1, return_inverse=True)[1].reshape(-1)
    return [np.flatnonzero(cell_N == cell) for cell in range(cell_N.max() + 1)]


def half_of_each_cell(labels_N: Ints, groups_N: Ints) -> Mask:
    """Half of each group within each class, rounded down; always the same half."""
    chosen_N = np.zeros(len(groups_N), dtype=np.bool_)
    generator = np.random.default_rng(0)
    for rows_K in cells(labels_N, groups_N):
        chosen_N[generator.permutation(rows_K)[: len(rows_K) // 2]] = True
    return chosen_N
