"""Where fits are trained: a Ray actor around `trainables.FineTuning` that carries out one bundle after the other.

Imports, backbone and data are paid for once per actor; `reset_config` gives it the next bundle. Every epoch is durable
before it is reported, so an actor may die at any instant.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune

from sweeper import running_code
from sweeper.engine.order import Bundle, Node
from sweeper.engine.packs import gain
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


class _HandedBack(Exception):
    """Fits cannot be trained together so, and none of them is at fault. `why` is `too_many` or `unpackable`."""

    def __init__(self, why: str, fault: Exception) -> None:
        super().__init__(str(fault) or type(fault).__name__)
        self.why = why


class FitActor(tune.Trainable):
    """Trains fits: one bundle of them at a time. Tune sees the progress; the fits' folders hold the facts."""

    def setup(self, config: dict[str, Any]) -> None:
        """Called once per actor. A fault here is kept, and each order of this actor fails with it."""
        began = time.perf_counter()
        self._fault: BaseException | None = None
        self._watchdog = Watchdog(None, beat=self._beat, hangs=self._hang)
        self._code = running_code.found()
        self._take(config)
        self._others: list[FineTuning] = []  # for the fits that are trained together with the first
        with self._logged(*self._members):
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
        self._gain: str | None = None
        self._trains: Callable[[], list[dict[str, float] | FitError]] | None = None

    @property
    def _together(self) -> bool:
        """Whether there are several fits."""
        return len(self._members) > 1

    def step(self) -> dict[str, Any]:
        """Go on with the bundle. It is done when an order of it is, or when the sweep was asked to stop.

        Each report says which code it comes from: the driver takes none from other code than it runs itself.
        """
        if self._node.code not in (None, self._code.digest):
            return {"done": True, "epoch": 0, "other_code": json.dumps(self._code.to_json())}  # Tune would flatten it
        with self._logged(*() if self._together else self._members):
            return self._step() | {"code": self._code.digest}

    @contextlib.contextmanager
    def _logged(self, *members: Member) -> Iterator[None]:
        """What is said inside is kept in the folders of their fits."""
        with contextlib.ExitStack() as logs:
            for member in members:
                logs.enter_context(fit_log.kept(member.fit.path, member.fit.check))
            yield

    def _step(self) -> dict[str, Any]:
        try:
            return self._train()
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
        except _HandedBack as back:
            self._others.clear()
            return {"done": True, "epoch": 0, back.why: str(back)}

    def _stop_sweep(self, why: Paused) -> dict[str, Any]:
        log.warning("%s: %s", self._bundle, why)
        return {"done": True, "epoch": 0, "to_mend": str(why)}

    @contextlib.contextmanager
    def _judging(self, *whose: Member) -> Iterator[None]:
        """Where the work inside fails, tell whether the settings or the machine are at fault.

        What several fits do together is no fit's own fault, and memory that they do not find together none of a fit.
        """
        with self._logged(*whose if self._together else ()):
            try:
                yield
            except (Fenced, Paused, OSError, _Stopped):
                raise
            except Exception as fault:
                if self._together and (why := _not_together(fault)):
                    raise _HandedBack(why, fault) from fault
                if len(whose) > 1:
                    raise  # each gets an actor of its own now, which will tell whose it is
                whose[0].give_up(_reason(fault), fault)
                if not isinstance(fault, FitError | UserError):
                    raise  # the fault may have damaged this process: the next order gets a fresh one

    # --- orders to train

    def _train(self) -> dict[str, Any]:
        """Train at least one epoch, and more until REPORT_EVERY_S is over or a fit is at a rung.

        A bundle ends with the first of its fits: the others, whose epoch is kept, go on in other bundles.
        """
        if self._trains is None:
            self._trains = self._begin()
        members, until, stopped = self._members, time.perf_counter() + REPORT_EVERY_S, False
        while not (ended := any(member.over for member in members)) and not stopped:
            self._beat(0.0)
            with contextlib.suppress(_Stopped), self._watchdog.watching(self._stuck, times=len(members)):
                self._one_epoch(self._trains)
            ended = any(member.over for member in members)
            stopped = not ended and self._sweep.stopping
            for member in members:
                if (ended or stopped) and not member.over:
                    member.fit.unmark()
                member.share()  # this time does not count as the epoch's
            if any(member.at_rung for member in members) or time.perf_counter() >= until:
                break
        told = [member.report(self._shown) for member in members]
        row = {"epoch": told[0]["epoch"], "members": json.dumps(told)} if self._together else told[0]
        return row | {"done": ended or stopped} | ({"gain": self._gain} if self._gain else {})

    def _begin(self) -> Callable[[], list[dict[str, float] | FitError]]:
        """Aim at the fits' newest checkpoints. What is given back trains an epoch of each."""
        del self._others[len(self._members) - 1 :]  # their memory
        for member in self._members:
            with self._judging(member):
                member.fetch()
                if member.order.kind == "held-out":
                    self._measure_held_out(member)
                elif member.order.kind == "gain":
                    self._measure_gain(member)
                elif not member.ended_before():
                    member.aim(self._tuning(member))
        if any(member.over for member in self._members):
            return list
        tunings = [member.tuning for member in self._members]
        if not self._together:
            return lambda: [tunings[0].train_epoch()]
        with self._judging(*self._members):
            from trainables.packing import Pack

            pack = Pack(tunings)
        return lambda: pack.train_epoch(self._between_steps)

    def _tuning(self, member: Member) -> FineTuning:
        if self._fault is not None:
            raise self._fault
        place = self._members.index(member)
        if place > len(self._others):
            self._others.append(self._prepared.another())
        return self._others[place - 1] if place else self._prepared

    def _one_epoch(self, trains: Callable[[], list[dict[str, float] | FitError]]) -> None:
        members, began = self._members, time.perf_counter()
        told: list[dict[str, float] | FitError] = []
        for member in members:
            member.begin_epoch()
        with self._judging(*members):
            told = trains()
        own_s = (time.perf_counter() - began) / len(members)
        for member, logs in zip(members, told, strict=False):  # none, where a single fit failed
            with self._judging(member):
                if isinstance(logs, FitError):
                    raise logs
                member.end_epoch(logs, own_s)
                if member.tuning.done:
                    member.seal(self._code, self._prepared_s)

    def _between_steps(self) -> None:
        """Keep a long epoch as far as it is, now and then. A stop of the sweep need not wait for its end then."""
        kept = [member.keep_within(self._keep_every_s) for member in self._members]
        if any(kept) and self._sweep.stopping:
            raise _Stopped

    # --- orders to measure

    def _measure_held_out(self, member: Member) -> None:
        """Test numbers of saved weights, written where no code that chooses reads."""
        tuning, order = self._tuning(member), member.order
        tuning.aim(Params.from_flat(dict(order.params)), order.seed, trains=False)
        member.fit.check_weights()
        tuning.load_weights(member.fit.weights)
        with self._watchdog.watching(self._stuck):
            evaluation = tuning.evaluate("test")
        self._sweep.keep_held_out(order.number, order.seed, evaluation.to_json())
        member.over = True

    def _measure_gain(self, member: Member) -> None:
        """What packs of fits like this one gain on this machine. Nothing is trained that is kept."""
        with self._watchdog.watching(self._stuck):
            found = gain.measured(self._tuning(member), Params.from_flat(dict(member.order.params)))
        self._gain = json.dumps(found.to_json())  # Tune would flatten it
        member.over = True

    # --- what the watchdog calls, from its thread

    @property
    def _stuck(self) -> Path:
        """Where the stack of a hang is written; the next actor reads the one in a fit's own folder."""
        in_common = self._sweep.attempt / f"stuck-{os.getpid()}.txt"
        own = not self._together and self._members[0].order.kind != "gain"
        return self._members[0].fit.stuck if own else in_common

    def _hang(self, stack: str) -> None:
        """Of several fits the one that hangs is found when each is trained alone."""
        if self._together:
            log.warning("an epoch of %s hangs:\n%s", self._bundle, stack)
        else:
            self._members[0].hang(stack)

    def _beat(self, elapsed_s: float) -> None:
        for member in self._members:
            member.beat(elapsed_s)

    # --- Tune's own checkpoints: empty, the fit's folder has everything

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing to write."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing to read."""


def _reason(fault: Exception) -> str:
    if isinstance(fault, FitError):
        return fault.reason
    # torch's error is known by its name, so that this module need not import torch
    memory = isinstance(fault, MemoryError) or type(fault).__name__ == "OutOfMemoryError"
    return "bad-input" if isinstance(fault, UserError) else "out-of-memory" if memory else "raised"


def _not_together(fault: Exception) -> str | None:
    """Why fits cannot be trained together, if `fault` says that."""
    if type(fault).__name__ == "Unpackable":  # of a module that imports torch
        return "unpackable"
    return "too_many" if _reason(fault) == "out-of-memory" else None


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
