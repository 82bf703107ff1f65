"""What Prometheus sees of a sweep while its trials are trained, by Ray's own metrics (`ray_` before each name).

`dashboards/grafana/sweeps.json` draws them. A thread of its own reads the study; what fails there costs a gauge,
never a trial.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator

from sweeper.results.results import Results
from sweeper.state.opening import open_spec, open_study
from sweeper.state.sweep_folder import SweepFolder

log = logging.getLogger(__name__)

PERIOD_S = 15.0
GAUGES = {  # name: what it is, and its tags beside the sweep's name
    "sweeper_trials": ("trials of the sweep by state", ("state",)),
    "sweeper_budget": ("trials that the sweep may have", ()),
    "sweeper_fits": ("fits of trials that have ended; only grows", ()),
    "sweeper_front": ("members of the Pareto front", ()),
    "sweeper_hypervolume": ("hypervolume of the front, against the sweep's reference point", ()),
}


@contextlib.contextmanager
def telling(folder: SweepFolder, *, period_s: float = PERIOD_S) -> Iterator[None]:
    """Inside, the sweep's gauges are kept up to date; at the end they are set once more. Ray must be joined."""
    over = threading.Event()

    def work() -> None:
        from ray.util.metrics import Gauge

        try:
            spec, study = open_spec(folder), open_study(folder)
            gauges = {name: Gauge(name, text, ("sweep", *tags)) for name, (text, tags) in GAUGES.items()}
            last = False
            while not last:
                last = over.is_set()
                for name, value, tags in _readings(Results.now(folder, spec, study)):
                    gauges[name].set(value, {"sweep": spec.name, **tags})
                over.wait(period_s)
        except Exception as fault:  # a store that is away, a Ray that is gone: the sweep itself will say so
            log.warning("telemetry: %s: %s. The gauges stand still; the sweep goes on.", type(fault).__name__, fault)

    thread = threading.Thread(target=work, name="telemetry", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(10.0)


def _readings(results: Results) -> Iterator[tuple[str, float, dict[str, str]]]:
    """Each gauge's name, value and tags."""
    for state, count in results.counts.items():
        yield "sweeper_trials", count, {"state": state}
    yield "sweeper_budget", results.budget, {}
    yield "sweeper_fits", sum(trial.seeds for trial in results.trials if trial.state.finished), {}
    yield "sweeper_front", len(results.front), {}
    if results.front:
        yield "sweeper_hypervolume", results.hypervolume, {}
