"""Files and folders that are whole or absent: made under a hidden name beside their place, then renamed into it.

A reader, or a crash at any instant, meets the old content or the new, never half of one. The hidden names begin
with a dot, so that what a crash leaves of them can be told from content.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(
    path: Path, *, durable: bool = False, private: bool = False, permit: Callable[[], None] = lambda: None
) -> Iterator[Path]:
    """A place to write to; it takes the name `path` when all is written, and is gone when something went wrong.

    Its content is on the disk before its name changes. `durable` syncs the name too: it outlives a power cut.
    A `private` file is its owner's alone from the first byte; others follow the umask.
    `permit` is called just before the file takes its name, and raises to forbid it.
    """
    # Some writers choose their format by the suffix. Of a durable file a crash may leave the draft, and nobody who
    # looks for `*.json` may meet that.
    draft = _draft(path, "" if durable else path.suffix)
    try:
        make(draft, private=private)
        mode = draft.stat().st_mode
        yield draft
        if draft.stat().st_mode != mode:  # a writer that puts a file of its own there, as safetensors does: 0600
            draft.chmod(mode)
        _sync(draft)
        permit()
        os.replace(draft, path)
    except OSError as fault:
        # An error of a write names no file, and the hidden name means nothing to a user.
        if fault.errno and fault.filename in (None, str(draft)):
            fault.filename = str(path)
        raise
    finally:
        draft.unlink(missing_ok=True)
    if durable:
        _sync(path.parent)


@contextmanager
def whole_folder(path: Path, *, durable: bool = False, over: bool = False) -> Iterator[Path]:
    """A folder to fill; it takes the name `path` when it is full, and is gone when something went wrong.

    It may take the place of an empty folder; of one with content only where `over` says so.

    Raises:
        FileExistsError: there is something at `path`.
    """
    draft = _draft(path)
    draft.mkdir(parents=True)
    try:
        yield draft
        move_folder(draft, path, durable=durable, over=over)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def move_folder(
    draft: Path, path: Path, *, durable: bool = False, over: bool = False, permit: Callable[[], None] = lambda: None
) -> None:
    """Give the folder `draft` (on the same file system) the name `path`; the rest is as for `whole_folder`.

    What a writer made its owner's alone is as open as the folder is.
    """
    mode = draft.stat().st_mode & 0o666  # as the umask gives it
    for place in draft.rglob("*"):
        if stat.S_ISREG(own := place.lstat().st_mode) and stat.S_IMODE(own) == 0o600 != mode:  # by safetensors, say
            place.chmod(mode)
    if durable:
        for place in (*draft.iterdir(), draft):
            _sync(place)
    permit()
    if over and path.exists():
        shutil.rmtree(path)
    try:
        os.rename(draft, path)
    except OSError as fault:
        if fault.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        raise
    if durable:
        _sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """The text in UTF-8, whole or not at all."""
    with whole(path) as draft:
        draft.write_text(text, encoding="utf-8", newline="")


def make(path: Path, *, private: bool = False) -> None:
    """An empty file, which must not be there yet: its owner's alone, or as the umask has it."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666))


def _draft(path: Path, suffix: str = "") -> Path:
    """A hidden name that no other has."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}{suffix}")


def _sync(path: Path) -> None:
    """Puts a file's content, or a folder's names, on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def cache_root() -> Path:
    """Where this machine keeps built data, decoded images and pre-trained weights.

    `SWEEPER_CACHE`, else `XDG_CACHE_HOME/sweeper`, else `~/.cache/sweeper`.
    """
    own = os.environ.get("SWEEPER_CACHE")
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sweeper"
