"""One attempt at a sweep: execute what is left, record it, say what came of it."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from dashboards.document.tables import to_csv
from sweeper.engine.executor import Execute
from sweeper.engine.queue import FitQueue
from sweeper.engine.signals import Interrupts
from sweeper.errors import Corrupt, Paused
from sweeper.front.halving import Halving
from sweeper.record.background import Projector, Record
from sweeper.results import held_out, summary
from sweeper.results.summary import Snapshot
from sweeper.spec.model import SweepSpec
from sweeper.state.fit_folder import metrics
from sweeper.state.opening import record_uri
from sweeper.state.study import Study
from sweeper.state.sweep_folder import SweepFolder
from sweeper.trial import State, Trial

EXIT_GOOD, EXIT_SOME_FAILED, EXIT_INTERRUPTED, EXIT_TERMINATED = 0, 1, 130, 143
EXIT_PAUSED = Paused.exit_code
RECORD_PATIENCE_S = 60.0
BRIEF_S = 10.0
_RECORD_LATER = "it is written at the next resume. Of a damaged store: move it away, then sweeper rebuild-record."


class Listener(Protocol):
    """Who watches an attempt. Called from the scheduling path: be quick."""

    def begun(self, look: Callable[[], Snapshot], notes: list[str]) -> None:
        """The attempt begins; `look` gives the moment's snapshot from any thread."""

    def told(self, trial: Trial) -> None:
        """A trial has ended."""


@dataclass(frozen=True)
class Outcome:
    """What an attempt came to."""

    snapshot: Snapshot
    trials: list[Trial]
    front: list[int]
    exit_code: int
    notes: list[str] = field(default_factory=list)


def _halving(spec: SweepSpec, folder: SweepFolder, study: Study) -> Halving | None:
    """The rule that stops fits early, if the spec has one, with what the fits of earlier attempts had reached."""
    if spec.search.stopping is None:
        return None
    signs = dict(zip(spec.objectives, summary.signs(spec), strict=True))
    rule = Halving(spec.search.stopping.first, spec.search.stopping.factor, signs)
    for trial in study.trials():
        with contextlib.suppress(Corrupt):  # it is told of elsewhere; here it is one less to compare with
            history = folder.fit(trial.number, spec.search.seed_list[0]).history()
            for epoch in rule.rungs(len(history) + 1):
                rule.note(trial.number, int(trial.params["epochs"]), epoch, metrics(history[epoch - 1]))
    return rule


