"""The lives of a tiny sweep that a crash-point run kills: what is lived, what came before, what comes after a death."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sweeper.errors import UserError
from sweeper.results import asking
from sweeper.results.results import Results
from sweeper.state.atomic import write_json
from sweeper.state.sweep_folder import SweepFolder
from tests.faults import tiny
from trainables.errors import FitError

TRIALS, MORE = 3, 4
POINT, RANGES = ["lambda=0.3", "rank=16"], ["lambda=0.1..10", "rank=8"]
LIMIT_S = 0.5  # of an epoch, where one hangs


def run(root: Path) -> int:
    """A sweep from its beginning."""
    return tiny.begin(root, trials=TRIALS).exit_code


def paused(root: Path) -> int:
    """A sweep that is interrupted in its third epoch."""
    epochs = iter(range(100))
    train = tiny.Tiny.train_epoch

    def interrupted(self: Any) -> dict[str, float]:
        if next(epochs) == 2:
            signal.raise_signal(signal.SIGINT)
        return train(self)

    tiny.Tiny.train_epoch = interrupted  # type: ignore[method-assign]
    return tiny.begin(root, trials=TRIALS).exit_code


def failing(root: Path) -> int:
    """A sweep, begun or gone on with, whose trial of rank 4 diverges in its second epoch."""

    def diverges(fit: Any) -> None:
        if fit.epoch == 1:
            raise FitError("diverged", "the loss is not finite")

    return _with_one(4, diverges, root)


def stopping(root: Path) -> int:
    """A sweep, begun or gone on with, that stops its trial of rank 16 early: it is worse than the others."""

    def falls_behind(fit: Any) -> None:
        fit._weight_2 = fit._weight_2 + torch.tensor([5.0, 0.0])

    return _with_one(16, falls_behind, root, search=", stopping: {first: 1, factor: 2}")


def _with_one(rank: int, does: Callable[[Any], None], root: Path, **options: Any) -> int:
    train = tiny.Tiny.train_epoch

    def epoch(self: Any) -> dict[str, float]:
        if self._params.method != "lora" and self._params.to_flat()["rank"] == rank:
            does(self)
        return train(self)

    tiny.Tiny.train_epoch = epoch  # type: ignore[method-assign]
    begun = SweepFolder(root / tiny.NAME).exists
    return (tiny.go_on(root) if begun else tiny.begin(root, trials=TRIALS, **options)).exit_code


def long(root: Path) -> int:
    """A sweep, begun or gone on with, whose epochs are long: each step between two is kept, and noted as it begins."""

    def stepped(params: Any, *place: int) -> None:
        with (root / "steps").open("a") as file:
            file.write(f"{params.to_flat()} {place}\n")

    tiny.make_tiny(tuning=tiny.Long)
    tiny.Long.stepped = staticmethod(stepped)
    begun = SweepFolder(root / tiny.NAME).exists
    return (tiny.go_on(root) if begun else tiny.begin(root, trials=TRIALS, more=tiny.EACH_STEP)).exit_code


def steps_again(root: Path) -> int:
    """How many steps were begun more than once."""
    begun = (root / "steps").read_text().splitlines() if (root / "steps").exists() else []
    return len(begun) - len(set(begun))


def extended(root: Path) -> int:
    """A finished sweep that is given a larger budget."""
    return tiny.go_on(root, trials=MORE).exit_code


def trying(root: Path) -> int:
    """A sweep, begun or gone on with, of which a point is asked for while its first trial is trained."""
    return _asked_of(root, lambda results: asking.try_point(results, POINT))


def narrowing(root: Path) -> int:
    """The same of a narrower space, in which its last two trials are."""
    return _asked_of(root, lambda results: asking.narrow(results, RANGES), trials=MORE)


def _asked_of(root: Path, ask: Callable[[Results], str], trials: int = TRIALS) -> int:
    """Whoever got no answer asks again."""
    train, answered = tiny.Tiny.train_epoch, root / "answered"

    def epoch(self: Any) -> dict[str, float]:
        if self._params.method != "lora" and self.epoch == 1 and not answered.exists():
            with contextlib.suppress(UserError):  # it is there already
                ask(Results.open(SweepFolder(root / tiny.NAME)))
            answered.write_text("")
        return train(self)

    tiny.Tiny.train_epoch = epoch  # type: ignore[method-assign]
    begun = SweepFolder(root / tiny.NAME).exists
    return (tiny.go_on(root) if begun else tiny.begin(root, trials=trials)).exit_code


def tried(root: Path) -> int:
    """A finished sweep of which a point is asked for, as `sweeper try` does; it is resumed after a death."""
    folder = SweepFolder(root / tiny.NAME)
    if not (root / "answered").exists():
        write_json(folder.path / "provenance.json", {"dataset": tiny.DATA})  # else resume takes no sweep for finished
        with contextlib.suppress(UserError):  # it is there already
            asking.try_point(Results.open(folder), POINT)
        (root / "answered").write_text("")
    return tiny.go_on(root).exit_code


def tried_again(root: Path) -> int:
    """The same by whoever types `sweeper try` once more after a death."""
    (root / "answered").unlink(missing_ok=True)
    return tried(root)


@dataclass(frozen=True)
class Life:
    """What is lived, what came before it, what comes after a death, and what there is at its end."""

    live: Callable[[Path], int]
    trials: int = TRIALS
    before: Callable[[Path], int] | None = None
    after: Callable[[Path], int] | None = None  # None: resumed
    code: int = 0


def sleeps() -> None:
    """A hang that other threads survive."""
    time.sleep(600)


def holds_the_lock() -> None:
    """A hang that no thread of Python survives: C code that never gives the interpreter's lock back."""
    ctypes.PyDLL(None).sleep(600)


def hanging(hang: Callable[[], None]) -> Callable[[Path], int]:
    """A sweep whose baseline hangs in its second epoch."""

    def live(root: Path) -> int:
        train = tiny.Tiny.train_epoch

        def epoch(self: Any) -> dict[str, float]:
            if self._params.method == "lora" and self.epoch == 1:
                hang()
            return train(self)

        tiny.Tiny.train_epoch = epoch  # type: ignore[method-assign]
        return tiny.begin(root, trials=TRIALS, more=f"resources: {{epoch_timeout_s: {LIMIT_S}}}\n").exit_code

    return live


HANGS = {"sleeps": sleeps, "holds the lock": holds_the_lock}
LIVES = {
    "run": Life(run),
    "paused": Life(paused),
    "extended": Life(extended, MORE, before=run, after=extended),
    "failing": Life(failing, after=failing, code=1),
    "stopping": Life(stopping, after=stopping),
    "long": Life(long, after=long),
    "trying": Life(trying, MORE, after=trying),
    "narrowing": Life(narrowing, MORE, after=narrowing),
    "tried": Life(tried, MORE, before=run, after=tried),
    "tried again": Life(tried_again, MORE, before=run, after=tried_again),
}
