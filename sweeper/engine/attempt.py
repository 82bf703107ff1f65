"""One attempt at a sweep, or at a confirmation: execute what is left, record it, say what came of it."""

from __future__ import annotations

import contextlib
import functools
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from sweeper.engine.pace import Stock, told_to_watchers
from sweeper.engine.queue import FitQueue
from sweeper.engine.signals import Interrupts
from sweeper.errors import Corrupt, Paused
from sweeper.front import recommend
from sweeper.front.forecast import LIMITS, Forecast
from sweeper.front.front import signs
from sweeper.front.halving import Halving
from sweeper.front.stopping import StoppingRule
from sweeper.record import owed
from sweeper.record.background import Projector
from sweeper.results import confirmation, held_out
from sweeper.results.confirmation import Confirmation, FreshSeeds
from sweeper.results.results import Results
from sweeper.spec.model import SweepSpec
from sweeper.state.fit_folder import metrics
from sweeper.state.study import Study
from sweeper.state.sweep_folder import SweepFolder
from sweeper.trial import State, Trial

if TYPE_CHECKING:
    from sweeper.record.record import Record

Execute = Callable[[FitQueue, SweepFolder], None]  # carry out the queue's orders until there are no more

EXIT_GOOD, EXIT_SOME_FAILED, EXIT_BY_SIGNAL = 0, 1, 128  # 130 by INT, 143 by TERM, 129 by HUP
EXIT_PAUSED = Paused.exit_code
RECORD_AFTER_S = 10.0  # unless a trial ends: until then Ray's workers need the cores
RECORD_PATIENCE_S = 60.0
BRIEF_S = 10.0
_RECORD_LATER = "it is written at the next resume. Of a damaged store: move it away, then sweeper rebuild-record."


class Listener(Protocol):
    """Watches an attempt, as the screen does. It is called while trials are scheduled, so it must be quick."""

    def step(self, what: str) -> AbstractContextManager[None]:
        """Inside, `what` is made ready before the attempt begins; several may be at once, each in its thread."""
        return contextlib.nullcontext()

    def interrupted(self) -> None:
        """Somebody asked the sweep to pause. Called by the signal's handler: it must take no lock."""

    def begun(self, look: Callable[[], Results], notes: list[str]) -> None:
        """The attempt begins. `look` gives the results of the moment; any thread may call it."""

    def told(self, trial: Trial) -> None:
        """A trial has ended."""

    def closing(self) -> None:
        """Nothing is trained any more; tables and record are written."""


@dataclass(frozen=True)
class Outcome:
    """What an attempt came to."""

    results: Results
    exit_code: int
    notes: list[str] = field(default_factory=list)
    braked: bool = False  # ended by its stop rules: too many trials have failed


