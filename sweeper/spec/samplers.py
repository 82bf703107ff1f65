"""The SAMPLERS table: who proposes the points of a sweep. Names and traits alone; the code is behind Optuna's door.

A newcomer is one function that makes an Optuna sampler (see `sweeper.state.samplers.Streams`), and one line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field

from trainables.options import Option
from trainables.table import Entry, Table


@dataclass(frozen=True)
class Sampler(Entry):
    """One way to propose points.

    Its own `options` are settings of its `search`.
    `grid`: it goes through all points of the space, in order. `flat`: it models one box, so that every dimension is
    drawn for every trial, also those that the trial's method lacks. `repeats`: it may propose a point that was tried
    already, and is then asked again.
    """

    options: tuple[Option, ...] = ()
    grid: bool = False
    flat: bool = False
    repeats: bool = False


def _quarter(search: Mapping[str, Any]) -> int:
    trials = search.get("trials")
    return min(50, max(2, trials // 4)) if isinstance(trials, int) else 8


_POPULATION = Option(
    "population",
    Annotated[int, Field(strict=True, ge=2)],
    _quarter,
    "how many points a generation has; smaller than trials. Default: a quarter of the trials, 2 to 50",
)
_CODE = "sweeper.state.samplers"
SAMPLERS = Table(
    "samplers",
    Sampler,
    {
        "tpe": Sampler(f"{_CODE}:tpe", "Parzen estimators, tree-structured", "Bergstra et al. 2011", repeats=True),
        "gp": Sampler(f"{_CODE}:gp", "Gaussian processes", "Optuna, GPSampler", flat=True),
        "nsga2": Sampler(f"{_CODE}:nsga2", "an evolving population", "Deb et al. 2002", (_POPULATION,), flat=True),
        "random": Sampler(f"{_CODE}:uniform", "chance alone", "Bergstra and Bengio 2012", repeats=True),
        # Its points are given to Optuna one by one, so that nothing is left for its sampler to draw.
        "grid": Sampler(f"{_CODE}:uniform", "every point of the space, once", "full factorial design", grid=True),
        # Replaced when a spec is read (see `chosen`): nothing is ever drawn by it.
        "auto": Sampler(f"{_CODE}:tpe", "the one of these that suits space, trials and seeds", "benchmarks/RESULTS.md"),
    },
    place="search.sampler",
)

SEEDS_FOR_GP = 3  # a front of single fits is half luck, and a Gaussian process goes where the luck was
TRIALS_FOR_GP = 150  # it is fitted anew for each proposal, in a second of a core, and more as trials grow
AXES_FOR_GP = 6


def chosen(*, trials: int, points: int | None, axes: int, seeds: int, at_once: int | None) -> tuple[str, str]:
    """The sampler that `auto` stands for, and why.

    There are `trials` beside baselines, in a space of `points` (None: no end of them) with `axes` that are searched;
    each trial has `seeds`, or may get them in a race; `at_once` fits run together, where the spec says how many.
    """
    if points is not None and points <= trials:
        return "grid", f"all {points} points of the space are within the {trials} trials"
    if at_once is not None and 2 * at_once >= trials:
        return "random", f"{at_once} fits at once leave little to learn from, in {trials} trials"
    if seeds < SEEDS_FOR_GP:
        return "tpe", f"with fewer than {SEEDS_FOR_GP} seeds for a trial, what a Gaussian process would learn is luck"
    if trials > TRIALS_FOR_GP:
        return "tpe", f"a Gaussian process is slow beyond {TRIALS_FOR_GP} trials"
    if axes > AXES_FOR_GP:
        return "tpe", f"a Gaussian process needs more trials for more than {AXES_FOR_GP} dimensions"
    return "gp", f"{axes} dimensions, about {trials} trials, and seeds that take out the luck"
