"""How a sweep is paused: at the first Ctrl-C, TERM or HUP when the running epochs are kept, at the second at once.

`Interrupts` receives the signals in the driver; `pause` sends them, from another process on the same machine.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

from sweeper.errors import UserError
from sweeper.patience import until
from sweeper.state import opening
from sweeper.state.lease import Holder, Lease
from sweeper.state.processes import born, here
from sweeper.state.sweep_folder import SweepFolder

GRACE_S = 20.0


class Interrupts:
    """The signals of one attempt. `number` is the first that came, or None."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._acts: list[Callable[[], None]] = []
        self._terminals: list[int] = []

    def then(self, act: Callable[[], None]) -> None:
        """Call `act` at the first signal, or now if it has come already."""
        self._acts.append(act)
        if self.number is not None:
            act()

    @contextlib.contextmanager
    def caught(self) -> Iterator[Interrupts]:
        """Inside, INT, TERM and HUP are handled here. Only the main thread can do that; in others nothing changes.

        A HUP that is ignored stays so: that is what nohup is for.
        """
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        heard = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            heard.append(signal.SIGHUP)
        self._terminals = [fd for fd in (1, 2) if os.isatty(fd)]
        before = {number: signal.signal(number, self._handle) for number in heard}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            raise KeyboardInterrupt
        self.number = number
        if number == signal.SIGHUP:  # the terminal is gone, and what is written to it an error
            with open(os.devnull, "w") as nowhere:
                for fd in self._terminals:
                    os.dup2(nowhere.fileno(), fd)
        for act in self._acts:
            act()


def pause(folder: SweepFolder, *, at_once: bool = False) -> str:
    """Ask the driver of a sweep to pause, and return a sentence that says what came of it.

    `at_once` does not wait for the running epochs, and ends the driver by force if it does not react. No result is
    lost; it costs at most an epoch of each fit.

    Raises:
        UserError: there is no such sweep, or its driver is on another machine.
    """
    spec = opening.open_spec(folder)
    lease = Lease(opening.study_url(spec, folder), spec.name)
    try:
        holder = lease.holder()
    finally:
        lease.close()
    if holder is None or not holder.alive:
        return f"nobody drives '{folder.name}'; there is nothing to stop."
    if holder.host != here():
        raise UserError(f"'{folder.name}' is driven by {holder}, which is not this machine. Stop it there.")
    os.kill(holder.pid, signal.SIGINT)
    if not at_once:
        return f"asked {holder} to pause '{folder.name}' when the running epochs have ended."
    for number in (signal.SIGINT, signal.SIGKILL):
        if _gone(holder):
            break
        os.kill(holder.pid, number)
    _gone(holder)
    return f"'{folder.name}' is stopped."


def _gone(holder: Holder) -> bool:
    """Whether the driver ends within GRACE_S."""
    return until(lambda: born(holder.pid) != holder.born, GRACE_S)