class Attempt:
    """One attempt: its queue is executed, its record written, its shortfalls named."""

    def __init__(
        self, spec: SweepSpec, folder: SweepFolder, study: Study, listener: Listener, interrupts: Interrupts
    ) -> None:
        self._spec, self._folder, self._study, self._listener = spec, folder, study, listener
        self._interrupts = interrupts
        self._projector = Projector(
            lambda: _record(spec, folder, study, self._projector),
            self.results,
            study.guard,  # a driver that was taken over must not write the record either
        )
        self._ended = False
        self._queue = FitQueue(
            study,
            folder,
            spec.search,
            spec.resources,
            stopping=stopping_rule(spec, folder, study),
            left=lambda: self._stock.fits_left(),  # it looks at the queue
            on_trial=self._trial_ended,
            on_stop=functools.partial(_stop_fits, folder),
        )
        self._stock = Stock(spec, folder, self._queue)

    def run(self, execute: Execute, described: Mapping[str, Any]) -> Outcome:
        """Execute what is left, record it, say what came of it. `described` is the data's `provenance.describe`."""
        self._queue.begin()
        self._projector.start(RECORD_AFTER_S)
        self._listener.begun(self.results, [*described["notes"], *self._queue.notes])
        self._interrupts.then(self._queue.stop)
        try:
            with told_to_watchers(self._folder, lambda: self.results().progress):
                execute(self._queue, self._folder)
        except Exception:
            self._ended = True
            self._projector.finish(BRIEF_S)
            raise
        self._ended = True
        self._listener.closing()
        self._study.guard()  # a driver that was taken over has nothing to add
        return self._finish()

    def stop(self) -> None:
        """Begin nothing new. Fits that run end with the epoch they are in."""
        self._queue.stop()

    def _trial_ended(self, trial: Trial) -> None:
        self._projector.poke()
        self._listener.told(trial)

    def _finish(self) -> Outcome:
        from dashboards.document.tables import to_csv

        results = self.results()
        notes = self._shortfalls(results)
        if results.state == "paused":
            number = self._interrupts.number
            why = " ".join(notes) if number is None else f"it got {signal.Signals(number).name}"
            results = replace(results, progress=replace(results.progress, why=why))
            self._folder.note_why(why)
        table = results.summary_table
        self._folder.write(self._folder.path / "trials.csv", to_csv(table).encode())
        self._folder.write(self._folder.path / "front.csv", to_csv(table[table["on_front"]]).encode())
        if not self._projector.finish(RECORD_PATIENCE_S):
            notes.append(f"record: MLflow could not take everything yet{self._projector.last}; {_RECORD_LATER}")
        if self._spec.storage.keep_weights == "front" and results.finished:
            self._drop_dominated(results)
        if results.finished and self._projector.whole:
            owed.note(results)
        braked = self._queue.too_many_failures is not None
        exit_code = self._exit_code(results, short=bool(notes))
        return Outcome(results, exit_code, [*self._queue.packing.notes, *notes], braked)

    def _shortfalls(self, results: Results) -> list[str]:
        """What a person expects of a finished sweep and did not get."""
        if self._queue.to_mend:
            return [f"paused: {self._queue.to_mend}"]
        if self._queue.too_many_failures:
            mend = f"See to the cause, then 'sweeper resume {self._spec.name}' (--with FILE for another stop rule)."
            return [f"brake: {self._queue.too_many_failures}. {mend}"]
        if self._interrupts.number is not None:
            return []
        if results.requests:
            return [f"{results.requests} of what was asked for came too late for this attempt; resume takes it up."]
        if results.state != "finished":
            return ["Ray Tune ended before the budget was reached; resume goes on."]
        return _missing(results)

    def _drop_dominated(self, results: Results) -> None:
        """Weights of dominated trials have served, once those that are a method's point are measured on the test split.

        A method's point may be dominated, and which one it is stands fast only when the search has ended.
        """
        of_methods = recommend.measured_per_method(results.trials, results.spec.objectives)
        stay = {*results.front, *recommend.measured_per_baseline(results.trials, results.spec.objectives)}
        for trial in results.trials:
            if trial.state.finished and trial.number not in stay:
                for seed in trial.seed_list:
                    if trial.number not in of_methods or self._folder.held_out(trial.number, seed).exists():
                        self._folder.drop_weights(trial.number, seed)

    def _exit_code(self, results: Results, *, short: bool) -> int:
        return _exit_code(self._queue, self._interrupts, short or any(trial.reason for trial in results.trials))

    # --- looking in from other threads

    def results(self) -> Results:
        """The results of this moment."""
        trials, front = self._study.look()
        queue_stopped = self._queue.too_many_failures or self._queue.to_mend
        stopped = self._ended or self._interrupts.number is not None or queue_stopped
        progress = replace(self._stock.take(trials, front), state="paused" if stopped else "running")
        return Results(
            self._folder,
            self._spec,
            trials,
            front,
            progress,
            self._study.over,
            self._study.narrowings,
            self._study.warm.notes,
        )


@dataclass(frozen=True)
class Confirmed:
    """What an attempt at a confirmation came to. Interrupted or paused, it is not finished, and goes on when asked."""

    results: Results
    confirmation: Confirmation
    exit_code: int = EXIT_GOOD
    notes: list[str] = field(default_factory=list)


