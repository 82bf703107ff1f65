"""What files hold: a hash of their bytes, and whether they are images; remembered per machine.

Reading is done by threads: hashing and decoding release the interpreter's lock.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Any

import PIL
from PIL import Image

from trainables.data.images import pixels
from trainables.errors import UserError
from trainables.files import cache_root, write_text

NO_FILE = "no such file"
_VERSION = 1  # of what a look says of a file; another one looks at all files again
_WORKERS = 8  # hides the latency of a network disk
_AT_ONCE = 32  # files that one thread takes: each by itself would cost more than a file that is known
_SETTLED_NS = 2_000_000_000  # a file younger than the coarsest clock of a disk may change and keep its time

_Entry = list[Any]  # size, time of the content and of the file in ns, then what was read


@dataclass(frozen=True)
class Contents:
    """What reading a file to its end told: a hash of its bytes, why it is no image, or else what is in it.

    `outline` is of the first frame; copies of an image have like ones.
    """

    digest: str | None
    problem: str | None = None
    frames: int = 1
    outline: str | None = None


def digests(root: Path, paths: Sequence[Path]) -> list[str | None]:
    """32 hex digits of SHA-256 per file, None where there is no file.

    A file that has kept its size and times since the last call is not read again.

    Raises:
        UserError: the system refuses to read a file (permission, broken disk).
    """
    return [
        None if entry is None else str(entry[0])
        for entry in _read(f"digests-{_name(root)}", paths, lambda file: [digest(file)])
    ]


def of_examples(root: Path, paths: Sequence[Path], texts: Sequence[str | None]) -> list[str | None]:
    """32 hex digits of SHA-256 per example: of its text, or else of its file's bytes, as `digests` has them."""
    if texts and texts[0] is not None:
        return [hashlib.sha256((text or "").encode(errors="surrogatepass")).hexdigest()[:32] for text in texts]
    return digests(root, paths)


def looks(root: Path, paths: Sequence[Path]) -> list[Contents]:
    """A look at each file, as whole as training decodes it; remembered as `digests` are.

    Raises:
        UserError: as `digests` does.
    """
    what = f"looks-{_name(root, _VERSION, PIL.__version__, pixels.readable())}"
    return [Contents(None, NO_FILE) if entry is None else Contents(*entry) for entry in _read(what, paths, _look)]


@contextlib.contextmanager
def reading(path: Path) -> Iterator[BufferedReader | None]:
    """The file, or None where there is none.

    Raises:
        UserError: the system refuses to read it. That may be gone tomorrow: it is no fact about the data.
    """
    with contextlib.ExitStack() as stack:
        try:
            try:
                file = stack.enter_context(path.open("rb"))
            except FileNotFoundError:
                yield None
            else:
                yield file
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}. Mend that and start again.") from error


def digest(file: BufferedReader) -> str:
    """32 hex digits of SHA-256; the file is at its beginning again."""
    found = hashlib.file_digest(file, "sha256").hexdigest()[:32]
    file.seek(0)
    return found


def identical(digests: Sequence[str | None]) -> list[list[int]]:
    """The positions that share a digest, two or more in each list, in order."""
    together: dict[str, list[int]] = defaultdict(list)
    for i, digest in enumerate(digests):
        if digest is not None:
            together[digest].append(i)
    return [positions for positions in together.values() if len(positions) > 1]


def _look(file: BufferedReader) -> list[Any]:
    seen: dict[str, Any] = {}

    def use(image: Image.Image) -> None:
        seen["outline"] = pixels.outline(pixels.rgb(image))
        seen["frames"] = pixels.frames(image)

    found = digest(file)
    problem = pixels.problem(file, use)
    return list(astuple(Contents(found, problem) if problem else Contents(found, **seen)))


def _read(memory: str, paths: Sequence[Path], read: Callable[[BufferedReader], list[Any]]) -> list[list[Any] | None]:
    """What `read` says of each file, None where there is none; out of the memory where a file is as it was."""
    place = cache_root() / "contents" / f"{memory}.json"
    known = _remembered(place)
    settled = time.time_ns() - _SETTLED_NS
    parts = [paths[start : start + _AT_ONCE] for start in range(0, len(paths), _AT_ONCE)]
    with ThreadPoolExecutor(_WORKERS) as pool:
        entries = [entry for part in pool.map(partial(_entries, known, read), parts) for entry in part]
    fresh = {str(path): entry for path, entry in zip(paths, entries, strict=True) if entry is not None}
    kept = {name: entry for name, entry in fresh.items() if max(entry[1:3]) < settled}
    if any(known.get(name) is not entry for name, entry in kept.items()):
        with contextlib.suppress(OSError):  # a memory that cannot be kept costs time only: the files are read again
            place.parent.mkdir(parents=True, exist_ok=True)
            write_text(place, json.dumps(known | kept))
    return [entry and entry[3:] for entry in entries]


def _entries(
    known: dict[str, _Entry], read: Callable[[BufferedReader], list[Any]], paths: Sequence[Path]
) -> list[_Entry | None]:
    return [_entry(known, read, path) for path in paths]


def _entry(known: dict[str, _Entry], read: Callable[[BufferedReader], list[Any]], path: Path) -> _Entry | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}. Mend that and start again.") from error
    # Size and times as git trusts them: reading every byte of a large dataset takes minutes.
    stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
    before = known.get(str(path))
    if before is not None and before[:3] == stamp:
        return before
    with reading(path) as file:
        return None if file is None else [*stamp, *read(file)]


def _remembered(place: Path) -> dict[str, _Entry]:
    try:
        kept = json.loads(place.read_text(encoding="utf-8"))
        return {str(name): list(entry) for name, entry in kept.items() if len(entry) > 3}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _name(*what: object) -> str:
    return hashlib.sha256(repr(what).encode()).hexdigest()[:20]
