"""How orders reach the actors: the queue as Ray Tune sees it. Nothing here needs to survive a crash.

Tune asks a searcher for trials and a scheduler whether they go on. Its own results and snapshots are never read: a
fit's outcome is in its folder, and the queue decides.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune import Callback, CheckpointConfig, CLIReporter, FailureConfig, RunConfig, TuneConfig, Tuner
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from sweeper.engine import actor, order, ray_watch
from sweeper.engine.machines import Slots
from sweeper.engine.order import Node, Order
from sweeper.engine.packs.packing import by_member
from sweeper.engine.queue import FitQueue
from sweeper.engine.telling import telemetry
from sweeper.errors import Paused
from sweeper.results import provenance
from sweeper.running_code import RunningCode, shown
from sweeper.state.sweep_folder import SweepFolder

OWN_EVERY_S, JOINED_EVERY_S = 0.5, 5.0  # between two looks at a Ray of our own, at a cluster's
STUCK_S = 15.0  # after a death, for Tune to come round
_KEPT = "Nothing that was finished is lost."


def run(queue: FitQueue, folder: SweepFolder, slots: Slots) -> None:
    """Let Ray Tune carry out orders until the queue has no more."""
    queue.slots, queue.gpus, code = slots.count, slots.gpus, provenance.code(folder.path)
    share = (slots.device, slots.threads, slots.cpus, slots.gpus)
    node = Node(folder.path, folder.token, folder.store, *share, code=code.digest)
    ahead = 1 if slots.count > 1 and slots.bound_by_resources else 0
    searcher = FitSearcher(queue, node, code, limit=slots.count, ahead=ahead)
    with RayWatch.here(functools.partial(_end, folder)) as watch, telemetry.telling(folder):
        try:
            _tuner(searcher, folder, slots, watch).fit()
        except RayLost as fault:  # the attempt ends short of its budget; a resume goes on from what is durable
            queue.pause(f"{fault}. {_KEPT}")
    if searcher.fault is not None:
        raise searcher.fault


def _tuner(searcher: FitSearcher, folder: SweepFolder, slots: Slots, watch: RayWatch) -> Tuner:
    logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)  # it calls an order that died a failed trial
    return Tuner(
        tune.with_resources(actor.FitActor, {"cpu": slots.cpus, "gpu": slots.gpus}),
        tune_config=TuneConfig(
            search_alg=searcher, scheduler=StoppingScheduler(searcher), num_samples=-1, reuse_actors=True
        ),
        run_config=RunConfig(
            name="tune",
            storage_path=str(folder.attempt),
            verbose=0,
            progress_reporter=CLIReporter(),  # in a notebook Tune's own would clear the cell
            callbacks=[watch],
            checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
            failure_config=FailureConfig(max_failures=0),  # the queue retries; Tune would not if an actor cannot start
        ),
    )


def _end(folder: SweepFolder, said: str) -> None:
    """End this process: what waits for a dead Ray cannot be called back. It is as if it had been killed."""
    with contextlib.suppress(Exception):
        folder.note_why(f"{said}. {_KEPT}")
    print(f"paused: {said}. {_KEPT} Go on with: sweeper resume {folder.name}", file=sys.stderr, flush=True)
    os._exit(Paused.exit_code)


class FitSearcher(Searcher):
    """Hands bundles of orders to Tune as trial configs: at most `limit` that run, and `ahead` that wait.

    If one waits, Tune gives it to an actor that has finished, instead of ending that actor and paying for its
    imports again. With a single slot none waits, so that each proposal knows the outcome of the one before.
    """

    def __init__(self, queue: FitQueue, node: Node, code: RunningCode, *, limit: int, ahead: int) -> None:
        super().__init__(metric=None, mode=None)
        self._queue, self._node, self._code, self._most = queue, node, code, limit + ahead
        self._bundles: dict[str, tuple[Order, ...]] = {}  # by Tune's name for the trial
        self._deaths: dict[str, str] = {}
        self.fault: Exception | None = None  # kept here, because Tune would swallow it and wait without end

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """The next bundle as a config, None for 'not now', FINISHED for 'no more'."""
        if self._queue.empty:
            return Searcher.FINISHED
        if len(self._bundles) >= self._most:
            return None
        try:
            bundle = self._queue.next_bundle()
        except Exception as fault:
            self._fail(fault)
            return Searcher.FINISHED
        if not bundle:
            return Searcher.FINISHED if self._queue.empty else None
        self._bundles[trial_id] = bundle
        return order.config(self._node, *bundle)

    def prunes(self, trial_id: str, result: Mapping[str, Any]) -> bool:
        """Whether a fit that reports is not trained further: then its bundle ends."""
        try:
            return self._queue.reports(self._bundles.get(trial_id, ()), by_member(result))
        except Exception as fault:
            self._fail(fault)
            return True

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Tune has finished with a bundle. `error`: its actor died, in training or before it began."""
        bundle = self._bundles.pop(trial_id, None)
        if bundle is None:
            return
        told = result or {}
        try:
            self._queue.done(*bundle, died=error, to_mend=self._to_mend(trial_id, told), told=told)
        except Exception as fault:
            self._fail(fault)

    def note_death(self, trial_id: str, said: str) -> None:
        """What Ray says of the death of an order's actor, before Tune has finished with the order."""
        self._deaths[trial_id] = said

    def _to_mend(self, trial_id: str, result: Mapping[str, Any]) -> str | None:
        """Why no order can be carried out before somebody mends it, if that is so."""
        if "to_mend" in result:
            return str(result["to_mend"])
        if result and result.get("code") != self._code.digest:
            return _of_other_code(self._code, result)
        return _unimportable(self._deaths.pop(trial_id, ""))

    def _fail(self, fault: Exception) -> None:
        self.fault = self.fault or fault
        self._queue.stop()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its searcher into the attempt's scratch, which is never read back."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the study is the memory."""
        open(checkpoint_path, "w").close()

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: an attempt is never restored; a resume begins a new one."""


def _of_other_code(ours: RunningCode, result: Mapping[str, Any]) -> str:
    """What to say of a worker that runs other code than the sweep's provenance names."""
    mend = "Install the same code on every machine, and nothing else under its names on PYTHONPATH; then resume."
    kept = result.get("other_code")
    if kept is None:
        where = f"a worker on {result.get('hostname', 'a machine')}"
        return f"{where} runs another release, which does not say what its code is. {mend}"
    theirs = RunningCode.from_json(json.loads(kept))
    names = ours.differing(theirs)
    differ = "differs" if len(names) == 1 else "differ"
    return (
        f"a worker on {result['hostname']} runs other code than this sweep's provenance names (digest {theirs.digest}, "
        f"not {ours.digest}): {shown(theirs, names)} {differ}. It trained nothing. {mend}"
    )