class Confirming:
    """One attempt at a confirmation: the fits of both trials with the new seeds, then the test split, then the record.

    What an earlier attempt has trained is found in the fits' folders. The study hears nothing.
    """

    def __init__(
        self,
        results: Results,
        planned: Confirmation,
        study: Study,
        interrupts: Interrupts,
        heard: Callable[[str], None],
    ) -> None:
        self._results, self._folder, self._study = results, results.folder, study
        self._planned, self._interrupts, self._heard = planned, interrupts, heard
        self._pair = FreshSeeds(results, planned)
        self._queue = FitQueue(
            self._pair,
            self._folder,
            results.spec.search,
            results.spec.resources,
            same=results.fits_of(planned.point)[0].provenance,
            on_trial=self._trial_ended,
            on_stop=functools.partial(_stop_fits, self._folder),
        )

    def run(self, execute: Execute) -> Confirmed:
        """Execute what is left; measure, keep and record the difference."""
        trained = sum(self._folder.fit(*fit).result() is not None for fit in self._fits)
        pair = f"trials {self._planned.point} and {self._planned.baseline}"
        self._heard(f"{len(self._fits)} fits, of {pair} with new seeds; {trained} of them are trained already")
        self._queue.begin()
        for note in self._queue.notes:
            self._heard(note)
        self._interrupts.then(self._queue.stop)
        execute(self._queue, self._folder)
        self._study.guard()
        for note in self._queue.packing.notes:
            self._heard(note)
        if self._interrupts.number is not None or self._queue.to_mend:
            notes = [f"paused: {self._queue.to_mend}"] if self._queue.to_mend else []
            return Confirmed(self._results, self._planned, _exit_code(self._queue, self._interrupts, True), notes)
        told = self._told()
        if told is None:
            notes = ["not every fit was trained and measured; the same command goes on."]
            return Confirmed(self._results, self._planned, EXIT_SOME_FAILED, notes)
        confirmation.keep(self._folder, told)
        if told.finished and self._results.spec.storage.keep_weights == "front":  # they have served
            for number, seed in self._fits:
                self._folder.drop_weights(number, seed)
        notes = self._record()
        return Confirmed(self._results, told, EXIT_SOME_FAILED if told.failed or notes else EXIT_GOOD, notes)

    def stop(self) -> None:
        """Begin nothing new. Fits that run end with the epoch they are in."""
        self._queue.stop()

    def _trial_ended(self, trial: Trial) -> None:
        values = ", ".join(f"{name} {value:.3f}" for name, value in trial.values.items())
        self._heard(f"trial {trial.number} {trial.state} with the new seeds: {trial.why or values}")
        if trial.reason:  # there is nothing to compare with
            self._queue.stop()

    @property
    def _fits(self) -> list[tuple[int, int]]:
        return [(n, seed) for n in (self._planned.point, self._planned.baseline) for seed in self._planned.seeds]

    def _told(self) -> Confirmation | None:
        """What it came to; None where something is still to be done."""
        ended = replace(self._planned, ended_ms=time.time_ns() // 1_000_000, failed=None)
        if self._pair.failed:
            return replace(ended, failed=self._pair.failed)
        if not self._pair.trained or not all(self._folder.held_out(*fit).exists() for fit in self._fits):
            return None
        return confirmation.measured(self._results, ended)

    def _record(self) -> list[str]:
        spec, study = self._results.spec, self._study
        projector = Projector(lambda: _record(spec, self._folder, study, projector), lambda: self._results, study.guard)
        projector.start()
        if projector.finish(RECORD_PATIENCE_S):
            return []
        return [f"record: MLflow could not take everything{projector.last}; {_RECORD_LATER}"]


def _record(spec: SweepSpec, folder: SweepFolder, study: Study, projector: Projector) -> Record:
    """In the projector's thread: to import MLflow and what draws takes seconds."""
    from sweeper.record.record import open_record

    return open_record(spec, folder, study.uuid, projector.permit)


def idle(results: Results, notes: Sequence[str]) -> Outcome:
    """What an attempt at a finished sweep comes to that has nothing to do."""
    missing = _missing(results)
    short = bool(missing) or any(trial.reason for trial in results.trials)
    notes = [*notes, *missing, "nothing was left to do."]
    return Outcome(results, EXIT_SOME_FAILED if short else EXIT_GOOD, notes)


def _missing(results: Results) -> list[str]:
    """What a finished sweep should have, and has not or not any more.

    Results of complete trials: the study has their numbers, but not their curves. Test numbers of the front.
    """
    faults: list[str] = []
    for trial in (trial for trial in results.trials if trial.state is State.COMPLETE):
        for fit in (results.folder.fit(trial.number, seed) for seed in trial.seed_list):
            try:
                faults += [] if fit.result() else [f"{fit.path}/result.json is gone. Put back a copy."]
            except Corrupt as fault:
                faults.append(str(fault))
    faults = [f"{fault} The numbers of its trial are in the study." for fault in faults]
    try:
        measured = held_out.read(results)
    except Corrupt as fault:
        return [*faults, str(fault)]
    missing = [number for number in results.front if number not in measured]
    return [*faults, *[f"test numbers: none for trials {missing}; resume tries again."] * bool(missing)]


def _stop_fits(folder: SweepFolder) -> None:
    """Ask the fits to end with the epoch they are in."""
    with contextlib.suppress(OSError, Paused):  # no room for the request: then they have none for an epoch either
        folder.ask_to_stop()


def _exit_code(queue: FitQueue, interrupts: Interrupts, short: bool) -> int:
    if interrupts.number is not None:
        return EXIT_BY_SIGNAL + interrupts.number
    if queue.to_mend:
        return EXIT_PAUSED
    return EXIT_SOME_FAILED if short else EXIT_GOOD


def stopping_rule(spec: SweepSpec, folder: SweepFolder, study: Study) -> StoppingRule | None:
    """The rule that stops fits early, if the spec has one. It knows what the fits of earlier attempts reached."""
    wanted = spec.search.stopping
    if wanted is None:
        return None
    by_objective = dict(zip(spec.objectives, signs(spec.objectives).tolist(), strict=True))
    rule: StoppingRule = (
        Forecast(*LIMITS[wanted], by_objective)
        if isinstance(wanted, str)
        else Halving(wanted.first, wanted.factor, by_objective)
    )
    for trial in study.trials():
        if trial.state.finished:
            rule.told(trial)
        with contextlib.suppress(Corrupt):  # reported elsewhere; here it is one fit less to compare with
            history = folder.fit(trial.number, spec.search.seed_list[0]).history()
            epochs = int(trial.params["epochs"])
            for epoch in (rung for rung in rule.rungs(epochs) if rung <= len(history)):
                rule.note(trial.number, epochs, epoch, metrics(history[epoch - 1]))
    return rule
