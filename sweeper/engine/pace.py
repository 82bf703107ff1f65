"""How far an attempt is, how fast its fits go, and how long the rest takes at that pace.

The unit is the epoch, because fits differ in length. Start-up is left out: a slot counts from the moment when a fit has
begun to train in it.
"""

from __future__ import annotations

import contextlib
import heapq
import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sweeper.engine.planning import epochs_a_fit
from sweeper.engine.queue import FitQueue
from sweeper.engine.queueing.memory import unmeasured
from sweeper.engine.queueing.out import Out
from sweeper.errors import UserError
from sweeper.results.progress import Progress, RunningFit
from sweeper.spec.model import SweepSpec
from sweeper.state.sweep_folder import SweepFolder
from sweeper.trial import Trial
from trainables.undefined import to_nan

MEMORY = (
    1.0  # what lies at a share x of the time that has been counted has the weight x ** MEMORY: the recent counts more
)
MEASURED = 0.6  # epochs that it takes to measure a fit on the test split: weights are loaded, nothing is trained
PRIOR = 2  # trials for which what the spec lets one expect of their epochs counts, beside those that were proposed
FRESH_S, NOTED_S = 0.5, 2.0
KEPT_S = 20.0  # what a kill may take from the hours that are counted
MOST = 500  # fits that are laid out one by one; of more than that the bulk is divided by the slots


class Pace:
    """Slot-seconds an epoch of one fit, from what is `noted` again and again. Times are seconds on any one clock."""

    def __init__(self) -> None:
        self._began_s: float | None = None
        self._last_s = self._last_epochs = 0.0
        self._busy_s = self._epochs = 0.0  # weighted

    def note(self, now_s: float, epochs: float, busy: int) -> None:
        """Until `now_s`, `epochs` were trained in all (parts of epochs count); `busy` slots train."""
        if self._began_s is None:
            if not busy:
                return
            self._began_s, self._last_s, self._last_epochs = now_s, now_s, epochs
            return
        age_s, passed_s = self._last_s - self._began_s, now_s - self._last_s
        if passed_s <= 0:
            return
        kept = (age_s / (age_s + passed_s)) ** MEMORY
        self._busy_s = self._busy_s * kept + busy * passed_s
        self._epochs = self._epochs * kept + max(0.0, epochs - self._last_epochs)
        self._last_s, self._last_epochs = now_s, epochs

    @property
    def epoch_s(self) -> float | None:
        """Slot-seconds that an epoch takes, with what lies between fits; None until half an epoch is trained."""
        return self._busy_s / self._epochs if self._epochs >= 0.5 else None

    def left_s(self, running: Sequence[float], waiting: Sequence[float], slots: int) -> float | None:
        """Seconds until all is trained: epochs left of each fit that runs, and of those that wait, in their order."""
        if self.epoch_s is None:
            return None
        return self.epoch_s * laid_out(running, waiting, slots)


def laid_out(running: Sequence[float], waiting: Sequence[float], slots: int) -> float:
    """When the last slot ends, in epochs, if each fit that waits goes to the slot that is free first.

    >>> laid_out([1, 3], [2, 2], slots=2)
    5
    """
    bulk, single = waiting[:-MOST], waiting[-MOST:]
    ends = [*sorted(running, reverse=True), *[0.0] * slots][: max(slots, len(running))]
    share = sum(bulk) / len(ends)
    ends = [end + share for end in ends]
    heapq.heapify(ends)
    for epochs in single:
        heapq.heapreplace(ends, ends[0] + epochs)
    return max(ends)


@dataclass(frozen=True)
class _Seen:
    """How far a fit that is out was seen to be, and since when."""

    epoch: int
    since_s: float


