"""Syne Tune's MOASHA and Ax's qLogNEHVI on the same surfaces, from their own packages, in a Python of their own.

    python -m venv /tmp/others && /tmp/others/bin/pip install ax-platform==1.3.1 syne-tune==0.16.0
    PYTHONPATH=. /tmp/others/bin/python -m benchmarks.search.others ax-1 convex --world 0 --slots 4 --fits 96

prints one JSON object: for each share of the budget what was tried, and the rows of it that are shown as the front.
The product needs neither package, so they are no dependencies of it. Ax is used as its `Client` comes (Sobol first,
then qLogNEHVI), and shows its own predicted Pareto frontier; it is told the standard error where there are three seeds.
MOASHA draws by chance, stops after epochs 1 and 3 (grace period 1, reduction factor 3), and shows the front of what was
trained to the end. Its own priority is mended here: in 0.16.0 `NonDominatedPriority` gives the sorted order of the
trials where their ranks are asked for, so that who goes on is arbitrary, and soon nobody does.
"""

from __future__ import annotations

import argparse
import json
import logging
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.search.slots import Workers
from benchmarks.search.surfaces import EPOCHS, OBJECTIVES, SIGNS, Surface, front, surfaces

Seen = list[dict[str, Any]]


def moasha(surface: Surface, fits: int, world: int, slots: int, shares: list[float]) -> Seen:
    """Synchronous it is not: a worker that is free starts a new configuration."""
    from datetime import datetime

    from syne_tune import config_space as cs
    from syne_tune.backend.trial_status import Trial
    from syne_tune.optimizer.scheduler import SchedulerDecision
    from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA
    from syne_tune.optimizer.schedulers.multiobjective.multiobjective_priority import NonDominatedPriority

    class Ranks(NonDominatedPriority):
        def priority_unsafe(self, objectives: np.ndarray) -> np.ndarray:
            return np.argsort(super().priority_unsafe(objectives))

    np.random.seed(world)
    space: dict[str, Any] = {
        name: cs.lograndint(int(axis.low), int(axis.high)) if axis.integer else cs.loguniform(axis.low, axis.high)
        for name, axis in surface.axes.items()
    }
    space["method"] = cs.choice(list(surface.methods))
    names = [f"cost_{name}" for name in OBJECTIVES]
    rungs = {"max_t": EPOCHS, "grace_period": 1, "reduction_factor": 3}
    scheduler = MOASHA(space, names, time_attr="epoch", multiobjective_priority=Ranks(), random_seed=world, **rungs)
    workers, spent, begun = Workers(slots, world), 0, 0
    whole, seen = list[tuple[dict[str, Any], np.ndarray]](), Seen()
    marks = [round(fits * share) * EPOCHS for share in shares]
    while spent < marks[-1]:
        while workers.free:
            config = scheduler.suggest().config
            trial = Trial(begun, config, datetime(2020, 1, 1))
            scheduler.on_trial_add(trial)
            workers.begin((trial, 1))
            begun += 1
        trial, epoch = workers.end()
        spent += 1
        params = _params(trial.config)
        values = surface.curve(params, 0, world)[epoch - 1]
        result = {"epoch": epoch} | dict(zip(names, (-SIGNS * values).tolist(), strict=True))
        if epoch == EPOCHS:
            scheduler.on_trial_complete(trial, result)
            whole.append((params, values))
        elif scheduler.on_trial_result(trial, result) == SchedulerDecision.CONTINUE:
            workers.begin((trial, epoch + 1))
        if spent in marks:
            points = np.array([value for _, value in whole]).reshape(-1, 2) * SIGNS
            best = front(points).tolist() if whole else []
            rows = [row for row, point in enumerate(points.tolist()) if point in best]
            seen.append({"tried": [params for params, _ in whole], "front": rows, "epochs": spent})
    return seen


def ax(surface: Surface, seeds: int, fits: int, world: int, slots: int, shares: list[float]) -> Seen:
    """Each trial's mean over `seeds`, with its standard error where there is one."""
    import torch
    from ax.api.client import Client
    from ax.api.configs import ChoiceParameterConfig, RangeParameterConfig

    torch.set_num_threads(1)
    torch.manual_seed(world)
    client = Client(random_seed=world)
    parameters: list[Any] = [
        RangeParameterConfig(
            name=name,
            bounds=(axis.low, axis.high),
            parameter_type="int" if axis.integer else "float",
            scaling="log",
        )
        for name, axis in surface.axes.items()
    ]
    if len(surface.methods) > 1:
        methods = list(surface.methods)
        parameters.append(ChoiceParameterConfig(name="method", values=methods, parameter_type="str", is_ordered=False))
    client.configure_experiment(parameters=parameters)
    client.configure_optimization(objective="accuracy, -delta_f1")
    client.configure_generation_strategy(method="fast", initialization_random_seed=world)
    workers, waiting, began = Workers(slots, world), list[tuple[int, dict[str, Any], int]](), dict[int, int]()
    got, tried, seen = dict[int, list[np.ndarray]](), dict[int, dict[str, Any]](), Seen()
    marks = [round(fits * share) // seeds for share in shares]
    while True:
        while workers.free and (waiting or len(began) < marks[-1]):
            if not waiting:
                new = client.get_next_trials(max_trials=1)
                if not new:  # it waits for results first
                    break
                ((index, config),) = new.items()
                params = _params({"method": surface.methods[0], **config})
                began[index] = len(began)
                waiting = [(index, params, seed) for seed in range(seeds)]
            workers.begin(waiting.pop(0), EPOCHS)
        index, params, seed = workers.end()
        mine = got.setdefault(index, [])
        mine.append(surface.fit(params, seed, world))
        if len(mine) == seeds:
            mean, error = np.mean(mine, axis=0), np.std(mine, axis=0, ddof=1) / seeds**0.5 if seeds > 1 else None
            data = {
                name: (float(mean[m]), float(error[m])) if error is not None else float(mean[m])
                for m, name in enumerate(OBJECTIVES)
            }
            client.complete_trial(trial_index=index, raw_data=data)
            tried[index] = params
            if len(tried) in marks:
                rows = list(tried)
                shown = {number for _, _, number, _ in client.get_pareto_frontier()}
                shown &= set(rows)
                front_rows = [rows.index(number) for number in sorted(shown)]
                seen.append(
                    {"tried": [tried[n] for n in rows], "front": front_rows, "epochs": len(tried) * seeds * EPOCHS}
                )
                if len(tried) == marks[-1]:
                    return seen


def _params(config: dict[str, Any]) -> dict[str, Any]:
    method = config["method"]
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in config.items()}
    return {name: value for name, value in plain.items() if name != "lambda" or method.startswith("fair")}


ARMS: dict[str, Callable[..., Seen]] = {
    "moasha-1": moasha,
    "ax-1": lambda surface, *rest: ax(surface, 1, *rest),
    "ax-3": lambda surface, *rest: ax(surface, 3, *rest),
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arm", choices=ARMS)
    parser.add_argument("surface", choices=surfaces())
    parser.add_argument("--world", type=int, default=0)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--fits", type=int, default=96)
    parser.add_argument("--shares", type=float, nargs="+", default=[1 / 8, 1 / 4, 1 / 3, 1 / 2, 1.0])
    asked = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    found = ARMS[asked.arm](surfaces()[asked.surface](), asked.fits, asked.world, asked.slots, asked.shares)
    print(json.dumps(found))
