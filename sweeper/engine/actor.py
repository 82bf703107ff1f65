"""Where a fit is trained: a Ray actor around `trainables.FineTuning` that carries out one order after the other.

Imports, backbone and data are paid for once per actor; `reset_config` gives it the next order. Every epoch is durable
before it is reported, so an actor may die at any instant.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import socket
import time
import traceback
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ray import tune

from sweeper import running_code
from sweeper.engine.order import Node, Order, unlike
from sweeper.engine.watchdog import Watchdog
from sweeper.errors import Corrupt, Paused, of_storage
from sweeper.results import fit_log
from sweeper.results.provenance import MANIFEST
from sweeper.spec import loading
from sweeper.state import migrations
from sweeper.state.mirror import SHOWN_S
from sweeper.state.sweep_folder import Fenced
from trainables.errors import FitError, UserError
from trainables.params import Params
from trainables.undefined import to_null

if TYPE_CHECKING:  # torch stays out of the driver, which imports this class only to hand it to Tune
    from trainables.finetuning import FineTuning

log = logging.getLogger(__name__)
REPORT_EVERY_S = 1.0


class _Stopped(Exception):
    """The sweep was asked to stop, and the epoch in flight is kept as far as it is."""


class FitActor(tune.Trainable):
    """Trains fits, one at a time. Tune sees the progress; the fit's folder holds the facts."""

    def setup(self, config: dict[str, Any]) -> None:
        """Called once per actor. A fault here is kept, and each order of this actor fails with it."""
        began = time.perf_counter()
        self._fault: BaseException | None = None
        self._watchdog = Watchdog(None, beat=self._beat, hangs=self._hang)
        self._code = running_code.found()
        self._take(config)
        with self._logged():
            self._prepare()
        self._prepared_s = time.perf_counter() - began

    def _prepare(self) -> None:
        try:
            with _importing():
                from trainables.finetuning import FineTuning
            self._sweep.arrive()
            spec = loading.load_kept(self._sweep.spec)
            self._shown = [f"val_{name}" for name in spec.objectives]
            self._watchdog = Watchdog(spec.resources.epoch_timeout_s, beat=self._beat, hangs=self._hang)
            self._keep_every_s = spec.resources.checkpoint_every_s or math.inf
            self._prepared = FineTuning(
                spec.task(), device=self._node.device, threads=self._node.threads, prefix=spec.resources.prefix
            )
            self._prepared.between_steps = self._between_steps
            with _importing(ImportError):  # a backbone's own packages
                self._prepared.prepare()
        except (UserError, FitError) as fault:  # any other fault is this machine's: the actor dies, another one tries
            self._fault = fault

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next order. True tells Tune that the actor can be used again."""
        self._take(new_config)
        return True

    def _take(self, config: dict[str, Any]) -> None:
        self._node: Node = config["node"]
        self._order: Order = config["order"]
        self._sweep = self._node.sweep()
        self._fit = self._sweep.fit(self._order.number, self._order.seed)
        self._history: list[dict[str, Any]] = []
        self._seconds = self._shown_s = 0.0
        self._began = self._kept = time.perf_counter()  # the epoch in flight; the newest checkpoint
        self._fetched = self._aimed = False

    def step(self) -> dict[str, Any]:
        """Go on with the order. It is done when its work is, or when the sweep was asked to stop.

        Each report says which code it comes from: the driver takes none from other code than it runs itself.
        """
        if self._node.code not in (None, self._code.digest):
            return {"done": True, "epoch": 0, "other_code": json.dumps(self._code.to_json())}  # Tune would flatten it
        with self._logged():
            return self._step() | {"code": self._code.digest}

    def _logged(self) -> contextlib.AbstractContextManager[None]:
        """What is said inside is kept in the folder of the fit at hand."""
        return fit_log.kept(self._fit.path, self._fit.check)

    def _step(self) -> dict[str, Any]:
        try:
            return self._attend()
        except Fenced as fault:  # another driver holds the sweep now and repeats this order: nothing to retry here
            log.warning("%s: %s", self._order, fault)
            return {"done": True, "epoch": 0}
        except Paused as fault:  # damage, or a store that is away
            return self._stop_sweep(str(fault))

    def _attend(self) -> dict[str, Any]:
        """Work at the order. Where that fails, tell whether the settings or the machine are at fault."""
        try:
            if not self._fetched:
                self._sweep.fetch(self._order.number, self._order.seed)
                self._fetched = True
            return self._measure_held_out() if self._order.kind == "held-out" else self._train()
        except FitError as fault:
            return self._give_up(fault.reason, fault)
        except (Fenced, Paused):
            raise
        except UserError as fault:
            return self._give_up("bad-input", fault)
        except OSError as fault:  # the machine's fault, not the settings'
            fault.filename = fault.filename or str(self._fit.path)  # a failed write does not name its file
            paused = of_storage(fault)
            if paused is None:
                raise  # another process may succeed
            return self._stop_sweep(str(paused))
        except Exception as fault:
            # torch's error is known by its name, so that this module need not import torch
            memory = isinstance(fault, MemoryError) or type(fault).__name__ == "OutOfMemoryError"
            self._give_up("out-of-memory" if memory else "raised", fault)
            raise  # the fault may have damaged this process: the next order gets a fresh one

    # --- an order to train

    def _train(self) -> dict[str, Any]:
        """Train at least one epoch, and more until REPORT_EVERY_S is over or the fit is at a rung."""
        if self._fit.result() is not None:
            return {"done": True, "epoch": 0}
        if (stack := self._fit.hung()) is not None:
            self._history = self._fit.history()
            return self._hang(stack)
        tuning = self._tuning
        if not self._aimed:
            self._aim(tuning)
        until, stopped = time.perf_counter() + REPORT_EVERY_S, False
        while not tuning.done:
            self._beat(0.0)
            with contextlib.suppress(_Stopped), self._watchdog.watching(self._fit.stuck):
                self._one_epoch(tuning)
                if tuning.done:
                    self._seal(tuning)
            if stopped := not tuning.done and self._sweep.stopping:
                self._fit.unmark()
            # Where nodes share no disk, the epoch is durable only now. This time does not count as the epoch's.
            self._sweep.share(self._order.number, self._order.seed)
            if stopped or time.perf_counter() >= until or tuning.epoch in self._order.rungs:
                break
        row = self._history[-1] if self._history else {}
        if tuning.epoch not in self._order.rungs:  # where nobody is compared, the objectives are enough to look at
            row = {name: row[name] for name in self._shown if name in row}
        return row | {"done": tuning.done or stopped, "epoch": tuning.epoch}

    @property
    def _tuning(self) -> FineTuning:
        if self._fault is not None:
            raise self._fault
        return self._prepared

    def _aim(self, tuning: FineTuning) -> None:
        """Load the fit's newest checkpoint, or begin the fit."""
        from trainables.training import checkpoint

        params = dict(self._order.params)
        tuning.aim(Params.from_flat(params), self._order.seed)
        if differing := unlike(self._order.same, tuning.provenance()):
            files = tuning.changed_files(self._sweep.path / MANIFEST)
            raise Corrupt(
                f"on {socket.gethostname()} it is not what the sweep's other fits were trained on: "
                f"{'; '.join(differing)}.{f' Files: {files}.' * bool(files)} Put back what was there, and give all "
                "machines the same files, then resume; or begin another sweep."
            )
        payload = self._fit.newest_checkpoint()
        if payload is not None:
            try:
                tensors, meta = checkpoint.unpack(payload)
                migrations.check(meta.get("schema", 1), f"a checkpoint in {self._fit.path}")
                tuning.load_state(tensors, meta["state"])
                self._history, self._seconds = meta["history"], meta["seconds"]
            except (KeyError, ValueError, UserError) as fault:
                raise Corrupt(
                    f"a checkpoint in {self._fit.path} has a valid checksum and cannot be read ({fault}). It was "
                    "written by another release; delete the fit's folder to run this fit again."
                ) from fault
        fit_log.FIT.info("begins on %s (%s) after epoch %d: %s", socket.gethostname(), self._node, tuning.epoch, params)
        self._aimed = True

    def _one_epoch(self, tuning: FineTuning) -> None:
        self._began = self._kept = time.perf_counter()
        row = {"epoch": tuning.epoch + 1, **tuning.train_epoch()}
        trained = time.perf_counter()
        self._evaluation = tuning.evaluate("val")
        row["evaluate_s"] = time.perf_counter() - trained
        row |= {f"val_{name}": value for name, value in self._evaluation.values.items()}
        self._seconds += time.perf_counter() - self._began
        self._history.append(to_null(row) | {"time_ms": time.time_ns() // 1_000_000})
        fit_log.FIT.info("epoch %d: %s", tuning.epoch, _shown(row))
        if not tuning.done:
            self._keep(tuning, self._seconds)

    def _between_steps(self) -> None:
        """Keep a long epoch as far as it is, now and then. A stop of the sweep need not wait for its end then."""
        now = time.perf_counter()
        if now - self._kept > self._keep_every_s:
            self._keep(self._prepared, self._seconds + now - self._began)
            self._sweep.share(self._order.number, self._order.seed)
            self._kept = time.perf_counter()
            if self._sweep.stopping:
                raise _Stopped

    def _keep(self, tuning: FineTuning, seconds: float) -> None:
        from trainables.training import checkpoint

        tensors, state = tuning.state()
        meta = {"state": state, "history": self._history, "seconds": seconds, "schema": migrations.SCHEMA}
        self._fit.save_checkpoint(tuning.epoch, checkpoint.pack(tensors, meta), step=state.get("step", 0))

    def _seal(self, tuning: FineTuning) -> None:
        """Write the weights first, then the result, which holds their checksums."""
        self._fit.path.mkdir(parents=True, exist_ok=True)
        unsealed = self._fit.unsealed_weights
        tuning.save(unsealed)
        self._fit.keep_weights(unsealed)
        self._fit.write_result(
            self._evaluation.to_json()
            | {
                "params": dict(self._order.params),
                "history": self._history,
                "weights": self._fit.digests(),
                "provenance": tuning.provenance() | {"code": self._code.digest, "prepared_s": self._prepared_s},
                "code": self._code.to_json(),
                "seconds": self._seconds,
                "error": None,
            }
        )
        fit_log.FIT.info("ended after %.1f s", self._seconds)

    # --- an order to measure

    def _measure_held_out(self) -> dict[str, Any]:
        """Test numbers of saved weights, written where no code that chooses reads."""
        tuning = self._tuning
        tuning.aim(Params.from_flat(dict(self._order.params)), self._order.seed, trains=False)
        self._fit.check_weights()
        tuning.load_weights(self._fit.weights)
        with self._watchdog.watching(self._fit.stuck):
            evaluation = tuning.evaluate("test")
        self._sweep.keep_held_out(self._order.number, self._order.seed, evaluation.to_json())
        return {"done": True, "epoch": 0}

    # --- an order that comes to nothing

    def _give_up(self, reason: str, fault: BaseException, trace: str | None = None) -> dict[str, Any]:
        """The fit fails and is not retried: it would fail again. Its folder gets the whole trace."""
        trace = trace or "".join(traceback.format_exception(fault))
        log.warning("%s: %s", self._order, trace)
        if self._order.kind == "fit":
            error = {"reason": reason, "message": str(fault) or type(fault).__name__, "trace": trace}
            self._fit.end_without_numbers(self._order.params, history=self._history, seconds=self._seconds, error=error)
            self._sweep.share(self._order.number, self._order.seed)
        return {"done": True, "epoch": len(self._history)}

    def _stop_sweep(self, why: str) -> dict[str, Any]:
        """No fit can go on before a person mends something: the sweep pauses, and a resume goes on with this fit."""
        log.warning("%s: %s", self._order, why)
        return {"done": True, "epoch": len(self._history), "to_mend": why}

    def _hang(self, stack: str) -> dict[str, Any]:
        """An epoch took longer than it may: the fit fails and is not retried, because it would hang again."""
        if self._fit.result() is not None:
            return {"done": True, "epoch": 0}
        message = (
            f"epoch {len(self._history) + 1} took longer than resources.epoch_timeout_s allows. The trace shows where "
            "it was. If it was only slow, give later trials a larger limit: sweeper resume NAME --with FILE."
        )
        return self._give_up("timed-out", FitError("timed-out", message), trace=stack)

    def _beat(self, elapsed_s: float) -> None:
        """Note how long it is since the newest checkpoint: what an interruption now would cost."""
        if self._order.kind == "fit":
            lost_s = min(elapsed_s, time.perf_counter() - self._kept)
            self._fit.mark(len(self._history) + 1, lost_s, cpus=self._node.cpus, gpus=self._node.gpus)
            if not 0 < elapsed_s - self._shown_s < SHOWN_S:
                self._shown_s = elapsed_s
                self._sweep.share_mark(self._order.number, self._order.seed)

    # --- Tune's own checkpoints: empty, the fit's folder has everything

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing to write."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing to read."""


def _shown(row: Mapping[str, Any]) -> str:
    """The loss, and the numbers of the validation split that are over all examples."""
    names = ("train_loss", "val_accuracy", "val_delta_f1", "val_loss")
    return ", ".join(f"{name} {row[name]:.4f}" for name in names if isinstance(row.get(name), float))


@contextlib.contextmanager
def _importing(kind: type[Exception] = Exception) -> Iterator[None]:
    """What an import raises it raises again on this machine, for every fit: the sweep waits until that is mended."""
    try:
        yield
    except (UserError, FitError):
        raise
    except kind as fault:
        line = traceback.extract_tb(fault.__traceback__)[-1]
        raise Paused(
            f"a worker on {socket.gethostname()} cannot import what it runs: {type(fault).__name__}: {fault} "
            f"({line.filename}:{line.lineno}). Install there what requirements.txt pins, then resume."
        ) from fault
