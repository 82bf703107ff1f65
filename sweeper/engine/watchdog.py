"""An epoch has a time limit: one that hangs fails its fit, and its process ends, since nothing else ends a hang.

There are two lines. A thread notices, says where the fit hangs, and ends the process. Where the hang holds the
interpreter's lock no thread of Python runs; then `faulthandler`, which needs no lock, writes the stack to a file
and ends the process, and the next actor that gets the order finds the file.
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
EXIT = 75  # the process's, after a hang: try the next order in a fresh one
_GRACE_S = 60.0  # of the second line, at most


class Watchdog:
    """Watches one piece of work at a time, of the thread that asks for it.

    `beat` is called every `BEAT_S` seconds with the seconds since the work began; `hangs` when it takes longer
    than `limit_s` (None: no limit), with the stack of the thread that works. Then the process ends.
    """

    def __init__(self, limit_s: float | None, *, beat: Callable[[float], None], hangs: Callable[[str], object]) -> None:
        self._limit_s, self._beat, self._hangs = limit_s, beat, hangs
        self._began: float | None = None
        self._worker = 0  # the thread's number
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextlib.contextmanager
    def watching(self, stuck: Path) -> Iterator[None]:
        """Watch what is done inside; `stuck` is where the second line writes."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._thread.start()
        with self._second_line(stuck):
            self._worker, self._began = threading.get_ident(), time.monotonic()
            try:
                yield
            finally:
                with self._lock:  # while the thread reports a hang, the work that hung waits here for the end
                    self._began = None

    @contextlib.contextmanager
    def _second_line(self, stuck: Path) -> Iterator[None]:
        if self._limit_s is None:
            yield
            return
        stuck.parent.mkdir(parents=True, exist_ok=True)
        with stuck.open("w") as file:
            faulthandler.dump_traceback_later(self._limit_s + min(self._limit_s, _GRACE_S), exit=True, file=file)
            try:
                yield
            finally:
                faulthandler.cancel_dump_traceback_later()
        stuck.unlink(missing_ok=True)

    def _watch(self) -> None:
        pause_s = BEAT_S if self._limit_s is None else min(BEAT_S, self._limit_s / 4)
        while True:
            time.sleep(pause_s)
            # Of a full disk, or a sweep that another driver took over, the work finds out by itself.
            with self._lock, contextlib.suppress(OSError, UserError):
                if self._began is None:
                    continue
                elapsed_s = time.monotonic() - self._began
                self._beat(elapsed_s)
                if self._limit_s is not None and elapsed_s > self._limit_s:
                    try:
                        self._hangs("".join(traceback.format_stack(sys._current_frames().get(self._worker))))
                    finally:
                        os._exit(EXIT)
