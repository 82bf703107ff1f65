"""Listeners of an attempt: lines for logs and pipes, a live area on a terminal. Light to import: a line is due at once.

Whatever comes from the attempt's own threads, or from a signal's handler, is put into a queue, and shown by a thread of
the listener's own.
"""

from __future__ import annotations

import contextlib
import math
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from sweeper.errors import UserError
from sweeper.results.summary import duration, headline
from sweeper.screen.picture import picture, trial_line

if TYPE_CHECKING:  # they load pandas, which takes a second
    from sweeper.results.results import Results
    from sweeper.trial import Trial

Look = Callable[[], "Results"]
BEAT_S, LATER_BEAT_S, LATER_S = 30.0, 60.0, 600.0  # a heartbeat each 30 s, after ten minutes each minute
DRAWN_S, LOOKED_S, SHARE = 0.5, 1.0, 0.01  # of the time, at most, for looking at how it stands


class Steps:
    """What is made ready before the first fit trains, and how long each took. For any thread."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._began_s = clock, clock()
        self._open: dict[str, float] = {}
        self._done: dict[str, float] = {}

    def begin(self, what: str) -> None:
        """`what` begins now."""
        self._open[what] = self._clock()

    def end(self, what: str) -> float:
        """`what` is ready; the seconds it took."""
        self._done[what] = self._clock() - self._open.pop(what)
        return self._done[what]

    @property
    def going_on(self) -> str:
        """`Ray ... 6 s, data ... 2 s`; empty where nothing is being made ready."""
        now_s = self._clock()
        return ", ".join(f"{what} ... {now_s - since:.0f} s" for what, since in list(self._open.items()))

    def __str__(self) -> str:
        parts = [f"{what} {seconds:.0f} s" for what, seconds in list(self._done.items())]
        return f"ready after {self._clock() - self._began_s:.0f} s" + (f": {', '.join(parts)}" if parts else "")


class Lines:
    """For logs and pipes: a line when something has happened, and a heartbeat while nothing does."""

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._name, self._clock, self._began_s = name, clock, clock()
        self._look: Look | None = None
        self._steps = Steps(clock)
        self._inbox: queue.SimpleQueue[str | Trial | None] = queue.SimpleQueue()  # safe in a signal's handler
        self._pausing = self._closing = False
        self._ready = False
        self._thread = threading.Thread(target=self._work, name="screen", daemon=True)
        self.say(f"{name}: starting")

    # --- what an attempt tells

    @contextlib.contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Inside, `what` is made ready."""
        self._steps.begin(what)
        try:
            yield
        finally:
            took_s = self._steps.end(what)
        self.stepped(what, took_s)

    def begun(self, look: Look, notes: list[str]) -> None:
        """Say what the data is, then wait for trials."""
        self._look = look
        for note in notes:
            self.say(note)
        self._steps.begin("first workers")

    def told(self, trial: Trial) -> None:
        """A trial has ended: one line."""
        self.say(trial_line(trial, 1000).plain.strip())

    def interrupted(self) -> None:
        """Called by the signal's handler: say at once what is waited for."""
        self._pausing = True
        self._inbox.put("")

    def closing(self) -> None:
        """Nothing is trained any more."""
        self._closing = True
        self._steps.begin("tables and record")
        self.say("nothing is trained any more; tables and record are written")

    # --- how it is shown

    def say(self, line: str) -> None:
        """Print one line."""
        print(line, file=sys.stderr, flush=True)

    def stepped(self, what: str, took_s: float) -> None:
        """`what` is ready."""
        self.say(f"{what}: ready after {took_s:.0f} s")

    def __enter__(self) -> Lines:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._inbox.put(None)
        self._thread.join()

    def _work(self) -> None:
        while True:
            age_s = self._clock() - self._began_s
            try:
                message = self._inbox.get(timeout=BEAT_S if age_s < LATER_S else LATER_BEAT_S)
            except queue.Empty:
                message = ""
            if message is None:
                return
            with contextlib.suppress(UserError):  # the study is away: the driver tells
                self.say(self.heartbeat())

    def heartbeat(self) -> str:
        """One line: what goes on."""
        if self._look is None or self._closing:
            going_on = self._steps.going_on or "starting"
            return f"{self._name}: {going_on}{f', {waiting(None)}' if self._pausing else ''}"
        results = self._look()
        self._arrived(results)
        return waiting(results) if self._pausing else headline(results, at_work=self._at_work)

    @property
    def _at_work(self) -> str:
        return "" if self._ready else self._steps.going_on

    def _arrived(self, results: Results) -> bool:
        """Whether the first fit has just been seen to train."""
        first = not self._ready and any(fit.begun for fit in results.progress.fits)
        if first:
            self._ready = True
            self._steps.end("first workers")
        return first


