"""Images decoded and resized once per machine, into one memory-mapped array that all processes share.

One folder per array, named after the files' names and bytes and the transform:

    <cache>/decoded/<key>/images.u8      uint8 [N, 3, S, S]: the readable records, in their order
    <cache>/decoded/<key>/manifest.json  shape, content hash, checksums, what could not be read
    <cache>/decoded/<key>/draft/         an unfinished array and the journal of its finished chunks

A killed build goes on after its last whole chunk; a finished array that is torn is noticed and built again.
Shapes: N readable records of the split, C = 3 channels, S the transform's size.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from filelock import FileLock

from trainables.arrays import Ints, Pixels
from trainables.data import DataConfig
from trainables.data.base import SPLITS, BadRecord, Dataset
from trainables.data.contents import digests
from trainables.data.examples import check_classes, settle
from trainables.data.images import pixels
from trainables.data.images.draft import CHUNK, Draft
from trainables.data.images.transform import Transform
from trainables.errors import UserError
from trainables.files import cache_root, write_text

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Decoded:
    """The pixels of one split.

    `images_NCHW` is a read-only memory map; its row i shows record `kept_N[i]` of the split. `hash` covers every
    record's bytes, readable or not, and the transform. `notes` say what had to be repaired.
    """

    images_NCHW: Pixels
    hash: str
    kept_N: Ints
    bad: tuple[BadRecord, ...] = ()
    notes: tuple[str, ...] = ()


class Images:
    """All splits of a dataset as pixels, without the records whose image cannot be read.

    With `on_bad: fail` a split is decoded at its first use, and an unreadable image is an error. With `skip` all
    splits are decoded at once, so that `dataset`, and its split hash, leave out the same records in every fit.
    """

    def __init__(self, dataset: Dataset, transform: Transform, config: DataConfig, *, workers: int = 1) -> None:
        """Raises: `UserError` where more records are bad than `config` lets pass."""
        self._source, self._transform, self._workers = dataset, transform, workers
        self._skip = config.on_bad == "skip"
        self._decoded: dict[str, Decoded] = {}
        self.dataset = self._without_bad(config) if self._skip else dataset

    def split(self, name: str) -> Decoded:
        """The pixels of `self.dataset.splits[name]`, row by row.

        Raises:
            UserError: an image cannot be read and `on_bad` is `fail`; or the disk is full.
        """
        if name not in self._decoded:
            reader = readable if self._skip else decoded
            self._decoded[name] = reader(self._source, name, self._transform, workers=self._workers)
        return self._decoded[name]

    def _without_bad(self, config: DataConfig) -> Dataset:
        source = self._source
        bad = [*source.bad, *(record for name in SPLITS for record in self.split(name).bad)]
        total = sum(len(source.splits[name]) for name in SPLITS) + sum(record.dropped for record in source.bad)
        settle(bad, total, config, source.root)
        kept = {name: source.splits[name].part(self.split(name).kept_N) for name in SPLITS}
        whole, left = (
            [source.classes[label] for part in splits.values() for label in part.labels_N]
            for splits in (source.splits, kept)
        )
        check_classes(whole, left, bad, source.root)
        return replace(source, splits=kept, bad=tuple(bad))


def decoded(dataset: Dataset, split: str, transform: Transform, *, workers: int = 1) -> Decoded:
    """The pixels of one split, all of whose images must be readable; decoded now if no one has yet.

    Args:
        workers: threads that decode. Pillow releases the interpreter's lock, so they run side by side.

    Raises:
        UserError: an image is missing or corrupt (named), or the disk is full.
    """
    found = readable(dataset, split, transform, workers=workers)
    settle(found.bad, len(dataset.splits[split]), DataConfig(on_bad="fail"), dataset.root)
    return found


def readable(dataset: Dataset, split: str, transform: Transform, *, workers: int = 1) -> Decoded:
    """The pixels of the records of one split that can be read; `bad` has the others, by their place below the root."""
    paths = dataset.splits[split].paths
    transform = replace(transform, crop_bottom=dataset.crop_bottom, upright=dataset.upright)
    names = [os.path.relpath(path, dataset.root) for path in paths]  # a dataset that moves keeps its array
    key = _key(names, digests(dataset.root, paths), transform)
    folder = cache_root() / "decoded" / key
    manifest, notes = _whole(folder), []
    if manifest is None:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            manifest = _whole(folder)  # another process may have built it meanwhile
            if manifest is None:
                notes = _discard_torn(folder)
                manifest = _build(folder, paths, transform, workers, about=f"{dataset.name}, {split}")
    return _open(folder, manifest, names, notes)


def _key(names: list[str], contents: list[str | None], transform: Transform) -> str:
    """Other bytes have another key; so has the same HEIC, a bad record, once its decoder is installed."""
    rules = [pixels.RULES, asdict(transform), pixels.HEIF in pixels.readable()]
    digest = hashlib.sha256(json.dumps(rules).encode())
    for name, content in zip(names, contents, strict=True):
        digest.update(f"\x1e{name}\x1f{content}".encode())
    return digest.hexdigest()[:20]


def _whole(folder: Path) -> dict[str, Any] | None:
    """The manifest, if the array is what it says. Checksums are read only where size or time look foreign."""
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
        stat = (folder / "images.u8").stat()
        if stat.st_size != int(np.prod(manifest["shape"])):
            return None
        if stat.st_mtime_ns != manifest["mtime_ns"]:
            if _checksums(_map(folder, manifest["shape"])) != manifest["checksums"]:
                return None
            with contextlib.suppress(OSError):  # a cache that others own can be read, and is checked each time
                write_text(folder / "manifest.json", json.dumps({**manifest, "mtime_ns": stat.st_mtime_ns}))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return manifest


def _discard_torn(folder: Path) -> list[str]:
    torn = [path for path in (folder / "images.u8", folder / "manifest.json") if path.exists()]
    if not torn:
        return []
    for path in torn:
        path.unlink()
    note = f"decoded images were damaged and are built again: {folder}"
    _LOG.warning(note)
    return [note]


def _build(folder: Path, paths: tuple[Path, ...], transform: Transform, workers: int, *, about: str) -> dict[str, Any]:
    try:
        draft = Draft(folder / "draft", paths, transform)
    except OSError as error:
        gigabytes = len(paths) * 3 * transform.size**2 / 1e9
        raise UserError(
            f"{folder}: no room for {gigabytes:.2f} GB of decoded images ({error.strerror}). "
            "Make room there, or set SWEEPER_CACHE to a folder on a larger disk."
        ) from error
    _LOG.info("decoding %d images of %s, once on this machine", len(paths), about)
    draft.fill(workers)
    kept = np.array([i for i, problem in enumerate(draft.problems) if problem is None], dtype=np.int64)
    if not len(kept):
        raise UserError(f"none of the {len(paths)} images can be read. The first: {paths[0]}: {draft.problems[0]}.")
    images = draft.finish(kept)
    # The pixels first: without a manifest that agrees with them they are not read.
    os.replace(images, folder / "images.u8")
    shape = (len(kept), 3, transform.size, transform.size)
    manifest = {
        "about": about,
        "shape": shape,
        "hash": hashlib.sha256(json.dumps([asdict(transform), draft.digests]).encode()).hexdigest()[:16],
        "bad": [[i, problem] for i, problem in enumerate(draft.problems) if problem is not None],
        "records": len(paths),
        # Of the pixels, to tell a foreign time stamp (a copy, a restored backup) from foreign pixels.
        "checksums": _checksums(_map(folder, shape)),
        "mtime_ns": (folder / "images.u8").stat().st_mtime_ns,
        "transform": asdict(transform),
        "pillow": PIL.__version__,
    }
    write_text(folder / "manifest.json", json.dumps(manifest))
    shutil.rmtree(folder / "draft")
    return manifest


def _open(folder: Path, manifest: dict[str, Any], names: list[str], notes: list[str]) -> Decoded:
    bad = {int(i): str(problem) for i, problem in manifest["bad"]}
    return Decoded(
        images_NCHW=_map(folder, manifest["shape"]),
        hash=manifest["hash"],
        kept_N=np.array([i for i in range(len(names)) if i not in bad], dtype=np.int64),
        bad=tuple(BadRecord(names[i], problem) for i, problem in bad.items()),
        notes=tuple(notes),
    )


def _map(folder: Path, shape: Sequence[int]) -> Pixels:
    return np.memmap(folder / "images.u8", np.uint8, "r", shape=tuple(shape))


def _checksums(images: Pixels) -> list[int]:
    return [zlib.crc32(images[start : start + CHUNK].data) for start in range(0, len(images), CHUNK)]
