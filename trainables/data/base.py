"""What every dataset becomes: images on disk, labels, attributes, three splits, a hash.

Shapes: N examples, C classes, A attribute values, G groups.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trainables.arrays import Ints

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Groups:
    """A partition of the examples: `index_N[i]` is the position in `names` of example i's group."""

    kind: str
    names: tuple[str, ...]
    index_N: Ints

    @property
    def counts_G(self) -> Ints:
        """Examples in each group; zeros stay."""
        return np.bincount(self.index_N, minlength=len(self.names)).astype(np.int64)


def partition(
    kind: str, classes: tuple[str, ...], labels_N: Ints, attributes: tuple[str, ...], attributes_N: Ints | None
) -> Groups:
    """The groups by class, attribute or cell (cell = A * class + attribute): names and indices from one place.

    Raises:
        ValueError: there is no attribute and `kind` needs one.
    """
    if kind == "class":
        return Groups(kind, classes, labels_N)
    if attributes_N is None or not attributes:
        raise ValueError(f"has no attribute, so groups by {kind} do not exist. Use 'class'.")
    if kind == "attribute":
        return Groups(kind, attributes, attributes_N)
    if any("|" in name for name in (*classes, *attributes)):  # so that a|b and c, and a and b|c, are two names
        classes, attributes = (tuple(map(_without_bar, names)) for names in (classes, attributes))
    names = tuple(f"{c}|{a}" for c in classes for a in attributes)
    return Groups("cell", names, labels_N * len(attributes) + attributes_N)


def _without_bar(name: str) -> str:
    return name.replace("\\", r"\\").replace("|", r"\|")


@dataclass(frozen=True)
class Split:
    """One part of a dataset. `paths` are absolute; labels and attributes index the dataset's names.

    `ids` are the examples' names within the dataset, where these are not their paths below its root.
    """

    name: str
    paths: tuple[Path, ...]
    labels_N: Ints
    attributes_N: Ints | None = None
    ids: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def part(self, rows_K: Ints) -> Split:
        """The examples `rows_K` alone, in that order."""
        return Split(
            name=self.name,
            paths=tuple(self.paths[i] for i in rows_K),
            labels_N=self.labels_N[rows_K],
            attributes_N=None if self.attributes_N is None else self.attributes_N[rows_K],
            ids=tuple(self.ids[i] for i in rows_K) if self.ids else (),
        )


@dataclass(frozen=True)
class BadRecord:
    """A row or image that was left out (or repaired), and why."""

    place: str
    problem: str
    dropped: bool = True


@dataclass(frozen=True)
class Dataset:
    """Images, labels and attributes, with the names that make sense of them.

    `shared_labels` says that classes and attribute values mean the same things by index (as in
    Waterbirds: landbird/land, waterbird/water), which is what makes sensitive accuracy defined.
    Images are turned `upright` by their EXIF orientation, and `crop_bottom` rows of pixels are cut off below, before
    anything else happens to them.
    """

    name: str
    root: Path
    classes: tuple[str, ...]
    attributes: tuple[str, ...]
    splits: dict[str, Split]
    shared_labels: bool = False
    bad: tuple[BadRecord, ...] = ()
    notes: tuple[str, ...] = ()
    licence: str = "unknown"
    crop_bottom: int = 0
    upright: bool = False

    def groups(self, split: str, kind: str) -> Groups:
        """The groups of `split` by class, attribute or cell (cell = A * class + attribute).

        Raises:
            ValueError: the dataset has no attribute and `kind` needs one.
        """
        part = self.splits[split]
        try:
            return partition(kind, self.classes, part.labels_N, self.attributes, part.attributes_N)
        except ValueError as error:
            raise ValueError(f"dataset {self.name} {error}") from None

    def ids(self, split: str) -> tuple[str, ...]:
        """The names of the examples of `split`: paths below `root`, where it has no others."""
        part = self.splits[split]
        return part.ids or tuple(path.relative_to(self.root).as_posix() for path in part.paths)

    @property
    def split_hash(self) -> str:
        """16 hex digits over every record of every split: the identity of what is trained and measured on."""
        digest = hashlib.sha256()
        for name in SPLITS:
            part = self.splits[name]
            attributes_N = part.attributes_N if part.attributes_N is not None else np.full(len(part), -1)
            for id_, label, attribute in zip(self.ids(name), part.labels_N, attributes_N, strict=True):
                # Separators that no name holds: two datasets cannot run together into the same text.
                digest.update(f"{name}\x1f{id_}\x1f{label}\x1f{attribute}\x1e".encode())
        return digest.hexdigest()[:16]
