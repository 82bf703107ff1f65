"""Who is in which split, as a table that anybody can check, or train on (`data.name: csv`)."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from trainables.data.base import SPLITS, Dataset
from trainables.data.contents import digests
from trainables.files import write_text

COLUMNS = ("split", "id", "label", "attribute", "image", "sha256")


def manifest(dataset: Dataset, path: Path, *, contents: bool = False) -> None:
    """Writes one line per example, all at once or not at all.

    `image` is the path below the dataset's root, `sha256` the first 32 digits of the file's hash, or
    empty where `contents` is not asked for: that reads every file once on this machine.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows(_rows(dataset, contents))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text.getvalue())


def _rows(dataset: Dataset, contents: bool) -> Iterator[tuple[str, ...]]:
    for split in SPLITS:
        part = dataset.splits[split]
        images = [file.relative_to(dataset.root).as_posix() for file in part.paths]
        hashes = digests(dataset.root, part.paths) if contents else [None] * len(part)
        attributes = (
            [""] * len(part) if part.attributes_N is None else [dataset.attributes[i] for i in part.attributes_N]
        )
        labels = [dataset.classes[i] for i in part.labels_N]
        ids = dataset.ids.get(split) or images
        for id_, label, attribute, image, digest in zip(ids, labels, attributes, images, hashes, strict=True):
            yield split, id_, label, attribute, image, digest or ""
