"""Before a sweep begins: what its spec would do on the machines at hand, and how long, from a measured epoch."""

from __future__ import annotations

import math
import statistics
import textwrap
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweeper.engine import machines
from sweeper.results.summary import duration
from sweeper.spec.dimensions import Choice, Fixed, Range
from sweeper.spec.model import SweepSpec
from trainables.params import Params

if TYPE_CHECKING:  # torch takes seconds to import
    from trainables.finetuning import FineTuning


@dataclass(frozen=True)
class Plan:
    """Counts and times. The seconds of an epoch, by method, and of preparing a worker are measured."""

    name: str
    trials: int
    baselines: Mapping[str, int]
    seeds: int
    slots: int
    device: str
    methods: tuple[str, ...]
    epochs: float
    epoch_s: Mapping[str, float]
    prepare_s: float
    stops_early: bool
    notes: tuple[str, ...] = ()
    most_fits: int | None = None  # where that is not one for each trial and seed

    @property
    def fits(self) -> int:
        """One fit for each trial and seed; where seeds are raced, or fits are bounded, what there may be at most."""
        return self.most_fits or self.trials * self.seeds

    @property
    def waves(self) -> int:
        """How often all slots are filled."""
        return math.ceil(self.fits / self.slots)

    @property
    def total_s(self) -> float:
        """Of the whole sweep, estimated.

        Beside the baselines the methods that are searched come equally often, and nothing is stopped early.
        """
        searched = (self.trials - sum(self.baselines.values())) / len(self.methods)
        shares = {name: searched * (name in self.methods) + self.baselines.get(name, 0) for name in self.epoch_s}
        epoch_s = sum(share * self.epoch_s[name] for name, share in shares.items()) / self.trials
        return self.waves * self.epochs * epoch_s + self.prepare_s

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return vars(self) | {"fits": self.fits, "waves": self.waves, "total_s": self.total_s}

    def __str__(self) -> str:
        epochs = ", ".join(f"{method} {seconds:.2f} s" for method, seconds in self.epoch_s.items())
        bound = "at most" if self.stops_early else "about"
        each = f"{self.seeds} seeds =" if self.most_fits is None else f"{self.seeds} seeds or more, at most"
        first = ", ".join(f"{name} {count}" for name, count in self.baselines.items())
        lines = (
            f"{self.name}: {self.trials} trials{f' (baselines: {first})' if first else ''} x {each} "
            f"{self.fits} fits, {self.slots} at once on {self.device}: {self.waves} waves\n"
            f"one epoch, measured here: {epochs}; about {self.epochs:g} epochs a fit\n"
            f"{bound} {duration(self.total_s)} in all, and {self.prepare_s:.0f} s to prepare each worker once"
            + "".join(f"\nnote: {note}" for note in self.notes)
        ).splitlines()
        return "\n".join(textwrap.fill(line, 80, subsequent_indent="  ", break_long_words=False) for line in lines)


def plan(spec: SweepSpec) -> Plan:
    """Ask Ray what there is, and train an epoch of each method."""
    with machines.ready(spec.resources) as slots:
        pass  # the epochs below are measured without Ray
    began = time.perf_counter()
    from trainables.data.report import leak_note
    from trainables.finetuning import FineTuning

    tuning = FineTuning(spec.task(), device=slots.device, threads=slots.threads)
    tuning.prepare()
    prepare_s = time.perf_counter() - began
    methods = dict.fromkeys([*spec.space.methods, *spec.search.baselines])
    return Plan(
        name=spec.name,
        trials=spec.budget,
        baselines=Counter(spec.search.baseline_list),
        methods=spec.space.methods,
        seeds=len(spec.search.seed_list),
        slots=slots.count,
        device=slots.device,
        epochs=epochs_a_fit(spec),
        epoch_s={method: _epoch_s(tuning, spec, method) for method in methods},
        prepare_s=prepare_s,
        stops_early=spec.search.stopping is not None or spec.search.open_ended,
        most_fits=_most_fits(spec) if spec.search.open_ended else None,
        notes=tuple(filter(None, [leak_note(tuning.dataset)])),
    )


def epochs_a_fit(spec: SweepSpec) -> float:
    """How many epochs a fit has, if the space is drawn from evenly."""
    axes, methods = spec.space.axes, spec.space.methods
    return statistics.fmean(_middle(axes[spec.space.labels(method)["epochs"]]) for method in methods)


def _epoch_s(tuning: FineTuning, spec: SweepSpec, method: str) -> float:
    """Seconds of the second epoch: the first also pays for what is done once."""
    params = Params.from_flat(spec.space.baseline(method) | {"epochs": 2})
    tuning.aim(params, seed=0)
    tuning.train_epoch()
    began = time.perf_counter()
    tuning.train_epoch()
    tuning.evaluate("val")
    return time.perf_counter() - began


def _most_fits(spec: SweepSpec) -> int:
    fits = spec.budget * len(spec.search.most_seeds)
    return fits if spec.search.budget is None else min(fits, spec.search.budget.fits)


def _middle(dimension: Fixed | Choice | Range) -> float:
    """Of what may be drawn."""
    match dimension:
        case Fixed(value):
            return float(value)
        case Choice(values):
            return statistics.fmean(values)
        case Range(low, high, log=True):
            return math.sqrt(low * high)
        case Range(low, high):
            return (low + high) / 2
