"""What every dataset becomes: images on disk, or texts, labels, attributes, three splits, a hash.

Shapes: N examples, C classes, A attribute values, F attributes, G groups, P patterns of membership.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from trainables.arrays import Floats, Ints, Mask

SPLITS = ("train", "val", "test")
KINDS = ("class", "attribute", "cell")
OVERLAPPING = "overlapping"


@dataclass(frozen=True)
class Facet:
    """One of several attributes. An example has a joint value of all of them, j, and of this one `of_joint[j]`."""

    name: str
    values: tuple[str, ...]
    of_joint: tuple[int, ...]


@dataclass(frozen=True)
class Groups:
    """Groups of the examples, a partition: `index_N[i]` is the position in `names` of example i's group.

    Where groups overlap it is a row of `members_PG`, which says for each pattern that occurs which groups such examples
    are in: several, or none.
    """

    kind: str
    names: tuple[str, ...]
    index_N: Ints
    members_PG: Mask | None = None

    @property
    def counts_G(self) -> Ints:
        """Examples in each group; zeros stay."""
        if self.members_PG is None:
            return np.bincount(self.index_N, minlength=len(self.names)).astype(np.int64)
        count_P = np.bincount(self.index_N, minlength=len(self.members_PG)).astype(np.int64)
        counts_G: Ints = count_P @ self.members_PG.astype(np.int64)
        return counts_G

    def sums_G(self, values_N: Floats) -> Floats:
        """The sum of the values in each group; where groups overlap, a value counts in each that it is in."""
        if self.members_PG is None:
            return np.bincount(self.index_N, values_N, len(self.names)).astype(np.float64)
        return np.array([values_N[self.member_N(g)].sum() for g in range(len(self.names))], dtype=np.float64)

    def member_N(self, g: int) -> Mask:
        """Who is in the group."""
        return np.equal(self.index_N, g) if self.members_PG is None else self.members_PG[:, g][self.index_N]

    def part(self, rows_K: Ints) -> Groups:
        """Of the examples `rows_K` alone, in that order."""
        return replace(self, index_N=self.index_N[rows_K])

    def joined(self, more: Groups) -> Groups:
        """Of these examples, and after them of those of `more`, in the same groups."""
        if self.members_PG is None or more.members_PG is None:
            return replace(self, index_N=np.concatenate([self.index_N, more.index_N]))
        index_N = np.concatenate([self.index_N, more.index_N + len(self.members_PG)])
        return replace(self, index_N=index_N, members_PG=np.concatenate([self.members_PG, more.members_PG]))


def partition(
    kind: str,
    classes: tuple[str, ...],
    labels_N: Ints,
    attributes: tuple[str, ...],
    attributes_N: Ints | None,
    facets: tuple[Facet, ...] = (),
    overlapping: tuple[str, ...] = (),
    members_NG: Mask | None = None,
) -> Groups:
    """The groups by class, attribute, cell (A * class + attribute), one attribute of several, or those that overlap.

    Names and indices from one place. Of several attributes `attribute` is the joint value, and a cell is of all.

    Raises:
        ValueError: there are no groups of this `kind`; says which there are.
    """
    if kind == "class":
        return Groups(kind, classes, labels_N)
    if kind == OVERLAPPING and members_NG is not None:
        members_PG, index_N = np.unique(members_NG, axis=0, return_inverse=True)
        return Groups(kind, overlapping, index_N.reshape(-1).astype(np.int64), members_PG)
    if kind not in KINDS:
        facet = next((facet for facet in facets if facet.name == kind), None)
        if facet is None or attributes_N is None:
            there = ", ".join(kinds(attributes, facets, overlapping))
            raise ValueError(f"has no groups by {kind}. Use one of: {there}.")
        return Groups(kind, facet.values, np.asarray(facet.of_joint, np.int64)[attributes_N])
    if attributes_N is None or not attributes:
        raise ValueError(f"has no attribute, so groups by {kind} do not exist. Use 'class'.")
    if kind == "attribute":
        return Groups(kind, attributes, attributes_N)
    if facets:
        classes = tuple(map(without_bar, classes))  # joint values have none but their own
    elif any("|" in name for name in (*classes, *attributes)):  # so that a|b and c, and a and b|c, are two names
        classes, attributes = (tuple(map(without_bar, names)) for names in (classes, attributes))
    names = tuple(f"{c}|{a}" for c in classes for a in attributes)
    return Groups("cell", names, labels_N * len(attributes) + attributes_N)


def kinds(attributes: Sequence[str], facets: Sequence[Facet], overlapping: Sequence[str]) -> tuple[str, ...]:
    """The kinds of groups that there are, the finest partition last if there is an attribute."""
    more = (OVERLAPPING,) if overlapping else ()
    return ("class", *(facet.name for facet in facets), *more, *(("attribute", "cell") if attributes else ()))


def joint(values: Iterable[str]) -> str:
    """The name of one value each of several attributes."""
    return "|".join(map(without_bar, values))


def crossed(
    values: Mapping[str, Sequence[str]], found: Iterable[tuple[str, ...]]
) -> tuple[tuple[str, ...], tuple[Facet, ...]]:
    """The joint values that are `found`, in the order of the attributes' `values`, and the attributes as facets."""
    code_of = [{value: i for i, value in enumerate(own)} for own in values.values()]
    order = sorted({tuple(code[value] for code, value in zip(code_of, each, strict=True)) for each in found})
    names = tuple(joint(own[i] for own, i in zip(values.values(), codes, strict=True)) for codes in order)
    of_joint = zip(*order, strict=True)
    facets = (Facet(name, tuple(own), codes) for (name, own), codes in zip(values.items(), of_joint, strict=True))
    return names, tuple(facets)


