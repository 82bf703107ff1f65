"""Every file below a folder of images: an image, a bad record, or something else that is counted and named.

Links are followed inside the folder that was named, also to another class; one that leads out of it is a bad record.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from trainables.data.base import BadRecord
from trainables.data.images import pixels
from trainables.errors import UserError, few


def folders(top: Path) -> list[Path]:
    """Those in `top`, by name; hidden ones are the system's, not the user's."""
    return sorted(path for path in top.iterdir() if path.is_dir() and not path.name.startswith("."))


@dataclass
class Tree:
    """What lies below `root`, a resolved path; `looked_at` is asked folder by folder, and everything adds up here."""

    root: Path
    bad: list[BadRecord] = field(default_factory=list)
    _unread: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    _hidden: list[str] = field(default_factory=list)
    _looped: list[str] = field(default_factory=list)

    def folders(self, top: Path) -> list[Path]:
        """Those in `top`, by name, that are not hidden and do not lead out or back."""
        return [Path(entry) for entry in _listed(top) if _is_folder(entry) and self._usable(entry)]

    def images(self, top: Path, *, deep: bool = True) -> Iterator[Path]:
        """The images in `top`, and, if `deep`, in the folders below it, each real folder once."""
        yield from self._images(top, _real(top), deep=deep, followed=set())

    def notes(self) -> tuple[str, ...]:
        """What is neither used nor bad: a sentence for each kind, with its count and names."""
        unread = sum(map(len, self._unread.values()))
        kinds = [f"{len(names)} {ending} ({_few(names)})" for ending, names in sorted(self._unread.items())]
        sentences = [
            (unread, "files not used, for their endings are not of images", ", ".join(kinds)),
            (len(self._hidden), "hidden files and folders not used", _few(self._hidden)),
            (len(self._looped), "links not followed, for they lead to what is used anyhow", _few(self._looped)),
        ]
        return tuple(f"{what}: {count:,}: {names}" for count, what, names in sentences if count)

    def _images(self, here: Path, top: Path, *, deep: bool, followed: set[Path]) -> Iterator[Path]:
        inner = []
        for entry in _listed(here):
            if _is_folder(entry):
                inner += [entry] * deep
            elif self._usable(entry, top):
                path = Path(entry)
                if path.suffix.lower() in pixels.endings():
                    yield path
                else:
                    self._unread[path.suffix.lower() or "without an ending"].append(self._name(path))
        for entry in sorted(inner, key=lambda entry: (entry.is_symlink(), entry.name)):
            if self._usable(entry, top, followed):
                followed.add(_real(entry.path))
                yield from self._images(Path(entry), top, deep=deep, followed=followed)

    def _usable(self, entry: os.DirEntry[str], top: Path | None = None, followed: Collection[Path] = ()) -> bool:
        """Whether it is a file or folder to use; what it is otherwise is noted. All below `top` is used anyhow."""
        problem = None
        if entry.name.startswith("."):
            self._hidden.append(self._name(Path(entry)))
            return False
        if not _is_text(entry.path):
            problem = "its name is not text in UTF-8: give it another"
        elif entry.is_symlink():
            target = _real(entry.path)
            back = _real(os.path.dirname(entry.path)).is_relative_to(target) or (
                top is not None and target.is_relative_to(top)
            )
            if not target.exists():
                problem = f"is a link to nothing: {target}"
            elif not target.is_relative_to(self.root):
                problem = f"is a link out of the folder, to {target}: put that into the folder, or a copy"
            elif back or target in followed:
                self._looped.append(self._name(Path(entry)))
                return False
        elif not (entry.is_dir() or entry.is_file()):
            problem = "is neither a file nor a folder"
        if problem:
            self.bad.append(BadRecord(self._name(Path(entry)), problem))
        return problem is None

    def _name(self, path: Path) -> str:
        name = path.relative_to(self.root).as_posix()
        return name if _is_text(name) else ascii(name)


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}. Mend that and start again.") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Or a link to one; a link in a circle is none, where `entry.is_dir` raises."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _real(path: str | Path) -> Path:
    return Path(os.path.realpath(path))  # Path.resolve raises on links that lead to each other


def _is_text(name: str) -> bool:
    try:
        os.fsencode(name).decode()
    except UnicodeDecodeError:
        return False
    return True


def _few(names: list[str]) -> str:
    return ", ".join(map(str, few(names, 3)))
