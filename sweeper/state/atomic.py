"""Files that are whole or absent, and whose content is known by its checksum."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sweeper.errors import Corrupt


def write_bytes(path: Path, data: bytes, *, permit: Callable[[], None] = lambda: None) -> None:
    """Write `data` so that a reader, or a crash at any instant, sees all of it or nothing.

    `permit` is asked at the last moment before it shows, and raises to forbid it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        permit()
        os.replace(temporary, path)
    except BaseException as fault:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        if isinstance(fault, OSError):
            fault.filename = fault.filename or str(path)  # a write does not say to where
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, body: Any, *, permit: Callable[[], None] = lambda: None) -> None:
    """Write `body` with its checksum. nan and inf are refused: they are not JSON."""
    text = json.dumps(body, allow_nan=False, sort_keys=True, ensure_ascii=False)
    document = {"sha256": hashlib.sha256(text.encode()).hexdigest(), "body": text}
    write_bytes(path, json.dumps(document, ensure_ascii=False).encode(), permit=permit)


def read_json(path: Path, mend: str = "Delete it: it is written again.") -> Any:
    """The body that `write_json` wrote; `mend` says what to do where it is damaged.

    Raises:
        FileNotFoundError: there is none.
        Corrupt: there is one, and it is not what was written.
    """
    raw = path.read_bytes()
    try:
        document = json.loads(raw)
        text = document["body"]
        intact = hashlib.sha256(text.encode()).hexdigest() == document["sha256"]
    except (ValueError, KeyError, TypeError, AttributeError):
        intact = False
    if not intact:
        raise Corrupt(f"{path} is damaged (its checksum does not fit). {mend}")
    return json.loads(text)


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A place to write to; it takes the name `path` when all is written, and is gone when something went wrong."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}.", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """The text, whole or not at all."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
