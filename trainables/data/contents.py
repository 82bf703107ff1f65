"""What files hold: hashes of their bytes, remembered per machine, and whether they are images.

Reading is done by threads: hashing and decoding release the interpreter's lock.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import TypeVar

from PIL import Image, UnidentifiedImageError

from trainables.errors import UserError
from trainables.files import write_text
from trainables.task import cache_root

_WORKERS = 8  # hides the latency of a network disk
_T = TypeVar("_T")


def digests(root: Path, paths: Sequence[Path]) -> list[str | None]:
    """32 hex digits of SHA-256 per file, None where there is no file.

    A file that has kept its size and time since the last call is not read again.

    Raises:
        UserError: the system refuses to read a file (permission, broken disk).
    """
    memory = cache_root() / "digests" / f"{hashlib.sha256(str(root).encode()).hexdigest()[:20]}.json"
    known = _remembered(memory)
    entries = _each(lambda path: _digest(path, known.get(str(path))), paths)
    present = {str(path): entry for path, entry in zip(paths, entries, strict=True) if entry is not None}
    if present.items() - known.items():
        with contextlib.suppress(OSError):  # a memory that cannot be kept costs time only: the files are read again
            memory.parent.mkdir(parents=True, exist_ok=True)
            write_text(memory, json.dumps(known | present))
    return [entry and entry[2] for entry in entries]


def unreadable(paths: Sequence[Path]) -> list[str | None]:
    """Why each file is not an image that decodes to its last byte; None where it is one."""
    Image.preinit()  # before the threads, which would all do it
    return _each(lambda path: decoding_problem(path, lambda image: image.load()), paths)


def decoding_problem(file: Path | BytesIO, use: Callable[[Image.Image], object]) -> str | None:
    """Why `use` could not have the image in `file`, in words; None where it could."""
    try:
        with Image.open(file) as image:
            use(image)
    except MemoryError:  # says something about this machine, not about the file
        raise
    except FileNotFoundError:
        return "no such file"
    except UnidentifiedImageError:
        return "is not an image that Pillow can read"
    except Exception as error:  # damaged bytes make Pillow raise nearly anything
        return f"cannot be decoded: {type(error).__name__}: {error}"
    return None


def identical(digests: Sequence[str | None]) -> list[list[int]]:
    """The positions that share a digest, two or more in each list, in order."""
    together: dict[str, list[int]] = defaultdict(list)
    for i, digest in enumerate(digests):
        if digest is not None:
            together[digest].append(i)
    return [positions for positions in together.values() if len(positions) > 1]


_Entry = tuple[int, int, str]  # size, time in ns, digest


def _remembered(memory: Path) -> dict[str, _Entry]:
    try:
        kept = json.loads(memory.read_text(encoding="utf-8"))
        return {str(name): (int(size), int(time), str(digest)) for name, (size, time, digest) in kept.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _digest(path: Path, known: _Entry | None) -> _Entry | None:
    try:
        stat = path.stat()
        # Size and time as git trusts them: reading every byte of a large dataset takes minutes.
        if known and known[:2] == (stat.st_size, stat.st_mtime_ns):
            return known
        return stat.st_size, stat.st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()[:32]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}. Mend that and start again.") from error


def _each(function: Callable[[Path], _T], paths: Sequence[Path]) -> list[_T]:
    with ThreadPoolExecutor(_WORKERS) as pool:
        return list(pool.map(function, paths))