def _unimportable(said: str) -> str | None:
    """The import's own error, if `said`, Ray's words for an actor's death, is that its class could not be imported."""
    if "failed to import on the worker" not in said:
        return None
    why = said.rstrip().rpartition("\n")[2].strip()
    return f"a worker cannot import what it runs: {why}. Install there what is installed here, then resume."


class StoppingScheduler(FIFOScheduler):
    """Ends a fit that the queue prunes; its actor takes the next order."""

    def __init__(self, searcher: FitSearcher) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._searcher = searcher

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """An actor has died. Called before the searcher hears of it."""
        with contextlib.suppress(OSError, TypeError):  # it is told as far as it can be
            self._searcher.note_death(trial.trial_id, Path(trial.error_file).read_text(encoding="utf-8"))

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """After each report of a fit."""
        return str(self.STOP if self._searcher.prunes(trial.trial_id, result) else self.CONTINUE)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, as the searcher's."""
        return {}


class RayLost(RuntimeError):
    """The Ray that this driver is attached to has died. A resume goes on from what its fits made durable."""


class RayWatch(Callback):
    """Ends an attempt whose Ray is gone: Tune would wait for it without end. If another node dies, Tune moves its fits.

    It looks from a thread of its own, since Tune may be held up by what has died. Where its loop does not come round
    in time, `stuck` is called with the sentence.
    """

    def __init__(
        self, lost: Callable[[], str | None], stuck: Callable[[str], None], *, every_s: float, stuck_s: float = STUCK_S
    ) -> None:
        self._lost, self._stuck, self._every_s, self._stuck_s = lost, stuck, every_s, stuck_s
        self._said: str | None = None
        self._cleanup = TuneController.cleanup
        self._over = threading.Event()

    @classmethod
    @contextlib.contextmanager
    def here(cls, stuck: Callable[[str], None]) -> Iterator[RayWatch]:
        """For the Ray that this process is attached to; it looks as long as the context lasts."""
        look = ray_watch.lost()
        watch = cls(look, stuck, every_s=JOINED_EVERY_S if isinstance(look, ray_watch.Joined) else OWN_EVERY_S)
        thread = threading.Thread(target=watch.look, name="ray-watch", daemon=True)
        thread.start()
        try:
            yield watch
        finally:
            watch.end()

    def look(self) -> None:
        """Look, until something has died or this watch is over."""
        while not self._over.wait(self._every_s):
            with contextlib.suppress(Exception):  # of a head that does not answer: the next look tells
                self._said = self._lost()
            if self._said is not None:
                if not self._over.wait(self._stuck_s):
                    self._stuck(self._said)
                return

    def end(self) -> None:
        """Nothing is watched any more."""
        self._over.set()
        if self._said is not None:
            _put_cleanup(self._cleanup)

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Called by Tune in each turn of its loop.

        Raises:
            RayLost: Ray is gone.
        """
        if self._said is not None:
            _put_cleanup(lambda controller: None)  # it would ask the dead for an answer, without end
            raise RayLost(self._said)

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its callbacks into the attempt's scratch, which is never read back."""
        return {}


def _put_cleanup(cleanup: Callable[[TuneController], None]) -> None:
    setattr(TuneController, "cleanup", cleanup)  # noqa: B010 (to mypy a method is no variable)
