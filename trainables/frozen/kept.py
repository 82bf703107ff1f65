"""What the frozen beginning of a model makes of a split, computed once per machine and mapped by all its processes.

One folder per split, model and cut:

    <cache>/frozen/<key>/hidden         [N, V, ...]: of each example V views, the image as it is and flipped
    <cache>/frozen/<key>/manifest.json  shape, type, size, and for people what it is of

A folder has its name when it is whole, never before. All together take a quarter of the disk's free room at most. One
that nobody used for 30 days goes when another is made; where room is short, so do those that were not used for a day.
Shapes: N examples of the split, V views.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from trainables.files import cache_root, whole_folder, write_text
from trainables.frozen.prefix import Unfit

_LOG = logging.getLogger(__name__)
_FORMAT = 1
SHARE_OF_FREE_DISK = 0.25
_DAY_S = 86_400.0
UNUSED_S = 30 * _DAY_S
_TYPES = {torch.float32: np.float32, torch.bfloat16: np.int16, torch.float16: np.float16}  # numpy has no bfloat16


@dataclass(frozen=True)
class Hidden:
    """What is kept of one split: `key` says all that its numbers depend on, `shape` is `[N, V, ...]`."""

    key: Mapping[str, Any]
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def folder(self) -> Path:
        """Where it is kept on this machine."""
        said = json.dumps([_FORMAT, dict(self.key), self.shape, str(self.dtype)], sort_keys=True)
        return home() / hashlib.sha256(said.encode()).hexdigest()[:20]

    @property
    def nbytes(self) -> int:
        """Its size on the disk."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self, compute: Callable[[], Iterator[Tensor]], about: str) -> Tensor:
        """The numbers, mapped; computed now, if nobody has: `compute` gives them in order, some examples at a time.

        Raises:
            Unfit: there is no room for them.
        """
        if (found := self._mapped()) is not None:
            return found
        home().mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder.with_suffix(".lock")):
            if (found := self._mapped()) is None:  # nobody has made it meanwhile
                self._make(compute, about)
                found = self._mapped()
        if found is None:
            raise Unfit(f"{self.folder} cannot be read back")
        return found

    def _mapped(self) -> Tensor | None:
        try:
            manifest = json.loads((self.folder / "manifest.json").read_text(encoding="utf-8"))
            stat = (self.folder / "hidden").stat()
            # A size or a time that is not as it was written: the file was cut short, or is a copy of who knows what.
            if [stat.st_size, stat.st_mtime_ns] != [self.nbytes, manifest["mtime_ns"]]:
                return None
            numbers = np.memmap(self.folder / "hidden", _TYPES[self.dtype], "r", shape=self.shape)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        with contextlib.suppress(OSError):
            os.utime(self.folder / "manifest.json")  # used now
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the map is read-only, and nobody writes to it
            return torch.from_numpy(numbers).view(self.dtype)

    def _make(self, compute: Callable[[], Iterator[Tensor]], about: str) -> None:
        for left in home().glob(f".{self.folder.name}.*"):  # by a process that was killed: only one is here at a time
            shutil.rmtree(left, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)  # torn
        _make_room(self.nbytes)
        _LOG.info("computing the frozen part for %s, once on this machine: %.2f GB", about, self.nbytes / 1e9)
        began = time.perf_counter()
        try:
            with whole_folder(self.folder) as draft:
                with (draft / "hidden").open("wb") as file:
                    for part in compute():
                        file.write(part.contiguous().cpu().view(torch.uint8).numpy().tobytes())
                    file.flush()
                    os.fsync(file.fileno())
                stat = (draft / "hidden").stat()
                manifest = {
                    **self.key,
                    "about": about,
                    "shape": self.shape,
                    "dtype": str(self.dtype),
                    "mtime_ns": stat.st_mtime_ns,
                    "seconds": round(time.perf_counter() - began, 2),
                }
                write_text(draft / "manifest.json", json.dumps(manifest))
        except OSError as fault:
            raise Unfit(f"{self.folder} cannot be written ({fault.strerror})") from fault


def home() -> Path:
    """The folder of all of them."""
    return cache_root() / "frozen"


def _make_room(nbytes: int) -> None:
    """Drop what is old.

    Raises:
        Unfit: there is no room for so many bytes all the same.
    """
    for draft in home().glob(".*"):  # a whole folder has no such name: left by a kill, or being written to
        with contextlib.suppress(OSError):
            if time.time() - max(file.stat().st_mtime for file in (draft, *draft.iterdir())) > _DAY_S:
                shutil.rmtree(draft, ignore_errors=True)
    kept = sorted(_kept())  # least lately used first
    free = shutil.disk_usage(home()).free
    most = SHARE_OF_FREE_DISK * (free + sum(size for _, size, _ in kept))
    taken = sum(size for _, size, _ in kept) + nbytes
    for used, size, folder in kept:
        age_s = time.time() - used
        if age_s > UNUSED_S or (taken > most and age_s > _DAY_S):
            shutil.rmtree(folder, ignore_errors=True)  # who has mapped it keeps it
            taken -= size
    if taken > most:
        raise Unfit(
            f"it needs {nbytes / 1e9:.2f} GB in {home()}, where {max(0.0, most - taken + nbytes) / 1e9:.2f} GB of the "
            f"{most / 1e9:.2f} GB for such files are left, a quarter of the free disk"
        )


def _kept() -> Iterator[tuple[float, int, Path]]:
    """When each was last used, its size, and its folder."""
    for manifest in home().glob("[!.]*/manifest.json"):
        with contextlib.suppress(OSError):  # another process has dropped it
            yield manifest.stat().st_mtime, (manifest.parent / "hidden").stat().st_size, manifest.parent
