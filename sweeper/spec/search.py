"""The section `search` of a spec: who proposes, how many trials and seeds, what it may cost, what ends early."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from sweeper.spec.samplers import SAMPLERS, Sampler
from sweeper.spec.sections import Baselines, Count, MetricName, Natural, Part, SamplerName
from trainables.options import Chosen, says
from trainables.table import Table

MOST_SEEDS = 1000
RACED = 0.6  # of the fits of a race, while new trials can be tried: further seeds
MOST_TRIALS = 1000  # where a budget in time is to decide, and no number of trials is given
SWEEP = r"^[a-z0-9][a-z0-9._-]{0,62}$"  # what a sweep may be called
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _unless_off(written: object) -> object:
    """No rule stands as None in a spec."""
    return None if isinstance(written, str) and written == "off" else written


def _enough_for(fits: int | None, seeds: int) -> int:
    """How many trials, each with so many seeds to begin with, a budget of `fits` is enough for."""
    return MOST_TRIALS if fits is None else max(1, fits // seeds)


class Stopping(Part):
    """Successive halving: fits that fall behind are not trained to their end."""

    first: Annotated[Count, Field(description="epochs after which a fit is compared with others for the first time")]
    factor: Annotated[
        Annotated[int, Field(strict=True, ge=2)],
        Field(description="one of so many goes on; the next comparison comes after so many times the epochs"),
    ] = 3


class Racing(Part):
    """Seeds where they decide: every trial starts with few, and those that may be on the front get more."""

    start: Annotated[Count, Field(description="seeds that every trial starts with")] = 1
    most: Annotated[
        Annotated[int, Field(strict=True, ge=2, le=MOST_SEEDS)],
        Field(description="seeds that a trial may get, while it is not decided whether it is on the front"),
    ] = 5

    @model_validator(mode="after")
    def _more(self) -> Racing:
        if self.most <= self.start:
            raise ValueError("most is to be above start: else write a plain number of seeds")
        return self


class Budget(Part):
    """What a sweep may cost, beside its number of trials. Of several bounds the one that is reached first ends it."""

    fits: Annotated[Count | None, Field(description="trainings of one configuration with one seed")] = None
    hours: Annotated[Positive | None, Field(description="of training, pauses left out")] = None
    gpu_hours: Annotated[
        Positive | None, Field(description="hours times GPUs that the fits hold; without GPUs each slot is one")
    ] = None
    cost: Annotated[Positive | None, Field(description="of these GPU-hours, in the currency of per_gpu_hour")] = None
    per_gpu_hour: Annotated[Positive | None, Field(description="the price of a GPU-hour")] = None

    @model_validator(mode="after")
    def _whole(self) -> Budget:
        if (self.cost is None) != (self.per_gpu_hour is None):
            raise ValueError("cost and per_gpu_hour belong together")
        if self == Budget.model_construct():
            raise ValueError("it bounds nothing")
        return self

    @property
    def bounds(self) -> dict[str, float]:
        """What is bounded, as it was written."""
        return self.model_dump(exclude_none=True)

    @property
    def timed(self) -> bool:
        """Whether it is in time, or in what time costs."""
        return bool(self.bounds.keys() - {"fits"})

    def left_s(self, hours: float, gpu_hours: float, gpus: float) -> float:
        """Seconds until it is spent, by what is spent already, where `gpus` GPUs are held; not below 0."""
        left_h = math.inf if self.hours is None else self.hours - hours
        if self.gpu_hours is not None:
            left_h = min(left_h, (self.gpu_hours - gpu_hours) / gpus)
        if self.cost is not None and self.per_gpu_hour is not None:
            left_h = min(left_h, (self.cost / self.per_gpu_hour - gpu_hours) / gpus)
        return max(0.0, 3600 * left_h)


class Search(Chosen):
    """Who proposes points, how many, and how often each is trained; and the sampler's own options."""

    sampler: Annotated[SamplerName, Field(description="who proposes the next point")] = "tpe"
    auto: Annotated[str | None, Field(description="why `sampler: auto` stands for this one; sweeper writes it")] = None
    trials: Annotated[Count, Field(description="the budget: configurations to try, baselines included")] = 32
    budget: Annotated[
        Budget | None,
        says("Use {fits: 200}, {hours: 8}, {gpu_hours: 20} or {cost: 50, per_gpu_hour: 2.5}: numbers above 0"),
        Field(
            description="what the sweep may cost: {fits: 200}, {hours: 8}, {gpu_hours: 20} or {cost: 50, "
            "per_gpu_hour: 2.5}; trials, left out, are as many as fit in"
        ),
    ] = None
    until: Annotated[
        Annotated[float, Field(gt=0, lt=1)] | None,
        says("Use a share of the hypervolume such as 0.01"),
        Field(
            description="no new trials once ten more can be expected to add less than this share of the front's "
            "hypervolume"
        ),
    ] = None
    seeds: Annotated[
        Annotated[Count, Field(le=MOST_SEEDS)]
        | Annotated[tuple[Natural, ...], Field(min_length=1, max_length=MOST_SEEDS)]
        | Racing,
        says(
            "Use a number of seeds such as 3, a list such as [0, 1, 2], or {start: 1, most: 5} for a race, most above "
            f"start; {MOST_SEEDS:,} at most"
        ),
        Field(
            description="fits of each trial: how many (seeds 0, 1, ...), which seeds, or {start: 1, most: 5}: more "
            "for those that may be on the front"
        ),
    ] = 1
    seed: Annotated[Natural, Field(description="of the proposals: the same seed proposes the same points")] = 0
    baselines: Annotated[
        Baselines,
        Field(description="methods that are tried first, to compare with: [lora], or {lora: 5} for five trials of it"),
    ] = ()
    points: Annotated[
        tuple[dict[str, Any], ...],
        says("Use a list of points, such as [{lambda: 0.3, rank: 16}, {method: lora}]"),
        Field(
            description="points that are tried first, after the baselines: some values of the space or all; what is "
            "left out is drawn by chance"
        ),
    ] = ()
    warm_start: Annotated[
        tuple[Annotated[str, Field(pattern=SWEEP)], ...],
        says("Use a list of names of sweeps beside this one, such as [my-birds]"),
        Field(
            description="sweeps to learn from: with the same data, backbone, training and objectives their trials are "
            "told to the sampler; else points of their fronts are tried first"
        ),
    ] = ()
    stopping: Annotated[
        Literal["gentle", "strong"] | Stopping | None,
        BeforeValidator(_unless_off, json_schema_input_type=Literal["off", "gentle", "strong"] | Stopping | None),
        says(
            "Use off, gentle, strong, or a mapping such as {first: 2, factor: 3}: whole numbers, first from 1 and "
            "factor from 2"
        ),
        Field(
            description="end fits early that others beat: off, gentle (the front hardly ever loses a member), strong, "
            "or successive halving. Default: every fit is trained to its end"
        ),
    ] = None
    max_failures: Annotated[Count, Field(description="the sweep stops after so many failed trials in a row")] = 5
    max_failed_share: Annotated[
        Annotated[float, Field(strict=True, gt=0, le=1)],
        says("Use a share above 0, at most 1, such as 0.5; 1 never stops the sweep"),
        Field(description="the sweep stops when a larger share of at least ten trials have failed"),
    ] = 0.5
    reference: Annotated[
        dict[MetricName, Annotated[float, Field(strict=True, allow_inf_nan=False)]] | None,
        Field(description="the hypervolume's reference point, by objective. Default: 0 for max, 1 for min"),
    ] = None

    key: ClassVar[str] = "sampler"

    @model_validator(mode="before")
    @classmethod
    def _as_many_as_fit_in(cls, written: object) -> object:
        if not isinstance(written, dict) or "trials" in written or not isinstance(written.get("budget"), dict):
            return written
        fits, seeds = written["budget"].get("fits"), written.get("seeds", 1)
        first = seeds.get("start", 1) if isinstance(seeds, dict) else len(seeds) if isinstance(seeds, list) else seeds
        if fits is not None and not all(isinstance(count, int) and count > 0 for count in (fits, first)):
            return written
        return written | {"trials": _enough_for(fits, first)}

    @classmethod
    def table(cls) -> Table[Sampler]:
        return SAMPLERS

    @property
    def baseline_list(self) -> tuple[str, ...]:
        """The baseline that each of the sweep's first trials is of."""
        counts = self.baselines if isinstance(self.baselines, dict) else dict.fromkeys(self.baselines, 1)
        return tuple(name for name, count in counts.items() for _ in range(count))

    def of_baseline(self, name: str) -> Search:
        """The search of a baseline's own trials: as this one, but for their number, and what follows from it."""
        own = {"sampler": self.sampler, "trials": self.baseline_list.count(name)}
        options = self.options(own) or ()
        own |= {option.name: option.default_for(own) for option in options if callable(option.default)}
        return self.model_copy(update={"baselines": ()} | own)

    @property
    def auto_note(self) -> str | None:
        """Which sampler `auto` stands for, and why."""
        return self.auto and f"search.sampler auto is {self.sampler}: {self.auto}."

    @property
    def counted(self) -> bool:
        """Whether a number of trials is to be reached; not where they are as many as a budget buys."""
        if self.budget is None:
            return True
        fits = self.budget.fits  # older releases took as many trials as fits
        return self.trials not in (fits, _enough_for(fits, len(self.seed_list)))

    @property
    def likely(self) -> int:
        """How many trials there will be, as far as can be said before: a race within some fits spends most on seeds."""
        if self.racing is None or self.budget is None or self.budget.fits is None:
            return self.trials
        return min(self.trials, math.ceil((1 - RACED) * self.budget.fits / self.racing.start))

    @property
    def open_ended(self) -> bool:
        """Whether a sweep may be over before its trials are, or not yet when they are all proposed."""
        return self.racing is not None or self.budget is not None or self.until is not None

    @property
    def racing(self) -> Racing | None:
        """How seeds are raced, if they are."""
        return self.seeds if isinstance(self.seeds, Racing) else None

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds that each trial starts with; the same for all, so that they are compared like with like."""
        if isinstance(self.seeds, Racing):
            return tuple(range(self.seeds.start))
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else self.seeds

    @property
    def most_seeds(self) -> tuple[int, ...]:
        """The seeds that a trial may get in the search."""
        return self.seed_list if self.racing is None else self.first_seeds(self.racing.most)

    @property
    def seeds_said(self) -> str:
        """How many seeds a trial has: `3`, or `1 to 5` in a race."""
        fewest, most = len(self.seed_list), len(self.most_seeds)
        return str(fewest) if fewest == most else f"{fewest} to {most}"

    def first_seeds(self, count: int) -> tuple[int, ...]:
        """The first `count` seeds of any trial: those of `seed_list`, then the numbers above them.

        So two trials with more seeds have the same ones, as far as both go.
        """
        listed = self.seed_list
        return (*listed, *range(max(listed) + 1, max(listed) + 1 + max(0, count - len(listed))))[:count]
