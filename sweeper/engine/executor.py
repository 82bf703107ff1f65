"""Who carries out a queue's orders: Ray Tune, as something that can be thrown away at any instant.

An executor is a context. Inside it machines are ready, and what it yields runs a queue until no order is left.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from sweeper.engine import machines
from sweeper.engine.queue import FitQueue
from sweeper.spec.sections import Resources
from sweeper.state.sweep_folder import SweepFolder

Execute = Callable[[FitQueue, SweepFolder], None]
Executor = Callable[[Resources], AbstractContextManager[Execute]]


@contextlib.contextmanager
def ray_tune(resources: Resources) -> Iterator[Execute]:
    """Ray, joined or started (then it ends with the context), and what runs a queue on it.

    Raises:
        UserError: one fit asks for more than any machine of the cluster has.
    """
    with machines.ready(resources) as slots:
        from sweeper.engine import tune  # imports Ray, which reads its settings then: `machines` has made them

        yield lambda queue, folder: tune.run(queue, folder, slots)
