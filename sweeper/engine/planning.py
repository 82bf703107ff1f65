"""What a spec would do on the machine at hand: trials, waves, and time from a measured epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sweeper.engine import machines
from sweeper.spec.dimensions import Choice, Fixed, Range
from sweeper.spec.model import SweepSpec
from trainables.params import Params


@dataclass(frozen=True)
class Plan:
    """Counts and times; seconds are measured for an epoch and estimated for the sweep."""

    name: str
    trials: int
    seeds: int
    slots: int
    device: str
    epochs: float
    epoch_s: Mapping[str, float]
    prepare_s: float
    total_s: float
    stops_early: bool = False

    @property
    def fits(self) -> int:
        """One fit for each trial and seed."""
        return self.trials * self.seeds

    @property
    def waves(self) -> int:
        """How often all slots are filled."""
        return math.ceil(self.fits / self.slots)

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return vars(self) | {"fits": self.fits, "waves": self.waves}

    def __str__(self) -> str:
        epochs = ", ".join(f"{method} {seconds:.2f} s" for method, seconds in self.epoch_s.items())
        bound = "at most" if self.stops_early else "about"
        return (
            f"{self.name}: {self.trials} trials x {self.seeds} seeds = {self.fits} fits, {self.slots} at once on "
            f"{self.device}: {self.waves} waves\n"
            f"one epoch, measured here: {epochs}; about {self.epochs:g} epochs a fit\n"
            f"{bound} {_minutes(self.total_s)} in all, and {self.prepare_s:.0f} s to prepare each worker once"
        )


def plan(spec: SweepSpec) -> Plan:
    """Ask Ray what there is, train one epoch of each method, and do the sum."""
    with machines.ready(spec.resources) as slots:
        pass  # the epochs below are measured without Ray
    began = time.perf_counter()
    from trainables.finetuning import FineTuning

    tuning = FineTuning(spec.task(), device=slots.device, threads=slots.threads)
    tuning.prepare()
    prepare_s = time.perf_counter() - began
    epoch_s = {method: _measure(tuning, spec, method) for method in _methods(spec)}
    lengths = [_typical(spec.space.axes[spec.space.labels(method)["epochs"]]) for method in spec.space.methods]
    epochs = sum(lengths) / len(lengths)
    seeds = len(spec.search.seed_list)
    mean_epoch = sum(epoch_s.values()) / len(epoch_s)
    total = math.ceil(spec.budget * seeds / slots.count) * epochs * mean_epoch + prepare_s
    early = spec.search.stopping is not None
    return Plan(spec.name, spec.budget, seeds, slots.count, slots.device, epochs, epoch_s, prepare_s, total, early)


def _methods(spec: SweepSpec) -> list[str]:
    return list(dict.fromkeys([*spec.space.methods, *spec.search.baselines]))


def _measure(tuning: Any, spec: SweepSpec, method: str) -> float:
    """Seconds of the second epoch: the first also pays for what is done once."""
    params = Params.from_flat(spec.space.baseline(method) | {"epochs": 2})
    tuning.aim(params, seed=0)
    tuning.train_epoch()
    began = time.perf_counter()
    tuning.train_epoch()
    tuning.evaluate("val")
    return time.perf_counter() - began


def _typical(dimension: Fixed | Choice | Range) -> float:
    """The middle of what may be drawn."""
    match dimension:
        case Fixed(value):
            return float(value)
        case Choice(values):
            return float(sum(values)) / len(values)
        case Range(low, high, log=True):
            return math.sqrt(low * high)
        case Range(low, high):
            return (low + high) / 2


def _minutes(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds > 5400 else f"{seconds / 60:.1f} minutes"
