"""Before a sweep begins: what its spec would do on the machines at hand, and how long, from a measured epoch."""

from __future__ import annotations

import math
import statistics
import textwrap
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sweeper.engine import machines
from sweeper.engine.packs import gain
from sweeper.engine.packs.packing import kind_of
from sweeper.results.summary import duration
from sweeper.spec.dimensions import Choice, Fixed, Range
from sweeper.spec.model import SweepSpec
from sweeper.spec.search import Budget
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
    gpus: float = 0.0  # of each fit
    budget: Budget | None = None
    asked: int = 0  # of the trials, in search.points
    at_once: int = 1  # fits that one worker trains together
    faster: float = 1.0  # than one by one, measured

    @property
    def fits(self) -> int:
        """One fit for each trial and seed; where seeds are raced, or a budget ends them, what there may be at most."""
        fits = self.most_fits or self.trials * self.seeds
        if self.budget is None or not self.budget.timed:
            return fits
        left_s = self.budget.left_s(self.prepare_s / 3600, self.prepare_s / 3600 * self._held, self._held)
        return min(fits, int(left_s / self.fit_s) * self.slots)

    @property
    def _held(self) -> float:
        return self.slots * (self.gpus or 1.0)

    @property
    def waves(self) -> int:
        """How often all slots are filled."""
        return math.ceil(self.fits / (self.slots * self.at_once))

    @property
    def fit_s(self) -> float:
        """Seconds of a worker for a fit: beside the baselines the methods that are searched come equally often."""
        searched = (self.trials - sum(self.baselines.values())) / len(self.methods)
        shares = {name: searched * (name in self.methods) + self.baselines.get(name, 0) for name in self.epoch_s}
        epoch_s = sum(share * self.epoch_s[name] for name, share in shares.items()) / self.trials
        return self.epochs * epoch_s / self.faster

    @property
    def total_s(self) -> float:
        """Of the whole sweep, estimated; nothing is stopped early."""
        return self.waves * self.at_once * self.fit_s + self.prepare_s

    @property
    def gpu_hours(self) -> float:
        """That the fits hold their GPUs for; without GPUs, slots."""
        return self.total_s / 3600 * self._held

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        budget = None if self.budget is None else self.budget.bounds
        told = {"fits": self.fits, "waves": self.waves, "total_s": self.total_s, "gpu_hours": self.gpu_hours}
        return vars(self) | {"budget": budget} | told

    def __str__(self) -> str:
        epochs = ", ".join(f"{method} {seconds:.2f} s" for method, seconds in self.epoch_s.items())
        bound = "at most" if self.stops_early else "about"
        each = f"{self.seeds} seeds =" if self.most_fits is None else f"{self.seeds} seeds or more, at most"
        listed = ", ".join(f"{name} {count}" for name, count in self.baselines.items())
        given = [f"baselines: {listed}"] * bool(listed) + [f"asked for: {self.asked}"] * bool(self.asked)
        first = "; ".join(given)
        lines = (
            f"{self.name}: {self.trials} trials{f' ({first})' if first else ''} x {each} "
            f"{self.fits} fits, {self.slots * self.at_once} at once on {self.device}: {self.waves} waves\n"
            f"one epoch, measured here: {epochs}; about {self.epochs:g} epochs a fit\n"
            f"{bound} {duration(self.total_s)} in all, and {self.prepare_s:.0f} s to prepare each worker once"
            + (f"; {self.gpu_hours:.3g} GPU-hours{self._price}" if self.gpus else "")
            + self._bought
            + "".join(f"\nnote: {note}" for note in self.notes)
        ).splitlines()
        return "\n".join(textwrap.fill(line, 80, subsequent_indent="  ", break_long_words=False) for line in lines)

    @property
    def _price(self) -> str:
        price = None if self.budget is None else self.budget.per_gpu_hour
        return "" if price is None else f", which cost {self.gpu_hours * price:.2f}"

    @property
    def _bought(self) -> str:
        """What a budget in time buys, as far as it is what ends the sweep."""
        if self.budget is None or not self.budget.timed:
            return ""
        bounds = ", ".join(f"{name} {bound:g}" for name, bound in self.budget.bounds.items())
        held = "" if self.gpus else "; without a GPU each slot counts as one"
        return f"\nthe budget ({bounds}) buys {self.fits} fits at this pace{held}"


