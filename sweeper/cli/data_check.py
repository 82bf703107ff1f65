"""What is in a folder of data, before a sweep is spent on it: counts, bad records, leaks, a look at each cell."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sweeper.spec import on_data, yaml_text
from sweeper.spec.model import SweepSpec
from trainables import data
from trainables.data import DataConfig, contents
from trainables.data.base import OVERLAPPING, SPLITS, BadRecord, Dataset
from trainables.data.contents import Contents
from trainables.data.datasets import layout
from trainables.data.examples import check_classes
from trainables.data.images import pixels
from trainables.data.report import describe, hashes, leaks, manifest
from trainables.data.texts import looks
from trainables.errors import UserError, few
from trainables.files import write_text
from trainables.task import MetricsConfig

_SHOWN = 10


def settings(config: DataConfig) -> dict[str, Any]:
    """What a spec must say for `config`: all that is not the default."""
    options = {option.name: option for option in DataConfig.options({"name": config.name}) or ()}
    said = config.model_dump(mode="json", exclude_defaults=True)
    return {"name": config.name} | {
        name: value for name, value in said.items() if name not in options or not options[name].is_default(value)
    }


@dataclass(frozen=True)
class CheckedDataset:
    """A dataset as it lies there.

    `unreadable` are images that do not decode; `leaks` are files with the same bytes in several splits, `alike` such
    as look the same; of files with `several_frames` the first is used. `refusal` is what a sweep with
    `data.on_bad: fail` says to it, or None where it goes on. `config` is how a spec names it, `columns` has a line on
    each column of a table; `undefined` says which objectives it cannot have, `small` which it lacks examples for.
    """

    dataset: Dataset
    unreadable: tuple[BadRecord, ...]
    leaks: tuple[str, ...]
    alike: tuple[str, ...]
    several_frames: tuple[str, ...]
    refusal: str | None
    config: DataConfig
    columns: tuple[str, ...] = ()
    undefined: tuple[str, ...] = ()
    small: tuple[str, ...] = ()
    lengths: tuple[str, ...] = ()

    @property
    def block(self) -> str:
        """The `data:` section of a sweep.yaml."""
        return yaml_text.write({"data": settings(self.config)}).removesuffix("...\n")

    @property
    def good(self) -> bool:
        """Whether a sweep can use it as it is, and its numbers on a split are of images that it has not seen."""
        return self.refusal is None and not self.leaks and not self.undefined

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        unreadable = [{"place": record.place, "problem": record.problem} for record in self.unreadable]
        return {
            **describe(self.dataset),
            "unreadable": unreadable,
            "leaks": list(self.leaks),
            "alike": list(self.alike),
            "several_frames": list(self.several_frames),
            "refusal": self.refusal,
            "columns": list(self.columns),
            "undefined": list(self.undefined),
            "small": list(self.small),
            "doubtful_cells": list(_doubtful_cells(self.dataset)),
            "block": self.block,
        } | ({"lengths": list(self.lengths)} if self.lengths else {})


def check(
    path: Path | None,
    name: str | None = None,
    *,
    columns: Mapping[str, str] = MappingProxyType({}),
    task: str | None = None,
    spec: SweepSpec | None = None,
) -> CheckedDataset:
    """Reads the whole dataset at `path`, each image to its last byte; or the data of `spec`, which may lie at `path`.

    Raises:
        UserError: nothing known is there, or it is too broken to make three splits, or all its classes, of.
    """
    lines: tuple[str, ...] = ()
    if spec is not None:
        config = spec.data.model_copy(update={"root": path} if path else {})
    elif path is None:
        raise UserError("there is nothing to look at. Name a folder, a table, or a spec with --spec.")
    else:
        config, lines = layout.configure(path, name, columns, task)
    lenient = config.model_copy(update={"on_bad": "skip", "max_bad": 1.0})
    dataset = data.load(lenient)
    undefined, small = _undefined(dataset, config, spec)
    texts = dataset.noun == "text"
    images = [] if texts else _images(dataset)
    unreadable = tuple(BadRecord(image.name, image.look.problem) for image in images if image.look.problem)
    left = (image.label for image in images if not image.look.problem)
    check_classes((image.label for image in images), left, unreadable, dataset.root)  # of texts all can be read
    return CheckedDataset(
        dataset,
        unreadable,
        leaks=tuple(leaks(dataset, hashes(dataset) if texts else [image.look.digest for image in images])),
        alike=tuple(looks.alike(dataset) if texts else _alike(images)),
        lengths=tuple(looks.lengths(dataset)) if texts else (),
        several_frames=tuple(str(image) for image in images if image.look.frames > 1),
        refusal=_refusal(lenient, unreadable),
        config=_absolute(config),
        columns=lines,
        undefined=tuple(undefined),
        small=tuple(small),
    )


def report(checked: CheckedDataset) -> str:
    """For people: each cell with its counts, then all that is wrong."""
    dataset = checked.dataset
    lines = [*checked.columns, *[""] * bool(checked.columns)]
    lines += [f"{dataset.name} in {dataset.root}", f"split hash {dataset.split_hash}, licence: {dataset.licence}", ""]
    lines += _tables(dataset)
    dropped = [f"{record.place}: {record.problem}" for record in dataset.bad if record.dropped]
    kept = [f"{record.place}: {record.problem}" for record in dataset.bad if not record.dropped]
    lines += _listed("bad records, left out", dropped)
    lines += _listed("records repaired or doubtful, kept", kept)
    if doubtful := list(_doubtful_cells(dataset)):
        lines += _listed("doubtful cells", doubtful)
    if checked.lengths:
        lines += ["lengths", *(f"  {line}" for line in checked.lengths)]
    else:
        lines += _listed("images that cannot be read", [f"{r.place}: {r.problem}" for r in checked.unreadable])
        lines += _listed("images of several frames, of which the first is used", checked.several_frames)
    lines += _listed(f"{dataset.noun}s in more than one split", checked.leaks)
    lines += _listed(f"{dataset.noun}s that look like one of another split (copies? look at them)", checked.alike)
    lines += [f"note: {note}" for note in dataset.notes]
    lines += [*checked.undefined, *checked.small]
    if checked.refusal is not None:
        lines.append(_MEND)
    elif checked.undefined:
        lines.append("A sweep for this stops here.")
    if checked.leaks:
        lines.append(_LEAK.replace("images", f"{dataset.noun}s"))
    if checked.good:
        lines.append(_SMALL if checked.small else "A sweep can use it as it is.")
    return "\n".join([*lines, "", "To sweep it, write into sweep.yaml:", "", checked.block])


def write_sheet(checked: CheckedDataset, path: Path) -> None:
    """A contact sheet of each cell (of each class, where there is no attribute) as a PNG; of texts, as a text.

    Raises:
        UserError: the file cannot be written.
    """
    from dashboards.ink.contact_sheet import contact_sheet
    from sweeper.report import sheet

    dataset = checked.dataset
    if dataset.noun == "text":
        if path.suffix.lower() != ".txt":
            raise UserError(f"{path}: a sheet of texts is a text. Name a .txt file.")
        with _writing(path):
            write_text(path, looks.sheet(dataset))
        return
    broken = {record.place for record in checked.unreadable}
    with _writing(path):
        rows = list(sheet.cells(dataset, dataset.finest, broken))
        contact_sheet(rows, path, title=f"{dataset.name}, split hash {dataset.split_hash}")


def write_manifest(checked: CheckedDataset, path: Path) -> None:
    """Every example with its split and the hash of its bytes, as CSV.

    Raises:
        UserError: the file cannot be written.
    """
    with _writing(path):
        manifest(checked.dataset, path, contents=True)


_SMALL = "A sweep can use it, but is refused until that is changed."
_LEAK = (
    "A sweep would be measured on images that it was trained on or chosen by: keep each of these in one split only. "
    "It runs, and says so."
)
_MEND = "A sweep stops here: mend these records, or set data.on_bad to 'skip' to leave them out."


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}. Name a file in a folder of yours.") from error


def _absolute(config: DataConfig) -> DataConfig:
    return config if config.root is None else config.model_copy(update={"root": config.root.expanduser().resolve()})


def _undefined(dataset: Dataset, config: DataConfig, spec: SweepSpec | None) -> tuple[list[str], list[str]]:
    """What the spec could not have on this data; and of the default spec, what it could with a lower least group."""
    if spec is not None:
        return on_data.undefined(spec, dataset), []
    plain = SweepSpec.model_validate({"name": "unnamed", "data": config, "groups": _kind(dataset)})
    never = on_data.undefined(plain.model_copy(update={"metrics": MetricsConfig(min_group=1)}), dataset)
    return never, [] if never else on_data.undefined(plain, dataset)


@dataclass(frozen=True)
class _Image:
    """A file of a split, and what a look at it told."""

    name: str
    split: str
    label: str
    look: Contents

    def __str__(self) -> str:
        return f"{self.name} ({self.split})"


def _images(dataset: Dataset) -> list[_Image]:
    """All of the dataset, split by split."""
    images = []
    for split in SPLITS:
        part = dataset.splits[split]
        looks = contents.looks(dataset.root, part.paths)
        for path, label, look in zip(part.paths, part.labels_N, looks, strict=True):
            images.append(_Image(path.relative_to(dataset.root).as_posix(), split, dataset.classes[label], look))
    return images


def _alike(images: Sequence[_Image]) -> Iterator[str]:
    """Those that look like one of an earlier split, but do not have its bytes."""
    earlier: list[_Image] = []
    for split in SPLITS:
        here = [image for image in images if image.split == split]
        copied = {image.look.digest for image in earlier}
        found = pixels.alike([image.look.outline for image in here], [image.look.outline for image in earlier])
        for image, other in zip(here, found, strict=True):
            if other is not None and image.look.digest not in copied:
                yield f"{image} is like {earlier[other]}"
        earlier += here


def _refusal(config: DataConfig, unreadable: tuple[BadRecord, ...]) -> str | None:
    try:
        data.load(config.model_copy(update={"on_bad": "fail"}))
    except UserError as error:
        return str(error)
    count = len(unreadable)
    return f"{count} image{'s' * (count > 1)} cannot be read" if count else None


def _listed(title: str, entries: list[str] | tuple[str, ...]) -> list[str]:
    return [f"{title}: {len(entries)}", *(f"  {entry}" for entry in few(entries, _SHOWN))]


def _kind(dataset: Dataset) -> str:
    """The groups that a first look at it is for."""
    return OVERLAPPING if dataset.overlapping and not dataset.attributes else dataset.finest


def _tables(dataset: Dataset) -> Iterator[str]:
    """The cells (or classes) with their counts; so each of several attributes, and groups that overlap."""
    several = [facet.name for facet in dataset.facets] + [OVERLAPPING] * bool(dataset.overlapping)
    counted = {kind: _counts(dataset, kind) for kind in (dataset.finest, *several)}
    width = max(len(name) for kind, counts in counted.items() for name in (kind, "all", *counts))
    for kind, counts in counted.items():
        yield " ".join([f"{kind:{width}}", *(f"{split:>8}" for split in SPLITS)])
        if kind == dataset.finest:
            counts = counts | {"all": [len(dataset.splits[split]) for split in SPLITS]}
        for name, by_split in counts.items():
            yield " ".join([f"{name:{width}}", *(f"{count:8,}" for count in by_split)])
        yield ""


def _counts(dataset: Dataset, kind: str) -> dict[str, list[int]]:
    """By name of the group its examples in each split."""
    groups = [dataset.groups(split, kind) for split in SPLITS]
    return {name: [int(g.counts_G[i]) for g in groups] for i, name in enumerate(groups[0].names)}


def _doubtful_cells(dataset: Dataset) -> Iterator[str]:
    """Cells that a split lacks, or that have one example, in words; those without any are counted in one line."""
    empty = 0
    for name, counts in _counts(dataset, "cell").items() if dataset.attributes else ():
        lacking = ", ".join(split for split, count in zip(SPLITS, counts, strict=True) if not count)
        if not sum(counts):
            empty += 1
        elif lacking:
            one = sum(counts) == 1
            yield f"{name} has {'one example' if one else f'{sum(counts):,} examples'}, and none in {lacking}"
    if empty:
        yield f"{empty:,} of the cells have no example at all"
