"""The other searches. Each tries points until the budget is spent, and believes what it has measured.

Optuna's own samplers with their own defaults run here, in memory; Syne Tune and Ax in `others`, in a Python of their
own. What an arm has after a part of the budget is what it would have had with that budget: none of them asks how large
it is.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna

from benchmarks.search.shown import Shown, measured_front
from benchmarks.search.slots import Workers
from benchmarks.search.surfaces import EPOCHS, LogRange, Surface

Make = Callable[[int], optuna.samplers.BaseSampler]
SAMPLERS: dict[str, Make] = {
    "random": lambda seed: optuna.samplers.RandomSampler(seed=seed),
    "sobol": lambda seed: optuna.samplers.QMCSampler(seed=seed, scramble=True, warn_independent_sampling=False),
    "tpe": lambda seed: optuna.samplers.TPESampler(seed=seed),
    "gp": lambda seed: optuna.samplers.GPSampler(seed=seed, deterministic_objective=False),
    "nsga2": lambda seed: optuna.samplers.NSGAIISampler(seed=seed),
}


@dataclass(frozen=True)
class Tried:
    """One trial: its point, the mean of its seeds, and how many epochs all fits had had when it had ended."""

    params: dict[str, Any]
    values: tuple[float, float]
    epochs: int


def after(tried: Sequence[Tried], epochs: int) -> Shown:
    """What is shown after so many epochs."""
    known = [trial for trial in tried if trial.epochs <= epochs]
    return measured_front([trial.params for trial in known], np.array([trial.values for trial in known]), epochs)


def search(surface: Surface, sampler: str, seeds: int, fits: int, world: int, slots: int = 1) -> list[Tried]:
    """The trials of an Optuna study, each told with its mean over `seeds`; `slots` fits run at a time."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=SAMPLERS[sampler](world))
    workers, tried, waiting = Workers(slots, world), list[Tried](), list[tuple[optuna.Trial, dict[str, Any], int]]()
    asked, got, spent = 0, dict[int, list[np.ndarray]](), 0
    while True:
        while workers.free and (waiting or asked < fits // seeds):
            if not waiting:
                trial = study.ask()
                params = _point(trial, surface)
                waiting = [(trial, params, seed) for seed in range(seeds)]
                asked += 1
            workers.begin(waiting.pop(0), EPOCHS)
        if workers.idle:
            return tried
        trial, params, seed = workers.end()
        spent += EPOCHS
        mine = got.setdefault(trial.number, [])
        mine.append(surface.fit(params, seed, world))
        if len(mine) == seeds:
            values = np.mean(mine, axis=0)
            study.tell(trial, values.tolist())
            # As if the budget had ended with this trial: those begun later are no part of it.
            tried.append(Tried(params, (float(values[0]), float(values[1])), (trial.number + 1) * seeds * EPOCHS))


def _point(trial: optuna.Trial, surface: Surface) -> dict[str, Any]:
    """One box for all samplers: a lambda is drawn for each method, and dropped where it has none."""
    method = trial.suggest_categorical("method", list(surface.methods)) if len(surface.methods) > 1 else None
    drawn = {name: _draw(trial, name, axis) for name, axis in surface.axes.items()}
    method = method or surface.methods[0]
    return {"method": method} | {n: v for n, v in drawn.items() if n != "lambda" or method.startswith("fair")}


def _draw(trial: optuna.Trial, name: str, axis: LogRange) -> float:
    if axis.integer:
        return trial.suggest_int(name, int(axis.low), int(axis.high), log=True)
    return trial.suggest_float(name, axis.low, axis.high, log=True)