class Attempt:
    """The parts of one attempt and how they work together."""

    def __init__(
        self, spec: SweepSpec, folder: SweepFolder, study: Study, listener: Listener, interrupts: Interrupts
    ) -> None:
        self._spec, self._folder, self._study, self._listener = spec, folder, study, listener
        self._began = time.monotonic()
        self._interrupts = interrupts
        self._projector: Projector | None = None
        self._ended = False
        self._queue = FitQueue(
            study,
            folder,
            spec.search,
            spec.resources,
            halving=_halving(spec, folder, study),
            on_trial=self._told,
            on_stop=self._end_epochs,
        )

    def run(self, execute: Execute, described: Mapping[str, Any]) -> Outcome:
        """Execute what is left, record it, say what came of it."""
        self._queue.begin()
        self._projector = self._record(described)
        self._listener.begun(self.snapshot, [*described["notes"], *self._queue.notes])
        self._interrupts.then(self._queue.stop)
        try:
            execute(self._queue, self._folder)
        except Exception:
            self._ended = True
            self._projector.finish(BRIEF_S)
            raise
        self._ended = True
        self._study.guard()  # one that was taken over has nothing to add
        return self._finish()

    def stop(self) -> None:
        """Begin nothing new; what runs ends with the epoch it is in."""
        self._queue.stop()

    def _end_epochs(self) -> None:
        """Ask the fits to end with the epoch they are in. Without room for that file they find it out themselves."""
        with contextlib.suppress(OSError, Paused):
            self._folder.ask_to_stop()

    def _told(self, trial: Trial) -> None:
        if self._projector is not None:
            self._projector.poke()
        self._listener.told(trial)

    def _finish(self) -> Outcome:
        trials, front = self._study.look()
        snapshot = self.snapshot()
        notes = self._shortfalls(snapshot, trials, front)
        if snapshot.state == "paused":
            snapshot = replace(snapshot, why=self._why(notes))
            self._folder.note_why(self._why(notes))
        frame = summary.table(trials, self._spec, front)
        self._folder.write(self._folder.path / "trials.csv", to_csv(frame).encode())
        self._folder.write(self._folder.path / "front.csv", to_csv(frame[frame["on_front"]]).encode())
        if self._projector is not None and not self._projector.finish(RECORD_PATIENCE_S):
            notes.append(f"record: MLflow could not take everything yet{self._projector.last}; {_RECORD_LATER}")
        if self._spec.storage.keep_weights == "front":
            self._drop_dominated(trials, front)
        return Outcome(snapshot, trials, front, self._exit_code(trials, short=bool(notes)), notes)

    def _why(self, notes: list[str]) -> str:
        number = self._interrupts.number
        return " ".join(notes) if number is None else f"it got {signal.Signals(number).name}"

    def _shortfalls(self, snapshot: Snapshot, trials: list[Trial], front: list[int]) -> list[str]:
        """What a person would expect of a finished sweep, and did not get."""
        if self._queue.to_mend:
            return [f"paused: {self._queue.to_mend}"]
        if self._queue.too_many_failures:
            mend = f"See to the cause, then 'sweeper resume {self._spec.name}' (--with FILE for another stop rule)."
            return [f"brake: {self._queue.too_many_failures}. {mend}"]
        if self._interrupts.number is not None:
            return []
        if snapshot.state != "finished":
            return ["Ray Tune ended before the budget was reached; resume goes on."]
        return self._unsound(trials) + self._unmeasured(trials, front)

    def _unsound(self, trials: list[Trial]) -> list[str]:
        """Results of told trials that are damaged or gone: no number is lost, the record's curves would be."""
        told = []
        for number in (trial.number for trial in trials if trial.state is State.COMPLETE):
            for fit in (self._folder.fit(number, seed) for seed in self._spec.search.seed_list):
                try:
                    told += [] if fit.result() else [f"{fit.path}/result.json is gone. Put back a copy."]
                except Corrupt as fault:
                    told.append(str(fault))
        return [f"{said} The numbers of its trial are in the study." for said in told]

    def _unmeasured(self, trials: list[Trial], front: list[int]) -> list[str]:
        try:
            measured = held_out.read(self._folder, self._spec, trials)
        except Corrupt as fault:
            return [str(fault)]
        missing = [number for number in front if number not in measured]
        return [f"test numbers: none for trials {missing}; resume tries again."] if missing else []

    def _drop_dominated(self, trials: list[Trial], front: list[int]) -> None:
        """A dominated trial stays dominated whatever is added, so its weights are never asked for again."""
        for trial in trials:
            if trial.state.finished and trial.number not in front and trial.baseline is None:
                for seed in self._spec.search.seed_list:
                    self._folder.drop_weights(trial.number, seed)

    def _exit_code(self, trials: list[Trial], *, short: bool) -> int:
        if self._interrupts.number is not None:
            return EXIT_TERMINATED if self._interrupts.number == signal.SIGTERM else EXIT_INTERRUPTED
        if self._queue.to_mend:
            return EXIT_PAUSED
        return EXIT_SOME_FAILED if short or any(trial.reason for trial in trials) else EXIT_GOOD

    # --- looking in from other threads

    def snapshot(self) -> Snapshot:
        """The attempt at this moment."""
        trials, front = self._study.look()
        elapsed = time.monotonic() - self._began
        return Snapshot(
            name=self._spec.name,
            state=self._state(trials),
            budget=self._study.budget,
            counts=summary.counts(trials),
            front=summary.front_rows(trials, self._spec, front),
            hypervolume=summary.hypervolume(trials, self._spec, front),
            running_fits=self._queue.running,
            elapsed_s=elapsed,
            eta_s=self._eta(trials, elapsed),
        )

    def _state(self, trials: list[Trial]) -> str:
        if len(trials) >= self._study.budget and all(trial.state.finished for trial in trials):
            return "finished"
        queue_stopped = self._queue.too_many_failures or self._queue.to_mend
        return "paused" if self._ended or self._interrupts.number is not None or queue_stopped else "running"

    def _eta(self, trials: list[Trial], elapsed: float) -> float | None:
        """Fits to come at the pace so far."""
        ended = sum(trial.state.finished for trial in trials) * len(self._spec.search.seed_list)
        total = self._study.budget * len(self._spec.search.seed_list)
        if not self._queue.orders_done:
            return None
        return max(0.0, (total - ended) * elapsed / self._queue.orders_done)

    # --- the record

    def _record(self, described: Mapping[str, Any]) -> Projector:
        def make() -> Record:
            from sweeper.record.recorder import open_record  # MLflow takes seconds to import; the record's thread pays

            uri = record_uri(self._spec, self._folder.path.parent)
            return open_record(self._spec, self._study.uuid, self._folder, uri, described, self._study.guard)

        def look() -> tuple[list[Trial], list[int]]:
            self._study.guard()  # a driver that was taken over must not write the record either
            return self._study.look()

        projector = Projector(make, look)
        projector.start()
        return projector
