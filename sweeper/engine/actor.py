"""Where fits are trained: a Ray actor around `trainables.FineTuning` that carries out one bundle after the other.

Imports, backbone and data are paid for once per actor; `reset_config` gives it the next bundle. Every epoch is durable
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
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ray import tune

from sweeper import running_code
from sweeper.engine.order import Bundle, Node
from sweeper.engine.packs.member import Member
from sweeper.engine.watchdog import Watchdog
from sweeper.errors import Paused, of_storage
from sweeper.results import fit_log
from sweeper.spec import loading
from sweeper.state.sweep_folder import Fenced
from trainables.errors import FitError, UserError
from trainables.params import Params

if TYPE_CHECKING:  # torch stays out of the driver, which imports this class only to hand it to Tune
    from trainables.finetuning import FineTuning

log = logging.getLogger(__name__)
REPORT_EVERY_S = 1.0


class _Stopped(Exception):
    """The sweep was asked to stop, and the epoch in flight is kept as far as it is."""


class FitActor(tune.Trainable):
    """Trains fits: one bundle of them at a time. Tune sees the progress; the fits' folders hold the facts."""

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
        """Take the next bundle. True tells Tune that the actor can be used again."""
        self._take(new_config)
        return True

    def _take(self, config: dict[str, Any]) -> None:
        self._node: Node = config["node"]
        self._bundle: Bundle = config["bundle"]
        self._sweep = self._node.sweep()
        self._members = [Member(self._node, order, self._bundle) for order in self._bundle]
        self._aimed = False

    def step(self) -> dict[str, Any]:
        """Go on with the bundle. It is done when an order of it is, or when the sweep was asked to stop.

        Each report says which code it comes from: the driver takes none from other code than it runs itself.
        """
        if self._node.code not in (None, self._code.digest):
            return {"done": True, "epoch": 0, "other_code": json.dumps(self._code.to_json())}  # Tune would flatten it
        with self._logged():
            return self._step() | {"code": self._code.digest}

    def _logged(self) -> contextlib.AbstractContextManager[None]:
        """What is said inside is kept in the folder of the fit at hand."""
        (member,) = self._members
        return fit_log.kept(member.fit.path, member.fit.check)

    def _step(self) -> dict[str, Any]:
        try:
            return self._attend()
        except Fenced as fault:  # another driver holds the sweep now and repeats this order: nothing to retry here
            log.warning("%s: %s", self._bundle, fault)
            return {"done": True, "epoch": 0}
        except Paused as fault:  # damage, or a store that is away: a person must mend it, and a resume goes on
            return self._stop_sweep(fault)
        except OSError as fault:  # the machine's fault, not the settings'
            fault.filename = fault.filename or str(self._members[0].fit.path)  # a failed write does not name its file
            paused = of_storage(fault)
            if paused is None:
                raise  # another process may succeed
            return self._stop_sweep(paused)

    def _stop_sweep(self, why: Paused) -> dict[str, Any]:
        log.warning("%s: %s", self._bundle, why)
        return {"done": True, "epoch": 0, "to_mend": str(why)}

    def _attend(self) -> dict[str, Any]:
        if not self._aimed:
            for member in self._members:
                with self._judging(member):
                    self._begin(member)
            self._aimed = True
        return self._train()

    @contextlib.contextmanager
    def _judging(self, member: Member) -> Iterator[None]:
        """Where the work inside fails, tell whether the settings or the machine are at fault."""
        try:
            yield
        except FitError as fault:
            member.give_up(fault.reason, fault)
        except (Fenced, Paused, OSError, _Stopped):
            raise
        except UserError as fault:
            member.give_up("bad-input", fault)
        except Exception as fault:
            # torch's error is known by its name, so that this module need not import torch
            memory = isinstance(fault, MemoryError) or type(fault).__name__ == "OutOfMemoryError"
            member.give_up("out-of-memory" if memory else "raised", fault)
            raise  # the fault may have damaged this process: the next order gets a fresh one

    def _begin(self, member: Member) -> None:
        """Aim at a fit's newest checkpoint, if it is to be trained; measure one that is trained."""
        member.fetch()
        if member.order.kind == "held-out":
            self._measure_held_out(member)
        elif not member.ended_before():
            member.aim(self._tuning)

    # --- orders to train

    def _train(self) -> dict[str, Any]:
        """Train at least one epoch, and more until REPORT_EVERY_S is over or a fit is at a rung."""
        until, stopped = time.perf_counter() + REPORT_EVERY_S, False
        while not any(member.over for member in self._members):
            self._beat(0.0)
            with contextlib.suppress(_Stopped), self._watchdog.watching(self._members[0].fit.stuck):
                self._one_epoch()
            ended = any(member.over for member in self._members)
            if stopped := not ended and self._sweep.stopping:
                for member in self._members:
                    member.fit.unmark()
            for member in self._members:
                member.share()  # this time does not count as the epoch's
            rung = any(member.at_rung for member in self._members)
            if stopped or rung or time.perf_counter() >= until:
                break
        (member,) = self._members
        return member.report(self._shown) | {"done": stopped or member.over}

    @property
    def _tuning(self) -> FineTuning:
        if self._fault is not None:
            raise self._fault
        return self._prepared

    def _one_epoch(self) -> None:
        (member,) = self._members
        with self._judging(member):
            member.begin_epoch()
            began = time.perf_counter()
            logs = member.tuning.train_epoch()
            member.end_epoch(logs, time.perf_counter() - began)
            if member.tuning.done:
                member.seal(self._code, self._prepared_s)

    def _between_steps(self) -> None:
        """Keep a long epoch as far as it is, now and then. A stop of the sweep need not wait for its end then."""
        kept = [member.keep_within(self._keep_every_s) for member in self._members]
        if any(kept) and self._sweep.stopping:
            raise _Stopped

    # --- an order to measure

    def _measure_held_out(self, member: Member) -> None:
        """Test numbers of saved weights, written where no code that chooses reads."""
        tuning, order = self._tuning, member.order
        tuning.aim(Params.from_flat(dict(order.params)), order.seed, trains=False)
        member.fit.check_weights()
        tuning.load_weights(member.fit.weights)
        with self._watchdog.watching(member.fit.stuck):
            evaluation = tuning.evaluate("test")
        self._sweep.keep_held_out(order.number, order.seed, evaluation.to_json())
        member.over = True

    # --- what the watchdog calls, from its thread

    def _hang(self, stack: str) -> None:
        (member,) = self._members
        member.hang(stack)

    def _beat(self, elapsed_s: float) -> None:
        for member in self._members:
            member.beat(elapsed_s)

    # --- Tune's own checkpoints: empty, the fit's folder has everything

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing to write."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing to read."""


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
