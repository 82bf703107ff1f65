"""What is in a folder of data, before a sweep is spent on it: counts, bad records, leaks, a look at each cell."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables import data
from trainables.data import contents
from trainables.data.base import SPLITS, BadRecord, Dataset
from trainables.data.datasets import layout
from trainables.data.report import describe, manifest
from trainables.errors import UserError, few
from trainables.task import DataConfig

if TYPE_CHECKING:
    from dashboards.ink.contact_sheet import Cell

_SHOWN = 10
_PER_CELL = 8


@dataclass(frozen=True)
class CheckedDataset:
    """A dataset as it lies there.

    `unreadable` are images that do not decode; `leaks` are files with the same bytes in several splits;
    `refusal` is what a sweep with `data.on_bad: fail` says to it, or None where it goes on.
    """

    dataset: Dataset
    unreadable: tuple[BadRecord, ...]
    leaks: tuple[str, ...]
    refusal: str | None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON."""
        unreadable = [{"place": record.place, "problem": record.problem} for record in self.unreadable]
        return {
            **describe(self.dataset),
            "unreadable": unreadable,
            "leaks": list(self.leaks),
            "refusal": self.refusal,
        }


def check(path: Path, name: str | None = None) -> CheckedDataset:
    """Reads the whole dataset at `path`, each image to its last byte.

    Raises:
        UserError: nothing known is there, or it is too broken to make three splits of.
    """
    config = DataConfig(name=name or layout.recognise(path), root=path, on_bad="skip", max_bad=1.0)
    dataset = data.load(config)
    unreadable = tuple(_unreadable(dataset))
    return CheckedDataset(dataset, unreadable, tuple(_leaks(dataset)), _refusal(config, unreadable))


def report(checked: CheckedDataset) -> str:
    """For people: each cell with its counts, then all that is wrong."""
    dataset = checked.dataset
    lines = [f"{dataset.name} in {dataset.root}", f"split hash {dataset.split_hash}, licence: {dataset.licence}", ""]
    lines += [*_table(dataset), ""]
    dropped = [f"{record.place}: {record.problem}" for record in dataset.bad if record.dropped]
    kept = [f"{record.place}: {record.problem}" for record in dataset.bad if not record.dropped]
    lines += _listed("bad records, left out", dropped)
    lines += _listed("records repaired or doubtful, kept", kept)
    lines += _listed("images that cannot be read", [f"{r.place}: {r.problem}" for r in checked.unreadable])
    lines += _listed("images in more than one split", checked.leaks)
    lines += [f"note: {note}" for note in dataset.notes]
    lines.append("A sweep can use it as it is." if checked.refusal is None else _MEND)
    return "\n".join(lines)


def write_sheet(checked: CheckedDataset, path: Path) -> None:
    """A contact sheet of each cell (of each class, where there is no attribute) as a PNG.

    Raises:
        UserError: the file cannot be written.
    """
    from dashboards.ink.contact_sheet import contact_sheet

    dataset = checked.dataset
    with _writing(path):
        contact_sheet(list(_cells(checked)), path, title=f"{dataset.name}, split hash {dataset.split_hash}")


def write_manifest(checked: CheckedDataset, path: Path) -> None:
    """Every example with its split and the hash of its bytes, as CSV.

    Raises:
        UserError: the file cannot be written.
    """
    with _writing(path):
        manifest(checked.dataset, path, contents=True)


_MEND = "A sweep stops here: mend these records, or set data.on_bad to 'skip' to leave them out."


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}. Name a file in a folder of yours.") from error


def _unreadable(dataset: Dataset) -> Iterator[BadRecord]:
    for split in SPLITS:
        paths = dataset.splits[split].paths
        for path, problem in zip(paths, contents.unreadable(paths), strict=True):
            if problem:
                yield BadRecord(path.relative_to(dataset.root).as_posix(), problem)


def _leaks(dataset: Dataset) -> Iterator[str]:
    files = [(split, path) for split in SPLITS for path in dataset.splits[split].paths]
    hashes = contents.digests(dataset.root, [path for _, path in files])
    for positions in contents.identical(hashes):
        if len({files[i][0] for i in positions}) > 1:
            copies = (f"{files[i][1].relative_to(dataset.root).as_posix()} ({files[i][0]})" for i in positions)
            yield ", ".join(few(copies))


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
    return "cell" if dataset.attributes else "class"


def _table(dataset: Dataset) -> Iterator[str]:
    groups = [dataset.groups(split, _kind(dataset)) for split in SPLITS]
    rows = [(name, [int(g.counts_G[i]) for g in groups]) for i, name in enumerate(groups[0].names)]
    rows.append(("all", [len(dataset.splits[split]) for split in SPLITS]))
    width = max(len(name) for name in (_kind(dataset), *(name for name, _ in rows)))
    yield " ".join([f"{_kind(dataset):{width}}", *(f"{split:>8}" for split in SPLITS)])
    for name, counts in rows:
        yield " ".join([f"{name:{width}}", *(f"{count:8,}" for count in counts)])


def _cells(checked: CheckedDataset) -> Iterator[Cell]:
    """Images of every split, chosen by a hash of their path, so that neighbours in a table are apart."""
    from dashboards.ink.contact_sheet import Cell
    from trainables.data.splitting import fraction

    dataset = checked.dataset
    broken = {record.place for record in checked.unreadable}
    groups = {split: dataset.groups(split, _kind(dataset)) for split in SPLITS}
    members: list[list[str]] = [[] for _ in groups["train"].names]
    for split in SPLITS:
        for path, group in zip(dataset.splits[split].paths, groups[split].index_N, strict=True):
            members[group].append(path.relative_to(dataset.root).as_posix())
    for i, (name, found) in enumerate(zip(groups["train"].names, members, strict=True)):
        shown = sorted(set(found) - broken, key=fraction)[:_PER_CELL]
        caption = ", ".join(f"{split} {groups[split].counts_G[i]:,}" for split in SPLITS)
        yield Cell(name, caption, [_thumbnail(dataset, image) for image in shown])


def _thumbnail(dataset: Dataset, image: str) -> Any:
    from PIL import Image

    from dashboards.ink.contact_sheet import THUMBNAIL
    from trainables.data.images.transform import Transform

    with Image.open(dataset.root / image) as opened:
        transform = Transform(THUMBNAIL, "shorter", crop_bottom=dataset.crop_bottom)
        return transform(opened).transpose(1, 2, 0)