class Stock:
    """What an attempt has done and has to do, taken again when it is asked for, at most every `FRESH_S`.

    Epochs are known by what actors report, and on a disk that is shared by what fits note in their folders: that also
    says when the first epoch begins. For any thread.
    """

    def __init__(
        self, spec: SweepSpec, folder: SweepFolder, queue: FitQueue, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._spec, self._folder, self._queue, self._clock = spec, folder, queue, clock
        self._began_s, self._taken_s = clock(), -FRESH_S
        self._pace, self._lock = Pace(), threading.Lock()
        self._seen: dict[tuple[int, int], _Seen] = {}
        self._warm = 0  # slots in which a fit has begun to train
        self._prior = epochs_a_fit(spec)
        self._last = Progress("running")
        self._before = folder.spent()
        self._ended = -1  # trials that had ended when test numbers to come were counted
        self._to_measure = 0

    def take(self, trials: Sequence[Trial], front: Sequence[int]) -> Progress:
        """How it stands. `eta_s` has the fits to come and their measuring."""
        with self._lock:
            now_s = self._clock()
            if now_s - self._taken_s >= FRESH_S:
                self._last, self._taken_s = self._take(now_s, trials, front), now_s
            return self._last

    def _take(self, now_s: float, trials: Sequence[Trial], front: Sequence[int]) -> Progress:
        queue, every = self._queue, self._queue.out
        ended = sum(trial.state.finished for trial in trials)
        over = ended == len(trials) and queue.searched  # nothing is left but to measure
        out = [each for each in every if each.order.kind == "fit"]
        notes = [self._folder.fit(each.order.number, each.order.seed).in_flight() for each in out]
        fits = [self._fit(each, note, now_s) for each, note in zip(out, notes, strict=True)]
        self._seen = {key: seen for key, seen in self._seen.items() if key in {(f.number, f.seed) for f in fits}}
        begun = [fit for fit in fits if fit.begun]
        at_once = {(each.order.number, each.order.seed): len(each.bundle) for each in out}
        parts = {(fit.number, fit.seed): self._part(fit, now_s, at_once) for fit in begun}
        trained = sum(queue.trained.values()) + sum(parts.values())
        trained += sum(fit.epoch - each.begun_with for fit, each in zip(fits, out, strict=True))
        training = round(sum(1 / at_once[fit.number, fit.seed] for fit in begun))
        self._warm = max(self._warm, min(training, queue.slots))
        if begun:
            self._pace.note(now_s, trained, min(self._warm, len({each.bundle for each in out})))
        measuring = [order for order in queue.waiting if order.kind == "held-out"]
        to_come = self._measures(trials, front, ended)
        measures = len(measuring) + len(every) - len(out) if over else to_come
        running: dict[object, float] = defaultdict(float)  # by slot: what shares one takes its time together
        for fit, each in zip(fits, out, strict=True):
            running[each.bundle] += fit.epochs - fit.epoch - parts.get((fit.number, fit.seed), 0.0)
        timed = [self._timed(fit, parts, at_once) for fit in fits]
        own = sum(not trial.by_hand for trial in trials)
        more: float = max(self._spec.budget - own, 0) * len(self._spec.search.seed_list)
        hours, gpu_hours = self._spent(now_s)
        left = self._fits_left(now_s)
        if (budget := self._spec.search.budget) is not None and budget.fits is not None:
            left = min(left, max(budget.fits - sum(len(trial.seed_list) for trial in trials), 0))
            more = left  # in a race there may be more than one for each trial
        to_begin = 0 if queue.searched else math.ceil(min(more, left))
        waiting = [*self._waiting(trials, to_begin), *[MEASURED] * measures]
        told = sum(len(t.seed_list) if t.why else t.seeds for t in trials if t.state.finished)
        return Progress(
            "running",
            running_fits=len(every),
            elapsed_s=now_s - self._began_s,
            eta_s=self._pace.left_s([*running.values()], waiting, queue.slots),
            fits=tuple(sorted(timed, key=lambda fit: (fit.number, fit.seed))),
            fits_ended=told + queue.gathered,
            fits_total=sum(len(trial.seed_list) for trial in trials) + to_begin,
            measured=max(0, to_come - measures),
            to_measure=to_come,
            hours=hours,
            gpu_hours=gpu_hours,
        )

    def _spent(self, now_s: float) -> tuple[float, float]:
        """Hours, and those of GPUs, of all attempts until now."""
        hours = (now_s - self._began_s) / 3600
        return self._before.get("hours", 0.0) + hours, self._before.get("gpu_hours", 0.0) + hours * self._held

    @property
    def _held(self) -> float:
        """GPUs that the fits hold; where they have none, slots."""
        return self._queue.slots * (self._queue.gpus or 1.0)

    def fits_left(self) -> float:
        """How many fits a budget in time lets begin yet, at the pace of this attempt; for the queue, of a free slot.

        A fit begins if it can be expected to end in time. Until an epoch is measured, it begins.
        """
        with self._lock:
            return self._fits_left(self._clock())

    def _fits_left(self, now_s: float) -> float:
        budget, epoch_s = self._spec.search.budget, self._pace.epoch_s
        if budget is None or not budget.timed:
            return math.inf
        left_s = budget.left_s(*self._spent(now_s), self._held)
        if left_s <= 0 or epoch_s is None:
            return 0.0 if left_s <= 0 else math.inf
        fit_s = epoch_s * self._prior
        running_s = sum(int(out.order.params["epochs"]) - out.epoch for out in self._queue.out) * epoch_s
        if fit_s * self._queue.packing.most > left_s:  # fits that share a slot take its time together
            return 0.0
        return max(1.0, (left_s * self._queue.slots - running_s) / fit_s)

    def _fit(self, out: Out, note: Mapping[str, float] | None, now_s: float) -> RunningFit:
        order = out.order
        epoch = max(out.epoch, int((note or {}).get("epoch", 1)) - 1)
        key = order.number, order.seed
        begun = out.reported or note is not None
        if begun and (key not in self._seen or self._seen[key].epoch != epoch):
            self._seen[key] = _Seen(epoch, now_s)
        return RunningFit(*key, epoch, int(order.params["epochs"]), begun, to_nan(out.values))

    def _part(self, fit: RunningFit, now_s: float, at_once: Mapping[tuple[int, int], int]) -> float:
        """Of the epoch that it is in, by the time that an epoch takes; most of it at most."""
        key = fit.number, fit.seed
        epoch_s = at_once[key] * (self._pace.epoch_s or 0.0)
        elapsed_s = now_s - self._seen[key].since_s
        return min(0.9, elapsed_s / epoch_s) if epoch_s and fit.epoch < fit.epochs else 0.0

    def _timed(
        self, fit: RunningFit, parts: Mapping[tuple[int, int], float], at_once: Mapping[tuple[int, int], int]
    ) -> RunningFit:
        key, epoch_s = (fit.number, fit.seed), self._pace.epoch_s
        if epoch_s is None or key not in parts:
            return fit
        return replace(fit, left_s=(1 - parts[key]) * epoch_s * at_once[key])

    def _waiting(self, trials: Sequence[Trial], more: int) -> list[float]:
        """Epochs of each fit that is ordered or will be. The `more` that are not proposed yet are like what was."""
        ordered = [float(order.params["epochs"]) for order in self._queue.waiting if order.kind == "fit"]
        proposed = [self._epochs(trial) for trial in trials if not trial.baseline]
        mean = (PRIOR * self._prior + sum(proposed)) / (PRIOR + len(proposed))
        return ordered + [mean] * more

    def _epochs(self, trial: Trial) -> float:
        """That each fit of a trial takes; of one that has ended in this attempt, took."""
        trained = self._queue.trained.get(trial.number)
        all_epochs = trained if trained and trial.state.finished else None
        return all_epochs / len(trial.seed_list) if all_epochs else float(trial.params["epochs"])

    def _measures(self, trials: Sequence[Trial], front: Sequence[int], ended: int) -> int:
        """Fits that will be measured on the test split, by the front as it is; counted when a trial has ended."""
        if ended != self._ended:
            lacking = unmeasured(trials, front, self._spec.objectives, self._folder)
            self._ended, self._to_measure = ended, len(lacking)
        return self._to_measure


@contextlib.contextmanager
def told_to_watchers(folder: SweepFolder, look: Callable[[], Progress]) -> Iterator[None]:
    """Inside, a thread notes for other processes how far the attempt is, in a hundredth of its time at most.

    It also notes what all attempts took, for the next one: rarely, since that is kept.
    """
    over = threading.Event()

    def note(*, spent: bool) -> None:
        with contextlib.suppress(OSError, UserError):  # of what is wrong somebody else will tell
            now = look()
            folder.note_progress(now.to_json())
            if spent:
                folder.note_spent({"hours": now.hours, "gpu_hours": now.gpu_hours})

    def work() -> None:
        pause_s, kept_s = NOTED_S, time.monotonic()
        while not over.wait(pause_s):
            began_s = time.monotonic()
            due = began_s - kept_s >= KEPT_S
            note(spent=due)
            kept_s = began_s if due else kept_s
            pause_s = max(NOTED_S, 100 * (time.monotonic() - began_s))

    thread = threading.Thread(target=work, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        note(spent=True)
