"""What was said while a fit was trained: its epochs, what it logged and printed, its warnings, the traces of errors.

It is in the fit's folder, `log.txt`; when that is large it becomes `log.1.txt`, in place of an older one. An entry
begins with its time (UTC) and level; further lines of it are indented.
"""

from __future__ import annotations

import contextlib
import io
import logging
import logging.handlers
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from sweeper.errors import Corrupt, UserError, without_secrets
from sweeper.state.sweep_folder import SweepFolder

FIT = logging.getLogger("sweeper.fit")  # the fit's own lines
NAMES = ("log.1.txt", "log.txt")
LIMIT_BYTES = 256 * 1024  # of each
_HEAD = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) ([A-Z]+) ?")


@contextlib.contextmanager
def kept(fit: Path, permit: Callable[[], None]) -> Iterator[None]:
    """Keep what is said inside, by this process. `permit` is asked before each entry, and raises to forbid it."""
    handler, root = _Handler(fit / NAMES[-1], permit), logging.getLogger()
    FIT.setLevel(logging.INFO)
    root.addHandler(handler)
    logging.captureWarnings(True)
    printed = _Printed(handler, sys.stdout), _Printed(handler, sys.stderr)
    try:
        with contextlib.redirect_stdout(printed[0]), contextlib.redirect_stderr(printed[1]):
            yield
    finally:
        for stream in printed:
            stream.finish()
        logging.captureWarnings(False)
        root.removeHandler(handler)
        with contextlib.suppress(OSError):  # what is not on the disk yet has no room there
            handler.close()


class _Handler(logging.handlers.RotatingFileHandler):
    """Writes nothing that `permit` forbids, and what cannot be written is lost: a fit does not fail by its log."""

    def __init__(self, path: Path, permit: Callable[[], None]) -> None:
        super().__init__(path, maxBytes=LIMIT_BYTES, backupCount=1, encoding="utf-8", delay=True)
        self.namer = lambda name: str(path.with_name(NAMES[0]))
        self._permit = permit
        self.setFormatter(_Formatter())

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(UserError, OSError):
            self._permit()
            Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True)
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # logging's name
        """Say nothing: standard error comes here too."""


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = without_secrets(super().format(record)).strip("\n").replace("\r", "\n").replace("\n", "\n  ")
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        return f"{when}.{int(record.msecs):03d}Z {record.levelname} {text[: LIMIT_BYTES // 2]}"


class _Printed(io.TextIOBase):
    """A stream whose lines become entries too."""

    def __init__(self, handler: logging.Handler, stream: TextIO) -> None:
        self._handler, self._stream, self._line = handler, stream, ""

    def write(self, text: str) -> int:
        self._stream.write(text)
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._tell(line)
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._stream.fileno()

    def finish(self) -> None:
        """The last line, if it was not ended."""
        self._tell(self._line)
        self._line = ""

    def _tell(self, line: str) -> None:
        if shown := line.rpartition("\r")[2].rstrip():  # of a progress bar its last state
            self._handler.handle(logging.makeLogRecord({"msg": shown, "levelname": "PRINTED"}))


@dataclass(frozen=True)
class LogEntry:
    """One thing that was said, of which fit and when (UTC)."""

    time: str
    trial: int
    seed: int
    level: str
    text: str

    def __str__(self) -> str:
        return f"{self.time} #{self.trial} seed {self.seed} {self.level} {self.text}"


def read(sweep: SweepFolder, trial: int | None = None) -> list[LogEntry]:
    """What was said in the sweep's fits, or in those of one trial, in the order in which it was said.

    Of a failed fit of an older release, which kept no log, there is its error alone.

    Raises:
        UserError: there is no such trial.
    """
    place = sweep.path / "trials"
    folders = sorted(place.glob("*/*") if trial is None else (place / f"{trial:05d}").glob("*"))
    if trial is not None and not folders:
        numbers = sorted(int(folder.name) for folder in place.glob("*") if folder.name.isdecimal())
        there = f"Those there are: {numbers[0]} to {numbers[-1]}." if numbers else "No trial has begun."
        raise UserError(f"trial {trial} of '{sweep.name}' has no fits. {there}")
    fits = [folder for folder in folders if folder.name.isdecimal() and folder.parent.name.isdecimal()]
    entries = (entry for fit in fits for entry in _read(sweep, int(fit.parent.name), int(fit.name)))
    return sorted(entries, key=lambda entry: entry.time)  # stable: what was said at once stays in its order


def _read(sweep: SweepFolder, trial: int, seed: int) -> Iterator[LogEntry]:
    fit = sweep.fit(trial, seed)
    texts = []
    for name in NAMES:
        with contextlib.suppress(FileNotFoundError):
            texts.append((fit.path / name).read_text(encoding="utf-8", errors="replace"))
    heads = [*_HEAD.finditer("".join(texts))] if texts else []
    for head, text in zip(heads, _HEAD.split("".join(texts))[3::3], strict=True):
        yield LogEntry(head[1], trial, seed, head[2], text.rstrip("\n"))
    if not texts:
        with contextlib.suppress(Corrupt):
            result = fit.result() or {}
            if error := result.get("error"):
                ended = (fit.path / "result.json").stat().st_mtime
                when = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(ended))
                yield LogEntry(when, trial, seed, "ERROR", str(error.get("trace") or error.get("message")).rstrip())
