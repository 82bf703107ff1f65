"""Keeps the record up to date from a thread of its own, so that a slow or dead MLflow delays no trial.

The first pass also imports MLflow and makes its tables. A failed pass is tried again after growing pauses. Nothing is
lost meanwhile: the study and the fits' folders are the truth, and each pass writes whatever the store lacks.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from sweeper.patience import growing
from sweeper.results.results import Results

if TYPE_CHECKING:  # it draws: whoever has nothing to record need not import all that
    from sweeper.record.record import Record

log = logging.getLogger(__name__)

DRAWING = 10  # times the patience: 1,000 trials take 20 s to draw on a quiet machine


class Projector:
    """Owns the record that `make` opens, and writes to it what `look` gives: the results of the moment.

    A pass comes after each `poke`, else every `period_s`. After a pass the thread rests so long that it works for no
    more than `share` of the time; after a failure it rests `first_s`, twice that, and so on up to `longest_s`.
    `guard` is asked before each pass and each request (see `permit`), and raises to forbid it.
    """

    def __init__(
        self,
        make: Callable[[], Record],
        look: Callable[[], Results],
        guard: Callable[[], None] = lambda: None,
        *,
        period_s: float = 5.0,
        share: float = 0.1,
        first_s: float = 1.0,
        longest_s: float = 60.0,
    ) -> None:
        self._make, self._look, self._guard = make, look, guard
        self._period_s, self._share = period_s, share
        self._first_s, self._longest_s = first_s, longest_s
        self._record: Record | None = None
        self._poked, self._ending, self._abandoned = threading.Event(), threading.Event(), threading.Event()
        self._written = self._illustrated = False
        self._after_s = 0.0
        self._thread = threading.Thread(target=self._work, name="record", daemon=True)
        self.faults: Counter[str] = Counter()  # failed passes by kind of error
        self.last = ""  # why the latest pass failed, as an aside for a sentence
        self._moved = time.monotonic()  # when it last got on: a request, while they succeed, or a stage

    def start(self, after_s: float = 0.0) -> None:
        """Begin with a pass, at the first `poke` or `after_s` from now."""
        self._after_s = after_s
        self._thread.start()

    def poke(self) -> None:
        """Something changed. Returns at once."""
        self._poked.set()

    def permit(self) -> None:
        """To be asked before each request of the record.

        Raises:
            UserError: the sweep is somebody else's now.
            RuntimeError: nobody waits for the record any more: its sweep is given back.
        """
        if self._abandoned.is_set():
            raise RuntimeError("the record was given up")
        self._guard()
        if not self.last:
            self._moved = time.monotonic()

    def finish(self, patience_s: float) -> bool:
        """Write what is left, close the record, draw it, end the thread. Whether all but the pictures was written.

        However much there is, it is waited for while it gets on: `patience_s` without that is the end, and
        `DRAWING` times as much while pictures are drawn, which asks the store for nothing.
        """
        self._moved = time.monotonic()
        self._ending.set()
        self._poked.set()
        while self._thread.is_alive():
            patient_s = patience_s * (DRAWING if self._written else 1)
            left_s = self._moved + patient_s - time.monotonic()
            if left_s <= 0:
                break
            self._thread.join(min(left_s, 1.0))
        self._abandoned.set()
        return self._written

    @property
    def whole(self) -> bool:
        """Whether all was written, pictures too."""
        return self._illustrated

    def _work(self) -> None:
        failures = 0
        self._poked.wait(self._after_s)
        while not self._abandoned.is_set():
            ending = self._ending.is_set()
            self._poked.clear()
            began = time.monotonic()
            good = self._pass(ending)
            if ending and (good or self._written):  # what pictures lack, the next resume draws
                return
            failures = 0 if good else failures + 1
            self._rest(time.monotonic() - began, failures)

    def _pass(self, ending: bool) -> bool:
        try:
            self.permit()
            self._record = self._record or self._make()
            results = self._look()
            self._record.refresh(results, draw=not ending)
            self.last = ""
            if ending:
                self._record.close(results)
                self._written, self._moved = True, time.monotonic()
                self._record.illustrate(results)
                self._illustrated = True
        except Exception as fault:  # whatever MLflow raises, the sweep goes on
            if self._abandoned.is_set():  # and nobody is told: this is not the sweep's any more
                return False
            kind = type(fault).__name__
            self.last = f" ({kind}: {' '.join(str(fault).split())[:200]})"
            self.faults[kind] += 1
            if self.faults[kind] == 1:
                log.warning("record: %s: %s. The sweep goes on; what is missing is written later.", kind, fault)
            return False
        return True

    def _rest(self, took_s: float, failures: int) -> None:
        if failures:
            pause = growing(failures, self._first_s, self._longest_s)
            (self._abandoned if self._ending.is_set() else self._ending).wait(pause)
            return
        self._ending.wait(took_s * (1 - self._share) / self._share)
        if not self._ending.is_set():
            self._poked.wait(self._period_s)
