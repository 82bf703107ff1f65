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
    },
    place="search.sampler",
)
