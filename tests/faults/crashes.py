"""Deaths at chosen points: before or after each durable write of a process, by `os._exit`, nothing flushed.

A point is one durable act: a rename, a removal, a touched file, or a database's commit. Points are numbered
as they come; the same program comes to the same points, so number n of one run is number n of the next. A
death *before* a point is that of a process. A death *after* it is that of the machine: in the watched folder,
what was written and not synced is lost, its file left empty, and a file whose name was not synced (its folder
was not, since) is gone or has its older content again.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.engine.default import DefaultDialect

EXIT = 66


@dataclass
class Points:
    """Counts the durable acts of this process under `folder`, and dies at the one that is asked for."""

    folder: Path
    names: list[str] = field(default_factory=list)
    die_before: int | None = None
    die_after: int | None = None
    trail: Path | None = None
    _loose: set[str] = field(default_factory=set)  # files with content that a power cut would lose
    _moved: dict[str, tuple[str, bytes | None]] = field(default_factory=dict)  # name: its folder, what it was before

    def at(self, name: str, act: Callable[[], Any]) -> Any:
        """Do `act` as one point called `name`; in a thread that works by the clock, as the lease's, it is none."""
        if threading.current_thread() is not threading.main_thread():  # a slow run has more of those than a fast one
            return act()
        number = len(self.names)
        self.names.append(name)
        if self.trail is not None:
            with self.trail.open("a", encoding="utf-8") as file:
                file.write(f"{name}\n")
        if number == self.die_before:
            os._exit(EXIT)
        result = act()
        if number == self.die_after:
            self._cut_power()
            os._exit(EXIT)
        return result

    def watches(self, path: str) -> bool:
        """Whether `path` is one of the sweep's own files; a database sees to its file itself."""
        return path.startswith(str(self.folder)) and ".db" not in path

    # --- what a power cut takes

    def written(self, path: str) -> None:
        """A file was opened to be written."""
        if self.watches(path):
            self._loose.add(path)

    def synced(self, path: str) -> None:
        """A file, or a folder and with it the names in it, has reached the disk."""
        self._loose.discard(path)
        self._moved = {name: was for name, was in self._moved.items() if was[0] != path}

    def moved(self, old: str, new: str, was: bytes | None) -> None:
        """`old` is called `new` now, where `was` was before."""
        for path in [p for p in self._loose if p == old or p.startswith(f"{old}/")]:
            self._loose.discard(path)
            self._loose.add(new + path.removeprefix(old))
        if self.watches(new):
            self._moved.setdefault(new, (os.path.dirname(new), was))

    def _cut_power(self) -> None:
        for path in self._loose:
            if os.path.isfile(path):
                os.truncate(path, 0)
        for name, (_, was) in self._moved.items():
            if os.path.isfile(name):
                os.unlink(name)
                if was is not None:
                    Path(name).write_bytes(was)
            elif os.path.isdir(name):
                shutil.rmtree(name)


def install(points: Points) -> None:
    """From now on every durable act of this process is one of `points`."""
    _count_moves(points)
    _count_removals(points)
    _count_commits(points)
    _hear_of_writes(points)


def _count_moves(points: Points) -> None:
    replace, rename, fsync, touch = os.replace, os.rename, os.fsync, Path.touch

    def moves(real: Callable[..., None]) -> Callable[..., None]:
        def act(old: Any, new: Any) -> None:
            was = Path(new).read_bytes() if os.path.isfile(new) else None
            points.at(_called(new), lambda: (real(old, new), points.moved(str(old), str(new), was)))

        return act

    def syncs(handle: int) -> None:
        fsync(handle)
        points.synced(os.readlink(f"/proc/self/fd/{handle}"))

    os.replace, os.rename, os.fsync = moves(replace), moves(rename), syncs
    Path.touch = lambda self, *a, **b: points.at(_called(self), lambda: touch(self, *a, **b))  # type: ignore[method-assign]


def _count_removals(points: Points) -> None:
    unlink, rmtree = os.unlink, shutil.rmtree

    def counted(real: Callable[..., None]) -> Callable[..., None]:
        def act(path: Any, *arguments: Any, **options: Any) -> None:
            if os.path.exists(path) and points.watches(str(path)):
                points.at(f"removal of {_called(path)}", lambda: real(path, *arguments, **options))
            else:
                real(path, *arguments, **options)

        return act

    os.unlink = os.remove = counted(unlink)
    shutil.rmtree = counted(rmtree)  # type: ignore[assignment]


def _count_commits(points: Points) -> None:
    commit = DefaultDialect.do_commit

    def commits(self: Any, connection: Any) -> None:
        if connection.in_transaction:  # else nothing was written
            name = os.path.basename(connection.execute("PRAGMA database_list").fetchall()[0][2])
            points.at(f"commit of {name}", lambda: commit(self, connection))
        else:
            commit(self, connection)

    DefaultDialect.do_commit = commits  # type: ignore[method-assign]


def _hear_of_writes(points: Points) -> None:
    """Every opening of a file in a mode that writes, whoever does it."""

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open" or not isinstance(arguments[0], (str, os.PathLike)):
            return
        if isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
            points.written(os.path.abspath(arguments[0]))

    sys.addaudithook(hear)


def _called(path: Any) -> str:
    """A file's name without what is different each time."""
    name = re.sub(r"^checkpoint-[\d.]+-[0-9a-f]+\..*", "checkpoint", os.path.basename(str(path)))
    name = re.sub(r"^\d{20}-[0-9a-f]{32}\.json$", "request", name)
    return re.sub(r"^\d+\.json$", "held-out", name)
