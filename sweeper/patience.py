"""Waiting, with an end: for something to become true, or for what is away and may come back."""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")


def until(good: Callable[[], T], within_s: float = math.inf, *, every_s: float = 0.2) -> T:
    """Ask `good` again and again until its answer is true, for `within_s` at most; gives the last answer."""
    end_s = time.monotonic() + within_s
    while not (answer := good()) and time.monotonic() < end_s:
        time.sleep(every_s)
    return answer


class _ToldToEnd(BaseException):
    """No `Exception`: nothing that expects failures takes it for one."""


@contextlib.contextmanager
def told_to_end() -> Iterator[None]:
    """INT, TERM and HUP end the block, quietly; what it has opened is closed undisturbed. For the main thread.

    INT counts also where it was ignored from the start, as in whatever a script puts into the background: whoever
    sends it there means it. HUP does not: to be ignored is what `nohup` asks for.
    """

    def end(number: int, frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise _ToldToEnd

    kept = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    numbers = (signal.SIGINT, signal.SIGTERM) if kept else (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number in numbers:
            signal.signal(number, end)
        yield
    except _ToldToEnd:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def growing(failures: int, first_s: float, longest_s: float) -> float:
    """The pause after so many failures in a row: `first_s`, twice that, four times, ... up to `longest_s`.

    >>> [growing(n, 1.0, 5.0) for n in (1, 2, 3, 4, 1000)]
    [1.0, 2.0, 4.0, 5.0, 5.0]
    """
    return min(longest_s, first_s * 2.0 ** min(failures - 1, 16))


def insist(
    act: Callable[[], T],
    meaning: Callable[[Exception], tuple[Exception | None, bool]],
    within_s: float,
    *,
    first_s: float = 0.25,
    longest_s: float = 5.0,
) -> T:
    """Do `act` again, at growing distances, while its failure may pass by itself, for `within_s` at most.

    What is done so may be done twice: a reply can be lost after the deed. `meaning` of a failure is the error to
    raise in its place (None: it is none of this kind, and raised as it is), and whether it may pass.
    """
    end_s, failures = time.monotonic() + within_s, 0
    while True:
        try:
            return act()
        except Exception as fault:
            error, passes = meaning(fault)
            if error is None:
                raise
            failures += 1
            pause_s, left_s = growing(failures, first_s, longest_s), end_s - time.monotonic()
            if not passes or left_s < pause_s:
                raise error from fault
            if failures == 1:
                log.warning("%s Waiting up to %.0f s for it; fits that run go on.", error, left_s)
        time.sleep(pause_s)
