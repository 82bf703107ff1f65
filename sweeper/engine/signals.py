"""Ctrl-C and TERM: the first ends a sweep gently, the second at once."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType


class Interrupts:
    """The signals of one attempt. `number` is the first that came, or None."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._acts: list[Callable[[], None]] = []

    def then(self, act: Callable[[], None]) -> None:
        """Do `act` at the first signal; at once if it has come already."""
        self._acts.append(act)
        if self.number is not None:
            act()

    @contextlib.contextmanager
    def caught(self) -> Iterator[Interrupts]:
        """Handle INT and TERM here (in the main thread; elsewhere signals are somebody else's)."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.signal(number, self._come) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _come(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            raise KeyboardInterrupt
        self.number = number
        for act in self._acts:
            act()