def plan(spec: SweepSpec) -> Plan:
    """Ask Ray what there is, and train an epoch of each method."""
    with machines.ready(spec.resources) as slots:
        pass  # the epochs below are measured without Ray
    began = time.perf_counter()
    from sweeper.results import warm
    from trainables.data.report import leak_note
    from trainables.finetuning import FineTuning

    tuning = FineTuning(spec.task(), device=slots.device, threads=slots.threads, prefix=spec.resources.prefix)
    tuning.prepare()
    prepare_s = time.perf_counter() - began
    methods = dict.fromkeys([*spec.space.methods, *spec.search.baselines])
    at_once, faster, packed = _packs(tuning, spec, methods)
    told = warm.gathered(spec, spec.identity() | {"split_hash": tuning.dataset.split_hash})
    frozen: dict[str, str] = {}
    epoch_s = {method: _epoch_s(tuning, spec, method, frozen) for method in methods}
    notes = [spec.search.auto_note, *told.notes, leak_note(tuning.dataset), *tuning.notes, *frozen.values(), packed]
    return Plan(
        name=spec.name,
        trials=spec.budget,
        baselines=Counter(spec.search.baseline_list),
        methods=spec.space.methods,
        seeds=len(spec.search.seed_list),
        slots=slots.count,
        device=slots.device,
        epochs=epochs_a_fit(spec),
        epoch_s=epoch_s,
        prepare_s=prepare_s,
        stops_early=spec.search.stopping is not None or spec.search.open_ended,
        most_fits=_most_fits(spec) if spec.search.open_ended else None,
        gpus=slots.gpus,
        budget=spec.search.budget,
        asked=len(spec.search.points) + len(told.points),
        at_once=at_once,
        faster=faster,
        notes=tuple(filter(None, notes)),
    )


def _packs(tuning: FineTuning, spec: SweepSpec, methods: Iterable[str]) -> tuple[int, float, str]:
    """How many fits a worker trains at once, how many times as fast that is, and what to say of it."""
    pack, each = spec.resources.pack, [spec.space.baseline(method) for method in methods]
    packable = [params for params in each if kind_of(params)]
    if pack == "off" or not packable:
        return 1, 1.0, ""
    found = gain.measured(tuning, Params.from_flat(packable[0]), gain.TRIED if pack == "auto" else (pack,))
    most = found.most if pack == "auto" else max(found.ratios, default=1)
    return most, found.ratios.get(most, 1.0), found.told(most)


def epochs_a_fit(spec: SweepSpec) -> float:
    """How many epochs a fit has, if the space is drawn from evenly."""
    axes, methods = spec.space.axes, spec.space.methods
    return statistics.fmean(_middle(axes[spec.space.labels(method)["epochs"]]) for method in methods)


def _epoch_s(tuning: FineTuning, spec: SweepSpec, method: str, frozen: dict[str, str]) -> float:
    """Seconds of the second epoch: the first also pays for what is done once. `frozen` gets what is, in words."""
    params = Params.from_flat(spec.space.baseline(method) | {"epochs": 2})
    tuning.aim(params, seed=0)
    if told := frozen_note(tuning, spec, params):
        frozen[method] = f"{method}: {told}"
    tuning.train_epoch()
    began = time.perf_counter()
    tuning.train_epoch()
    tuning.evaluate("val")
    return time.perf_counter() - began


def frozen_note(tuning: FineTuning, spec: SweepSpec, params: Params) -> str:
    """What of the model is frozen, and how large that is for other numbers of blocks, or the low of a range."""
    axis = spec.space.axes.get(spec.space.labels(params.method).get("blocks", ""))
    values = axis.grid() or ((axis.low,) if isinstance(axis, Range) else ()) if axis else ()
    others = [int(n) for n in values if n != params.blocks]
    sizes = {n: tuning.frozen_bytes(Params.from_flat(params.to_flat() | {"blocks": n})) for n in others}
    more = [f"{size / 1e9:.3g} GB for blocks {n}" for n, size in sizes.items() if size]
    once = f"what is frozen is computed once for each number of blocks: {', '.join(more)}" if more else ""
    return "; ".join(filter(None, [tuning.frozen.told, once]))


def _most_fits(spec: SweepSpec) -> int:
    fits = spec.budget * len(spec.search.most_seeds)
    budget = spec.search.budget
    return fits if budget is None or budget.fits is None else min(fits, budget.fits)


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
