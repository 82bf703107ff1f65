"""What comes home from an errand: words that are said as they come, and files that land when all of them are here.

Nothing is believed of it. A file lands where the command line said, or is one whose name begins with the sweep's, in
the folder one stands in; its name is no path out of there; number, size and digest are what was announced.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, BinaryIO

from sweeper.cluster.errand import Errand, Place
from sweeper.errors import UserError
from trainables.files import move_folder

Say = Callable[[str], None]
LAST_WORDS = 5
SUFFIXES = ("html", "md", "tex", "csv", "json", "parquet")  # of what is written without being told where


class Homecoming:
    """The answer to `errand`. `hear` it piece by piece, then `land`; leaving the context clears away what did not."""

    def __init__(self, errand: Errand, out: Say, err: Say) -> None:
        self._errand, self._out, self._err = errand, out, err
        self._held = ""
        self._strange: list[str] = []  # lines that are none of ours: why it came to nothing
        self._drafts: dict[Path, Path] = {}  # of each folder where something lands, a hidden one in it
        self._landing: list[tuple[Path, Path]] = []
        self._announced: tuple[int, int] | None = None
        self._came = 0
        self._file: BinaryIO | None = None
        self._due = 0  # bytes that this file lacks
        self._digest = hashlib.sha256()
        self.exit_code: int | None = None  # the command's, once it has ended and every file is here

    def __enter__(self) -> Homecoming:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
        for draft in self._drafts.values():
            shutil.rmtree(draft, ignore_errors=True)

    def hear(self, piece: str) -> None:
        """The next piece of the answer, wherever it was cut.

        Raises:
            UserError: it is not what an honest head sends, or does not fit on this disk.
        """
        *lines, self._held = (self._held + piece).split("\n")
        for line in lines:
            key, _, told = line.partition(" ")
            if key != self._errand.key:
                self._strange = [*self._strange, line][-LAST_WORDS:]
                continue
            try:
                self._take(json.loads(told))
            except (KeyError, TypeError, ValueError, binascii.Error) as fault:
                raise UserError(f"the head's answer makes no sense ({fault!r}). Nothing of it was kept.") from None

    def _take(self, told: Mapping[str, Any]) -> None:
        if "out" in told:
            self._out(self._at_home(str(told["out"]), as_json="--json" in self._errand.words))
        elif "err" in told:
            self._err(self._at_home(str(told["err"]), as_json=False))
        elif "files" in told:
            self._announced = int(told["files"]), int(told["bytes"])
        elif "file" in told:
            self._begin(str(told["file"]), int(told["bytes"]))
        elif "data" in told:
            self._write(base64.b64decode(told["data"], validate=True))
        elif "sha256" in told:
            self._finish(str(told["sha256"]))
        elif "exit" in told:
            self.exit_code = int(told["exit"])

    def _at_home(self, text: str, *, as_json: bool) -> str:
        for place in self._errand.places:
            typed = str(place.path)
            here = typed[: -len(place.path.name)]
            text = text.replace(f"{place.folder}/", json.dumps(here)[1:-1] if as_json else here)
            text = text.replace(place.folder, str(place.path.parent))
        return text

    # --- files

    def _begin(self, name: str, size: int) -> None:
        if self._announced is None or self._file is not None:
            raise ValueError("a file that was not announced")
        folder, target = self._target(name)
        if folder not in self._drafts:
            folder.mkdir(parents=True, exist_ok=True)
            self._drafts[folder] = Path(tempfile.mkdtemp(prefix=".sweeper-", dir=folder))
            if shutil.disk_usage(folder).free < self._announced[1]:
                raise UserError(
                    f"{self._announced[0]} files of {_size(self._announced[1])} do not fit on the disk of {folder}. "
                    "Make room, or write elsewhere: -o."
                )
        if len(self._landing) >= self._announced[0] or self._came + size > self._announced[1] or size < 0:
            raise ValueError("more than was announced")
        draft = self._drafts[folder] / target.relative_to(folder)
        draft.parent.mkdir(parents=True, exist_ok=True)
        self._file, self._due, self._digest = draft.open("xb"), size, hashlib.sha256()
        self._landing.append((draft, target))
        self._came += size

    def _write(self, piece: bytes) -> None:
        self._due -= len(piece)
        if self._file is None or self._due < 0:
            raise ValueError("more than was announced")
        self._file.write(piece)
        self._digest.update(piece)

    def _finish(self, digest: str) -> None:
        if self._file is None or self._due or digest != self._digest.hexdigest():
            raise ValueError("a file that is not whole")
        self._file.close()
        self._file = None

    def _target(self, name: str) -> tuple[Path, Path]:
        """The folder and the path at which a file may land.

        Raises:
            UserError: nowhere.
        """
        parts = PurePosixPath(name).parts
        if "/".join(parts) == name and all(part.isprintable() and part not in ("..", ".", "/") for part in parts):
            for place in self._errand.places:
                if parts[0] == place.folder and len(parts) > 1 and _is_of(place, parts[1:]):
                    return place.path.parent, place.path.parent.joinpath(*parts[1:])
            if len(parts) == 1 and _is_called_after(self._errand.names, name):
                return Path(), Path(name)
        raise UserError(f"the head sent a file that nobody asked for, {name!r}. Nothing was kept.")

    def land(self) -> int:
        """Give every file its name, and say how many there are; gives the command's exit code.

        Raises:
            UserError: the command did not come to its end there, or a file cannot have its name.
        """
        if self.exit_code is None or self._file is not None:
            said = "\n".join(line for line in [*self._strange, self._held] if line.strip())
            raise UserError(f"the command did not come to its end on the head. {said or 'Nothing was said.'}")
        if self._announced is not None and (len(self._landing), self._came) != self._announced:
            raise UserError("fewer files came than the head announced. Nothing was kept; try again.")
        whole: dict[Path, Path] = {}  # new folders, which are whole or absent
        for place in self._errand.places:
            draft = self._drafts.get(place.path.parent, Path("none")) / place.path.name
            if draft.is_dir() and (not place.path.exists() or (place.path.is_dir() and not any(place.path.iterdir()))):
                whole[draft] = place.path
        try:
            for draft, target in self._landing:
                if not any(draft.is_relative_to(made) for made in whole):
                    _put(draft, target, next(f for f, hidden in self._drafts.items() if draft.is_relative_to(hidden)))
            for draft, target in whole.items():
                move_folder(draft, target)
        except OSError as fault:
            raise UserError(f"{fault.filename2 or fault.filename or ''} cannot be written: {fault.strerror}.") from None
        if self._landing:
            count = len(self._landing)
            self._err(f"{count} file{'s' * (count > 1)}, {_size(self._came)}, came from the cluster.\n")
        return self.exit_code


def _is_of(place: Place, parts: Sequence[str]) -> bool:
    """Whether it is the file or the folder asked for, in the folder, or beside the file (`x.fits.csv` of `x.csv`)."""
    path = place.path
    beside = rf"{re.escape(path.stem)}\.\w+{re.escape(path.suffix)}"
    return parts[0] == path.name or (len(parts) == 1 and path.suffix != "" and bool(re.fullmatch(beside, parts[0])))


def _is_called_after(names: Sequence[str], name: str) -> bool:
    pattern = rf"({'|'.join(map(re.escape, names))})[\w.-]*\.({'|'.join(SUFFIXES)})"
    return bool(names) and re.fullmatch(pattern, name) is not None


def _put(draft: Path, target: Path, folder: Path) -> None:
    """Raises: `UserError` where a link on the way leads elsewhere, or a folder is in its place."""
    top = folder / target.relative_to(folder).parts[0]  # what was asked for, a link or not
    if target != top and not target.parent.resolve().is_relative_to(top.resolve()):
        raise UserError(f"{target.parent} leads out of {top}. Nothing is written through it.")
    if target.is_dir() and not target.is_symlink():
        raise UserError(f"{target} is a folder, and a file of this name came. Move it away.")
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(draft, target)


def _size(count: int) -> str:
    """`_size(1_500_000)` is `1.5 MB`."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} bytes"
