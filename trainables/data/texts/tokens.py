"""Texts tokenised once per machine, into one memory-mapped array with their lengths, which all processes share.

One folder per split, named after the texts and the tokenizer:

    <cache>/tokens/<key>/tokens.i32     int32 [N + 1 + T]: where each text begins, and then all tokens
    <cache>/tokens/<key>/manifest.json  N, T, a checksum, how many texts were cut

Shapes: N texts of the split, T tokens of all of them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from trainables.arrays import Ints
from trainables.data.base import Dataset
from trainables.errors import UserError
from trainables.files import cache_root, whole, write_text

_LOG = logging.getLogger(__name__)
_RULES = 1  # of what is kept; another number is another array
_AT_ONCE = 1000


@dataclass(frozen=True)
class Reading:
    """How a language model reads: `encode(texts, most)` gives each text's tokens, special ones included, cut to `most`.

    `most` of None cuts nothing. `digest` tells one tokenizer from another; `length` is the most that a model is given.
    `folder` has the tokenizer.
    """

    encode: Callable[[Sequence[str], int | None], list[list[int]]]
    digest: str
    length: int
    folder: Path | None = None


@dataclass(frozen=True)
class Tokenised:
    """The tokens of one split: text i is `tokens_T[starts_N1[i]:starts_N1[i + 1]]`, of a read-only memory map.

    `hash` covers texts and tokenizer; `cut` counts the texts that had more tokens than the model is given.
    """

    tokens_T: Ints
    starts_N1: Ints
    hash: str
    cut: int


class Tokens:
    """All splits of a dataset of texts as tokens, each made at its first use."""

    def __init__(self, dataset: Dataset, reading: Reading) -> None:
        self.dataset, self._reading = dataset, reading
        self._splits: dict[str, Tokenised] = {}

    def split(self, name: str) -> Tokenised:
        """The tokens of `dataset.splits[name]`, text by text.

        Raises:
            UserError: there is no room for them.
        """
        if name not in self._splits:
            texts = self.dataset.splits[name].texts
            self._splits[name] = tokenised(texts, self._reading, about=f"{self.dataset.name}, {name}")
        return self._splits[name]

    @property
    def notes(self) -> list[str]:
        """A sentence for each split that was read and has texts that were cut."""
        return [
            f"{name}: {found.cut:,} of {len(found.starts_N1) - 1:,} texts have more than "
            f"{self._reading.length} tokens, and are cut"
            for name, found in self._splits.items()
            if found.cut
        ]


def tokenised(texts: Sequence[str], reading: Reading, *, about: str) -> Tokenised:
    """The tokens of these texts; made now if no one on this machine has yet."""
    digest = hashlib.sha256(json.dumps([_RULES, reading.digest, reading.length]).encode())
    for text in texts:
        digest.update(f"{len(text)}\x1f{text}\x1e".encode(errors="surrogatepass"))
    key = digest.hexdigest()[:20]
    folder = cache_root() / "tokens" / key
    found = _open(folder)
    if found is None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder.with_suffix(".lock")):
                found = _open(folder) or _made(folder, texts, reading, about)
        except OSError as error:
            raise UserError(
                f"{folder}: the tokens of {about} cannot be kept there ({error.strerror}). Make room, or set "
                "SWEEPER_CACHE to another folder."
            ) from error
    manifest, array = found
    N = manifest["texts"]
    return Tokenised(array[N + 1 :], array[: N + 1].astype(np.int64), key[:16], manifest["cut"])


def _made(folder: Path, texts: Sequence[str], reading: Reading, about: str) -> tuple[dict[str, Any], Ints]:
    _LOG.info("tokenising %d texts of %s, once on this machine", len(texts), about)
    rows: list[list[int]] = []
    cut = 0
    for start in range(0, len(texts), _AT_ONCE):
        part = list(texts[start : start + _AT_ONCE])
        found = reading.encode(part, None)
        long = [i for i, row in enumerate(found) if len(row) > reading.length]
        for i, row in zip(long, reading.encode([part[i] for i in long], reading.length) if long else (), strict=True):
            found[i] = row
        cut += len(long)
        rows += found
    starts_N1 = np.cumsum([0, *map(len, rows)])
    array = np.concatenate([starts_N1, *map(np.asarray, rows)]).astype(np.int32)
    manifest = {"about": about, "texts": len(texts), "cut": cut, "crc": zlib.crc32(array.tobytes())}
    with whole(folder / "tokens.i32") as draft:
        array.tofile(draft)
    write_text(folder / "manifest.json", json.dumps(manifest))
    opened = _open(folder)
    assert opened is not None
    return opened


def _open(folder: Path) -> tuple[dict[str, Any], Ints] | None:
    """What is there, if it is what it says: a torn array is made again."""
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        array: Any = np.memmap(folder / "tokens.i32", np.int32, "r")
        return (manifest, array) if zlib.crc32(array) == manifest["crc"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