class LiveScreen(Lines):
    """For terminals: what runs and the front so far, drawn again each half second; what has ended stands above."""

    def __init__(self, name: str, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._results: Results | None = None
        self._look_s = 0.0
        self._live = self._area()
        super().__init__(name, clock)

    def _area(self) -> Any:
        """What is drawn into: `start`, `update` and `stop` as rich's Live has them."""
        return Live(console=self._console, auto_refresh=False, transient=True)

    def told(self, trial: Trial) -> None:
        """A trial has ended: one line above the live area."""
        self._inbox.put(trial)

    def closing(self) -> None:
        """Nothing is trained any more: the next drawing shows the last numbers."""
        self._closing, self._look_s = True, 0.0
        self._steps.begin("tables and record")

    def say(self, line: str) -> None:
        """Print above the live area."""
        self.show(Text(line))

    def show(self, line: Text) -> None:
        """The same, with its colours."""
        self._console.print(line)

    def stepped(self, what: str, took_s: float) -> None:
        """It is in the live area while it goes on, and in one line when all is ready."""

    def __enter__(self) -> LiveScreen:
        self._live.start()
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        self._live.stop()

    def _work(self) -> None:
        while True:
            ended: list[Trial] = []
            with contextlib.suppress(queue.Empty):
                message = self._inbox.get(timeout=DRAWN_S)
                if message is None:
                    return
                ended += [] if isinstance(message, str) else [message]
            self._refresh(at_once=bool(ended))
            front = set(self._results.front) if self._results else set()
            for trial in ended:
                self.show(trial_line(trial, self._console.width, on_front=trial.number in front))
            self._live.update(self.drawn(), refresh=True)

    def _refresh(self, *, at_once: bool) -> None:
        if self._look is None or (self._clock() < self._look_s and not at_once):
            return
        began_s = self._clock()
        with contextlib.suppress(UserError):  # the study is away: the driver tells, and what was seen last stays
            self._results = self._look()
            if self._arrived(self._results):
                self.say(str(self._steps))
        self._look_s = began_s + max(LOOKED_S, (self._clock() - began_s) / SHARE)

    def drawn(self) -> RenderableType:
        """The live area at this moment."""
        going_on = [self._steps.going_on] if self._steps.going_on else []
        if self._results is None:
            going_on += [waiting(None)] if self._pausing else []
            return Text(f"{self._name}: {', '.join(going_on) or 'starting'}")
        shown = picture(self._results, self._console.width, self._console.height - 1, ", ".join(going_on))
        return Group(shown, Text(waiting(self._results), "bold")) if self._pausing and not self._closing else shown


def waiting(results: Results | None) -> str:
    """What a pause waits for."""
    if results is None:
        return "pausing when that is ready; again to stop at once"
    fits = [fit for fit in results.progress.fits if fit.begun]
    if not fits:
        return "pausing; again to stop at once"
    most_s = results.spec.resources.checkpoint_every_s or math.inf  # a longer epoch is kept as far as it is
    known = [min(fit.left_s, most_s) for fit in fits if fit.left_s is not None]
    about = f", about {duration(max(known))}" if known else ""
    finish = "fits finish their epochs, or keep them" if len(fits) > 1 else "fit finishes its epoch, or keeps it"
    return f"pausing: {len(fits)} {finish}{about}; again to stop at once"


def listener(name: str, *, live: bool = True) -> Lines:
    """The live area where standard error is a terminal (and `live` allows it), else lines."""
    console = Console(stderr=True)
    return LiveScreen(name, console) if console.is_terminal and live else Lines(name)


def follow(look: Look, area: Any = None) -> Results:
    """Show a sweep that another process drives, until it runs no more; the last that was seen.

    On a terminal, or where an `area` is given, in one place; elsewhere as lines. It reads what the driver notes and the
    study, and writes nothing.
    """
    results = look()
    if results.state != "running":
        return results
    console = Console()
    if area is None and console.is_terminal:
        area = Live(console=console, auto_refresh=False, transient=True)
    if area is not None:
        with area:
            while (results := look()).state == "running":
                area.update(picture(results, area.console.width, area.console.height - 1), refresh=True)
                time.sleep(2.0)
        return results
    last, said_s, began_s = "", 0.0, time.monotonic()
    while (results := look()).state == "running":
        now_s = time.monotonic()
        ended = str(results.counts)
        if ended != last or now_s - said_s >= (BEAT_S if now_s - began_s < LATER_S else LATER_BEAT_S):
            print(headline(results), flush=True)
            last, said_s = ended, now_s
        time.sleep(2.0)
    return results
