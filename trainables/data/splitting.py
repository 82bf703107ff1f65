"""Cutting data: a dataset that has no official split, and a half of a split, the same on every machine.

Two cuts by hashes. `keyed` looks at each record's own key only: adding or losing records moves no other one, and
records with equal keys (the same bytes) stay together. `stratified` cuts every stratum to the same
shares, to the nearest record; there a newcomer moves at most one other record over each border, of its
own stratum.

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
from trainables.data.contents import digests
from trainables.data.examples import Example

SHARES: Mapping[str, float] = {"train": 0.7, "val": 0.1, "test": 0.2}  # 80:20, and val out of the 80
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
    """The examples with their parts, each by the hash of its file's bytes, and those hashes.

    Copies of an image stay together, and a new image moves no other one.
    """
    hashes = digests(root, [example.path for example in examples])
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
