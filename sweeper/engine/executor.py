"""Who runs the orders of a queue: Ray Tune, as an executor that can be thrown away at any instant.

An executor is a context: inside it, machines are ready, and what it gives runs a queue until it is exhausted.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from sweeper.engine import machines, telemetry
from sweeper.engine.queue import FitQueue
from sweeper.spec.sections import Resources
from sweeper.state.sweep_folder import SweepFolder

log = logging.getLogger(__name__)

Execute = Callable[[FitQueue, SweepFolder], None]
Executor = Callable[[Resources], AbstractContextManager[Execute]]


@contextlib.contextmanager
def ray_tune(resources: Resources) -> Iterator[Execute]:
    """Ray, joined or started (then it ends with the context), and what runs a queue on it.

    Raises:
        UserError: one fit asks for more than the whole cluster has.
    """
    own = machines.start()
    try:
        slots = machines.slots(resources)
        yield lambda queue, folder: _run(queue, folder, resources, slots)
    finally:
        if own:
            machines.stop()


def _run(queue: FitQueue, folder: SweepFolder, resources: Resources, slots: machines.Slots) -> None:
    """Let Ray Tune run orders until the queue is exhausted. Its attempt is scratch, its result not read."""
    from ray import tune
    from ray.tune import CheckpointConfig, FailureConfig, RunConfig, TuneConfig, Tuner

    from sweeper.engine.actor import FitActor
    from sweeper.engine.raywatch import RayLost, RayWatch
    from sweeper.engine.stopping import Stopping
    from sweeper.engine.tune import FitSearcher

    shared: dict[str, Any] = {
        "folder": str(folder.path),
        "token": folder.token,
        "store": folder.store,
        "device": slots.device,
        "threads": slots.threads,
    }
    shared |= {"cpus": slots.cpus, "gpus": slots.gpus}
    ahead = 1 if slots.count > 1 and slots.bound_by_resources else 0
    searcher = FitSearcher(queue, shared, limit=slots.count, ahead=ahead)
    tuner = Tuner(
        tune.with_resources(FitActor, {"cpu": slots.cpus, "gpu": slots.gpus}),
        tune_config=TuneConfig(search_alg=searcher, scheduler=Stopping(searcher), num_samples=-1, reuse_actors=True),
        run_config=RunConfig(
            name="tune",
            storage_path=str(folder.attempt),
            verbose=0,
            callbacks=[RayWatch.here()],
            checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
            failure_config=FailureConfig(max_failures=0),  # the queue retries: Tune does not, of an actor that starts
        ),
    )
    logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)  # a trial of Tune that died is not one of the sweep
    try:
        with telemetry.telling(folder):
            tuner.fit()
    except RayLost as fault:  # the attempt is over, short of its budget; what was durable is there for the next one
        log.warning("%s. Nothing that was finished is lost.", fault)
    if searcher.fault is not None:
        raise searcher.fault
