"""Put this folder on PYTHONPATH and every process below writes what fits do into the file $FITS_LEDGER.

Python imports a module of this name by itself when it starts, so driver and Ray's workers need not know of it.
The lines are what `tests.faults.audit` reads: an `epoch` when an epoch begins, `done` when a result is durable. With
$FITS_STEP_S each step takes so many seconds more, and there is a `step` after each: epochs that are long, and no work.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.util
import json
import os
import sys
import time
from typing import Any

LEDGER, STEP_S = "FITS_LEDGER", "FITS_STEP_S"
current: tuple[Any, int] = (-1, -1)  # trial and seed of the fit that this process is at


def write(ev: str, trial: Any, seed: int, epoch: int, step: int = 0) -> None:
    """Append one line, whole or not at all. `step`: how many of the epoch are finished."""
    line = {"ev": ev, "trial": trial, "seed": seed, "epoch": epoch, "step": step, "pid": os.getpid(), "t": time.time()}
    handle = os.open(os.environ[LEDGER], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(handle, (json.dumps(line) + "\n").encode())
    os.close(handle)


def _tuning(module: Any) -> None:
    """`trainables.finetuning`: an epoch begins."""
    train_epoch = module.FineTuning.train_epoch

    @functools.wraps(train_epoch)
    def begun(self: Any) -> Any:
        write("epoch", *current, self.epoch + 1, self.fit.step)
        return train_epoch(self)

    module.FineTuning.train_epoch = begun


def _actor(module: Any) -> None:
    """`sweeper.engine.actor`: which fit it is, and its steps."""
    take, between_steps = module.FitActor._take, module.FitActor._between_steps

    @functools.wraps(take)
    def taken(self: Any, config: dict[str, Any]) -> None:
        global current
        first = config["bundle"].orders[0]
        current = first.number, first.seed
        take(self, config)

    @functools.wraps(between_steps)
    def stepped(self: Any) -> None:
        time.sleep(float(os.environ[STEP_S]))
        write("step", *current, self._prepared.epoch + 1, self._prepared.fit.step)
        between_steps(self)

    module.FitActor._take = taken
    if STEP_S in os.environ:
        module.FitActor._between_steps = stepped


def _fitfolder(module: Any) -> None:
    """`sweeper.state.fit_folder`: a result is durable."""
    write_result = module.FitFolder.write_result

    @functools.wraps(write_result)
    def sealed(self: Any, body: dict[str, Any]) -> None:
        write_result(self, body)
        write("done", int(self.path.parent.name), int(self.path.name), len(body["history"]))

    module.FitFolder.write_result = sealed


_HOOKS = {"trainables.finetuning": _tuning, "sweeper.engine.actor": _actor, "sweeper.state.fit_folder": _fitfolder}


class _Watch(importlib.abc.MetaPathFinder):
    """Lets the module be found as ever, and changes it once it is loaded."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name not in _HOOKS or LEDGER not in os.environ:
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        loader: Any = spec.loader if spec else None
        execute = loader.exec_module

        def executed(module: Any) -> None:
            execute(module)
            _HOOKS[name](module)

        loader.exec_module = executed
        return spec


sys.meta_path.insert(0, _Watch())
