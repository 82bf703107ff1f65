"""An array of images in the making: filled by several threads, chunk by chunk, and not lost when killed.

Each finished chunk is one line of the journal, written after its pixels, with their checksum: a chunk
whose line is whole and whose pixels agree with it is never decoded again.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from trainables.arrays import Ints, Pixels
from trainables.data import contents
from trainables.data.images import pixels
from trainables.data.images.transform import Transform

CHUNK = 256


class Draft:
    """`digests[i]` is a hash of the bytes of record i, `problems[i]` why it is unreadable, or None."""

    def __init__(self, folder: Path, paths: tuple[Path, ...], transform: Transform) -> None:
        """Opens what an earlier process left in `folder`, or makes room for all of it.

        Raises:
            OSError: there is no room.
        """
        folder.mkdir(exist_ok=True)
        self._folder, self._paths, self._transform = folder, paths, transform
        self._pixels = _allocate(folder / "images.u8", (len(paths), 3, transform.size, transform.size))
        # The system may have written the journal's line to the disk, and then lost power before the pixels.
        self._done = {
            entry["chunk"]: entry
            for entry in self._journal()
            if zlib.crc32(self._pixels[_rows(entry["chunk"])].data) == entry["crc"]
        }

    @property
    def digests(self) -> list[str]:
        """One hash per record; call after `fill`."""
        return [digest for chunk in sorted(self._done) for digest in self._done[chunk]["digests"]]

    @property
    def problems(self) -> list[str | None]:
        """One entry per record; call after `fill`."""
        return [problem for chunk in sorted(self._done) for problem in self._done[chunk]["problems"]]

    def fill(self, workers: int) -> None:
        """Decodes what is missing.

        Raises:
            UserError: a file is there but the system cannot read it (permission, broken disk).
        """
        pixels.readable()  # before the threads, which would all load them
        missing = [chunk for chunk in range(-(-len(self._paths) // CHUNK)) if chunk not in self._done]
        with ThreadPoolExecutor(max(1, workers)) as pool, (self._folder / "journal").open("a") as journal:
            journal.write("\n")  # ends a line that a kill cut short
            for entry in pool.map(self._decode, missing):
                journal.write(json.dumps(entry) + "\n")
                journal.flush()
                self._done[entry["chunk"]] = entry

    def finish(self, kept_N: Ints) -> Path:
        """A file of the kept records' pixels alone, safe on the disk."""
        path = self._folder / "images.u8"
        self._pixels.flush()
        if len(kept_N) < len(self._paths):
            path = self._folder / "kept.u8"
            with path.open("wb") as file:
                for start in range(0, len(kept_N), CHUNK):
                    file.write(self._pixels[kept_N[start : start + CHUNK]].tobytes())
        with path.open("rb") as file:
            os.fsync(file.fileno())
        return path

    def _journal(self) -> Iterator[dict[str, Any]]:
        path = self._folder / "journal"
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                yield json.loads(line)
            except json.JSONDecodeError:
                continue  # empty, or cut short by a kill: its chunk is decoded again

    def _decode(self, chunk: int) -> dict[str, Any]:
        target = self._pixels[_rows(chunk)]
        target[:] = 0
        reads = [_read(path, self._transform, row) for row, path in zip(target, self._paths[_rows(chunk)], strict=True)]
        digests, problems = zip(*reads, strict=True)
        return {"chunk": chunk, "crc": zlib.crc32(target.data), "digests": digests, "problems": problems}


def _rows(chunk: int) -> slice:
    return slice(chunk * CHUNK, (chunk + 1) * CHUNK)


def _allocate(path: Path, shape: tuple[int, ...]) -> np.memmap[Any, np.dtype[np.uint8]]:
    """Room on the disk before the first write: a memory map on a full disk would kill the process instead."""
    size = int(np.prod(shape))
    if not path.exists() or path.stat().st_size != size:
        with path.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
    return np.memmap(path, np.uint8, "r+", shape=shape)


def _read(path: Path, transform: Transform, row: Pixels) -> tuple[str, str | None]:
    """Writes the image's pixels to `row` [3, S, S]; returns the hash of the file and what is wrong with it."""
    with contents.reading(path) as file:
        if file is None:
            return "missing", contents.NO_FILE
        digest = contents.digest(file)
        return digest, pixels.problem(file, lambda image: np.copyto(row, transform(image)))
