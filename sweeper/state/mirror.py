"""A sweep's folder, kept on an object store too: for nodes that share no disk.

The only door to pyarrow.fs. The store holds the truth, and a node's own folder is a copy of the part that it works on:
`share` makes the store as this folder is, `fetch` makes this folder as the store is. An object shows when all of it is
there, and a fit's result goes last, so a death in the midst leaves a fit without a result, never half of one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from urllib.parse import urlsplit

from sweeper.errors import Paused
from sweeper.patience import insist
from sweeper.state.atomic import write_bytes

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

OWN = ("stuck.txt",)  # files of one machine alone
PATIENCE_S = 300.0
SHOWN_S = 30.0  # how often the store is shown what a fit notes of its epoch in flight
_AT_ONCE = 16
_FINAL = ("ACCESS_DENIED", "NO_SUCH_BUCKET", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "No credentials")

T = TypeVar("T")


class Seen(NamedTuple):
    """What tells two versions of a file apart, as the store counts."""

    size: int
    time_ns: int


class Alone:
    """A folder that has no copy elsewhere."""

    def holds(self, path: Path) -> bool:
        """Whether the store has this file."""
        return False

    def put(self, file: Path, *, patient: bool = True) -> None:
        """Make the store's copy of one file as it is here."""

    def get(self, file: Path) -> None:
        """Make one file as the store has it; one that the store lacks stays as it is."""

    def share(self, folder: Path) -> None:
        """Make the store's copy of `folder` as it is here: what is not here is deleted there."""

    def fetch(self, folder: Path) -> None:
        """Make `folder` as the store has it: what is not there is deleted here."""

    def drop(self, folder: Path) -> None:
        """Delete the store's copy of `folder`."""


class Mirror(Alone):
    """The copy of the sweep's folder `root` under `url`, which is the store's folder of all sweeps.

    Whatever asks the store waits for it, up to `PATIENCE_S`.

    Raises:
        Paused: the store stayed away, or refuses. From every method.
    """

    def __init__(self, root: Path, url: str) -> None:
        self._root, self._url = root, url

    def holds(self, path: Path) -> bool:
        from pyarrow.fs import FileType

        found = self._patiently(lambda: self._files.get_file_info(self._name(path)))
        return bool(found.type == FileType.File)

    def put(self, file: Path, *, patient: bool = True) -> None:
        data = file.read_bytes()

        def put() -> None:
            with self._files.open_output_stream(self._name(file)) as there:
                there.write(data)

        self._patiently(put, patience_s=PATIENCE_S if patient else 0.0)

    def get(self, file: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._patiently(lambda: self._download(file))

    def share(self, folder: Path) -> None:
        here, there = _here(folder), self._there(folder)
        changed = [file for file in here if there.get(file) != here[file]]
        for file in sorted(changed, key=_result_last):
            with contextlib.suppress(FileNotFoundError):  # a note that was taken away since
                self.put(file)
        for file in there.keys() - here.keys():
            self._delete(file)
        if changed:
            _stamp(self._there(folder).items())

    def fetch(self, folder: Path) -> None:
        here, there = _here(folder), self._there(folder)
        changed = [file for file in there if here.get(file) != there[file]]
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(self.get, changed))
        for file in here.keys() - there.keys():
            file.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # a folder with nothing in it is none, in a store
                file.parent.rmdir()
        _stamp((file, there[file]) for file in changed)

    def drop(self, folder: Path) -> None:
        for file in self._there(folder):
            self._delete(file)

    # --- one object

    def _download(self, file: Path) -> None:
        with self._files.open_input_file(self._name(file)) as there:
            data = there.readall()
        write_bytes(file, data)

    def _delete(self, file: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._patiently(lambda: self._files.delete_file(self._name(file)))

    def _there(self, folder: Path) -> dict[Path, Seen]:
        from pyarrow.fs import FileSelector, FileType

        selector = FileSelector(self._name(folder), recursive=True, allow_not_found=True)
        found = self._patiently(lambda: self._files.get_file_info(selector))
        base = f"{self._name(self._root)}/"
        return {
            self._root / info.path.removeprefix(base): Seen(info.size, info.mtime_ns)
            for info in found
            if info.type == FileType.File and _plain(info.path.removeprefix(base))
        }

    def _name(self, path: Path) -> str:
        return "/".join((self._store[1].rstrip("/"), self._root.name, *path.relative_to(self._root).parts))

    # --- the store

    @property
    def _files(self) -> FileSystem:
        return self._store[0]

    @cached_property
    def _store(self) -> tuple[FileSystem, str]:
        from pyarrow.fs import FileSystem

        try:
            found: tuple[FileSystem, str] = FileSystem.from_uri(self._url)
        except ValueError as fault:
            raise Paused(f"storage.fits is {self._url}, which cannot be opened ({_sentence(fault)}).") from fault
        return found

    def _patiently(self, act: Callable[[], T], patience_s: float | None = None) -> T:
        return insist(act, self._meaning, PATIENCE_S if patience_s is None else patience_s)

    def _meaning(self, fault: Exception) -> tuple[Paused | None, bool]:
        if not isinstance(fault, OSError) or isinstance(fault, FileNotFoundError):
            return None, False
        place = urlsplit(self._url)
        said = f"the store {place.scheme}://{place.netloc}{place.path} does not serve ({_sentence(fault)})."
        mend = "See to it, then resume; nothing that was finished is lost."
        return Paused(f"{said} {mend}"), not any(word in str(fault) for word in _FINAL)


def _here(folder: Path) -> dict[Path, Seen]:
    return {file: Seen(seen.st_size, seen.st_mtime_ns) for file in _files(folder) for seen in [file.stat()]}


def _files(folder: Path) -> Iterator[Path]:
    """Every file that is whole: what is hidden is being written."""
    for path in folder.glob("*"):
        if path.is_dir() and not path.name.startswith("."):
            yield from _files(path)
        elif not path.name.startswith(".") and path.name not in OWN:
            yield path


def _plain(name: str) -> bool:
    """Whether it is a name that this project gives: whoever else writes to the store leads nobody out of the folder."""
    return not any(part in ("", "..") or part.startswith(".") for part in name.split("/"))


def _result_last(file: Path) -> tuple[bool, Path]:
    return file.name == "result.json", file


def _stamp(files: Iterable[tuple[Path, Seen]]) -> None:
    """Give files the store's time, by which both sides know that they are the same."""
    for file, seen in files:
        with contextlib.suppress(FileNotFoundError):
            os.utime(file, ns=(seen.time_ns, seen.time_ns))


def _sentence(fault: BaseException) -> str:
    return " ".join(str(fault).split())[:200]
