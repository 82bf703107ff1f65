"""What Prometheus sees of a sweep while its trials are trained, by Ray's own metrics (`ray_` before each name).

`dashboards/grafana/sweeps.json` draws them. A thread of its own reads the study; what fails there costs a gauge,
never a trial.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Mapping

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


class Telemetry:
    """The gauges of one sweep. `ray` must be joined before the first `tell`."""

    def __init__(self, folder: SweepFolder) -> None:
        from ray.util.metrics import Gauge

        self._folder, self._spec, self._study = folder, open_spec(folder), open_study(folder)
        self._gauges = {name: Gauge(name, text, ("sweep", *tags)) for name, (text, tags) in GAUGES.items()}

    def tell(self) -> None:
        """Set every gauge to what the study says now."""
        results = Results(self._folder, self._spec, *self._study.look())
        for state, count in results.counts.items():
            self._set("sweeper_trials", count, {"state": state})
        self._set("sweeper_budget", self._spec.budget)
        self._set("sweeper_fits", sum(trial.seeds for trial in results.trials if trial.state.finished))
        self._set("sweeper_front", len(results.front))
        if results.front:
            self._set("sweeper_hypervolume", results.hypervolume)

    def _set(self, name: str, value: float, tags: Mapping[str, str] | None = None) -> None:
        self._gauges[name].set(value, {"sweep": self._spec.name, **(tags or {})})


@contextlib.contextmanager
def telling(folder: SweepFolder, *, period_s: float = PERIOD_S) -> Iterator[None]:
    """Inside, the sweep's gauges are kept up to date; at the end they are set once more."""
    over = threading.Event()

    def work() -> None:
        try:
            telemetry = Telemetry(folder)
            telemetry.tell()
            while not over.wait(period_s):
                telemetry.tell()
            telemetry.tell()
        except Exception as fault:  # a store that is away, a Ray that is gone: the sweep itself will say so
            log.warning("telemetry: %s: %s. The gauges stand still; the sweep goes on.", type(fault).__name__, fault)

    thread = threading.Thread(target=work, name="telemetry", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(10.0)
