"""Some images of every group of a data set, with counts: what a contact sheet shows."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from PIL import Image

from dashboards.ink.contact_sheet import THUMBNAIL, Cell, Pixels
from trainables.data.base import SPLITS, Dataset
from trainables.data.images.transform import Transform
from trainables.data.splitting import fraction

PER_GROUP = 8
_MOST_CELLS = 40  # of more, only the attribute's values are shown


def groups_kind(dataset: Dataset) -> str:
    """The finest groups that a sheet has room for: cells, values of the attribute, or classes where there is none."""
    if not dataset.attributes:
        return "class"
    return "cell" if len(dataset.classes) * len(dataset.attributes) <= _MOST_CELLS else "attribute"


def cells(dataset: Dataset, kind: str, broken: Collection[str] = ()) -> Iterator[Cell]:
    """A row for each group of `kind`, with its counts by split and some images of all splits.

    The images are chosen by a hash of their path, so that neighbours in a table are apart. `broken` are places, below
    the root, of images that are not shown.
    """
    groups = {split: dataset.groups(split, kind) for split in SPLITS}
    members: list[list[str]] = [[] for _ in groups["train"].names]
    for split in SPLITS:
        for path, group in zip(dataset.splits[split].paths, groups[split].index_N, strict=True):
            members[group].append(path.relative_to(dataset.root).as_posix())
    for i, (name, found) in enumerate(zip(groups["train"].names, members, strict=True)):
        shown = sorted(set(found) - set(broken), key=fraction)[:PER_GROUP]
        caption = ", ".join(f"{split} {groups[split].counts_G[i]:,}" for split in SPLITS)
        yield Cell(name, caption, [_thumbnail(dataset, image) for image in shown])


def _thumbnail(dataset: Dataset, image: str) -> Pixels:
    with Image.open(dataset.root / image) as opened:
        transform = Transform(THUMBNAIL, "shorter", crop_bottom=dataset.crop_bottom, upright=dataset.upright)
        return transform(opened).transpose(1, 2, 0)