def without_bar(name: str) -> str:
    """The name as a part of a longer one, whose parts are told apart by bars."""
    return name.replace("\\", r"\\").replace("|", r"\|")


@dataclass(frozen=True)
class Split:
    """One part of a dataset. `paths` are absolute; labels and attributes index the dataset's names.

    `ids` are the examples' names within the dataset, where these are not their paths below its root. `members_NG` says
    who is in which of the dataset's overlapping groups. Examples with `texts` are these, and `paths` the files they are
    in.
    """

    name: str
    paths: tuple[Path, ...]
    labels_N: Ints
    attributes_N: Ints | None = None
    ids: tuple[str, ...] = ()
    members_NG: Mask | None = None
    texts: tuple[str, ...] = ()

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
            members_NG=None if self.members_NG is None else self.members_NG[rows_K],
            texts=tuple(self.texts[i] for i in rows_K) if self.texts else (),
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
    Of several attributes, `facets`, `attributes` are the joint values that occur, and `attributes_N` of a split index
    these. `overlapping` are groups that an example may be in several of, or none.
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
    facets: tuple[Facet, ...] = ()
    overlapping: tuple[str, ...] = ()

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of groups that there are."""
        return kinds(self.attributes, self.facets, self.overlapping)

    @property
    def noun(self) -> str:
        """What its examples are: an image, or a text."""
        return "text" if any(part.texts for part in self.splits.values()) else "image"

    @property
    def finest(self) -> str:
        """The finest partition: by cell, or by class where there is no attribute."""
        return "cell" if self.attributes else "class"

    def groups(self, split: str, kind: str) -> Groups:
        """The groups of `split` of one of the `kinds`.

        Raises:
            ValueError: the dataset has no such groups.
        """
        part = self.splits[split]
        try:
            return partition(
                kind,
                self.classes,
                part.labels_N,
                self.attributes,
                part.attributes_N,
                self.facets,
                self.overlapping,
                part.members_NG,
            )
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
            for id_, label, side in zip(self.ids(name), part.labels_N, self._sides(part), strict=True):
                # Separators that no name holds: two datasets cannot run together into the same text.
                digest.update(f"{name}\x1f{id_}\x1f{label}\x1f{side}\x1e".encode())
        return digest.hexdigest()[:16]

    def _sides(self, part: Split) -> list[str]:
        """Each example's attribute, or attributes, and overlapping groups, as numbers."""
        attributes_N = part.attributes_N if part.attributes_N is not None else np.full(len(part), -1)
        sides = [str(attribute) for attribute in attributes_N]
        if self.facets:
            codes_NF = np.array([facet.of_joint for facet in self.facets]).T[attributes_N]
            sides = ["+".join(map(str, codes_F)) for codes_F in codes_NF.tolist()]
        if part.members_NG is not None:
            members = ("".join(map(str, member_G)) for member_G in part.members_NG.astype(int).tolist())
            sides = [f"{side}\x1f{member}" for side, member in zip(sides, members, strict=True)]
        return sides
