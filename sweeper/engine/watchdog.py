"""The time limit of an epoch. An epoch that hangs fails its fit and ends its process: nothing else ends a hang.

There are two lines of defence. A thread notices the hang, reports the stack, and ends the process. If the hang holds
the interpreter's lock, no Python thread runs: then `faulthandler`, which needs no lock, writes the stack to a file and
ends the process. The next actor that gets the order reads the file.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from sweeper.errors import UserError

BEAT_S = 2.0
EXIT = 75  # the exit code after a hang: "try again"
_GRACE_S = 60.0  # how much later than the first line the second acts, at most


class Watchdog:
    """Watches one piece of work at a time.

    `beat` is called every `BEAT_S` seconds with the seconds since the work began. When it takes longer than `limit_s`
    (None: no limit), `hangs` is called with the stack of the working thread. Then the process ends.
    """

    def __init__(self, limit_s: float | None, *, beat: Callable[[float], None], hangs: Callable[[str], object]) -> None:
        self._limit_s, self._beat, self._hangs = limit_s, beat, hangs
        self._allowed_s = limit_s  # of the work at hand
        self._began: float | None = None
        self._worker = 0  # the id of the working thread
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def watching(self, stuck: Path, *, times: int = 1) -> Iterator[None]:
        """Watch the work inside, which may take so many `times` the limit.

        `stuck` is where the second line writes the stack.
        """
        limit_s = self._allowed_s = None if self._limit_s is None else times * self._limit_s
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._thread.start()
        with self._second_line(stuck, limit_s):
            self._worker, self._began = threading.get_ident(), time.monotonic()
            try:
                yield
            finally:
                with self._lock:  # if a hang is being reported, wait here: the process is about to end
                    self._began = None

    @contextlib.contextmanager
    def _second_line(self, stuck: Path, limit_s: float | None) -> Iterator[None]:
        if limit_s is None:
            yield
            return
        stuck.parent.mkdir(parents=True, exist_ok=True)
        with stuck.open("w") as file:
            faulthandler.dump_traceback_later(limit_s + min(limit_s, _GRACE_S), exit=True, file=file)
            try:
                yield
            finally:
                faulthandler.cancel_dump_traceback_later()
        stuck.unlink(missing_ok=True)

    def _watch(self) -> None:
        pause_s = BEAT_S if self._limit_s is None else min(BEAT_S, self._limit_s / 4)
        while True:
            time.sleep(pause_s)
            # A full disk, or a sweep that another driver took over: the work itself will report it.
            with self._lock, contextlib.suppress(OSError, UserError):
                if self._began is None:
                    continue
                elapsed_s = time.monotonic() - self._began
                self._beat(elapsed_s)
                if self._allowed_s is not None and elapsed_s > self._allowed_s:
                    try:
                        self._hangs("".join(traceback.format_stack(sys._current_frames().get(self._worker))))
                    finally:
                        os._exit(EXIT)
