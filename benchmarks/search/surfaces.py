"""What is searched: a recorded surface, and noisy test functions whose true front is known. numpy alone.

Each answers what a fit of some params with some seed comes to, epoch by epoch, in microseconds, the same whenever it is
asked; and what the params are in truth, which no arm may ask. A `world` (a repetition) has noise of its own. Two fits
with one seed share a part of their noise, as real ones do: the same batches, the same start.

Shapes: E epochs, S recorded seeds, G grid points, 2 objectives (accuracy, greater is better; delta F1, smaller is).
"""

from __future__ import annotations

import csv
import functools
import hashlib
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

OBJECTIVES = {"accuracy": "max", "delta_f1": "min"}
SIGNS = np.array([1.0, -1.0])
EPOCHS = 4
RECORDING = Path(__file__).parent / "digits.csv"

Params = Mapping[str, Any]


@dataclass(frozen=True)
class LogRange:
    """A range that is searched; by its logarithm."""

    low: float
    high: float
    integer: bool = False

    def at(self, share: float) -> float:
        """The value at `share` (0 to 1) of the range."""
        value = self.low * (self.high / self.low) ** float(share)
        return min(max(round(value), round(self.low)), round(self.high)) if self.integer else value

    def share(self, value: float) -> float:
        """Where in the range, from 0 to 1, a value lies."""
        return math.log(value / self.low) / math.log(self.high / self.low)

    def written(self) -> dict[str, Any]:
        """As a spec has it."""
        ends = (int(self.low), int(self.high)) if self.integer else (self.low, self.high)
        return {"low": ends[0], "high": ends[1], "log": True}


class Surface(ABC):
    """One question: its space, its true values, and what chance makes of them.

    `methods` are chosen from; of those beside `fairlora`, none has a lambda. `fixed` is not searched.
    """

    name: str
    axes: Mapping[str, LogRange]
    methods: tuple[str, ...] = ("fairlora",)
    fixed: Mapping[str, Any] = MappingProxyType({})
    least = 0.01

    @abstractmethod
    def truth(self, params: Params) -> np.ndarray:
        """What the objectives of `params` are without chance, after the last epoch, `[2]`."""

    @abstractmethod
    def curve(self, params: Params, seed: int, world: int) -> np.ndarray:
        """The objectives after each epoch of the fit of `params` with `seed`, `[E, 2]`."""

    def fit(self, params: Params, seed: int, world: int) -> np.ndarray:
        """What the fit comes to, `[2]`."""
        return self.curve(params, seed, world)[-1]

    def space(self) -> dict[str, Any]:
        """The `space:` of a spec."""
        methods = list(self.methods) if len(self.methods) > 1 else self.methods[0]
        return {"method": methods, "epochs": EPOCHS} | dict(self.fixed) | {n: a.written() for n, a in self.axes.items()}

    def params(self, shares: Mapping[str, float], method: str | None = None) -> dict[str, Any]:
        """The point at these shares of the axes."""
        method = method or self.methods[-1]
        own = {name: axis.at(shares[name]) for name, axis in self.axes.items() if name != "lambda" or method[0] == "f"}
        return {"method": method, **own}

    @functools.cached_property
    def true_front(self) -> np.ndarray:
        """The true values of the best that the space has, greater is better, `[T, 2]`: a grid's front, made finer."""
        axes = len(self.axes)
        steps = {1: 101, 2: 41, 3: 17}[axes]
        fronts = []
        for method in self.methods:
            shares = np.array(list(itertools.product(np.linspace(0, 1, steps), repeat=axes)))
            around = np.array(list(itertools.product((-1, 0, 1), repeat=axes))) / (steps - 1)
            for _ in range(4):
                points = [self.params(dict(zip(self.axes, row, strict=True)), method) for row in shares]
                values = np.array([self.truth(point) for point in points]) * SIGNS
                best = values[best_rows := _front_rows(values)]
                around = around / 2
                near = (shares[best_rows][:, None] + around).reshape(-1, axes)
                shares = np.unique(near.clip(0, 1).round(9), axis=0)
            fronts.append(best)
        return front(np.concatenate(fronts))

    @functools.cached_property
    def reference(self) -> np.ndarray:
        """The hypervolume's reference point, greater is better, `[2]`.

        It is the true front's worst, less a half of its range, or less `least` where that is more: a front may be a
        single point.
        """
        return self.true_front.min(axis=0) - np.maximum(0.5 * np.ptp(self.true_front, axis=0), self.least)


def front(points: np.ndarray) -> np.ndarray:
    """Those of the points `[T, 2]` that no other beats; greater is better."""
    return points[_front_rows(points)]


def _front_rows(points: np.ndarray) -> np.ndarray:
    rows = np.lexsort((-points[:, 1], -points[:, 0]))
    best = np.concatenate([[-np.inf], np.maximum.accumulate(points[rows, 1])[:-1]])
    return rows[points[rows, 1] > best]


def chance(*what: Any) -> np.random.Generator:
    """A random stream that is decided by `what`."""
    digest = hashlib.blake2b(repr(what).encode(), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


def _key(params: Params) -> tuple[Any, ...]:
    numbers = (f"{params[name]:.9g}" if name in params else "" for name in ("lambda", "rank", "learning_rate"))
    return (params["method"], *numbers)


# --- recorded


class Recorded(Surface):
    """digits-on-scenes, as `recorder` recorded it; between the grid's points by the logarithms, linearly.

    The truth is the mean over all recorded seeds, eight. What seed k of a world does is a mixture of what they did,
    with random weights: as much noise, as much alike from point to point, objective to objective and epoch to epoch,
    but no seed comes twice, and a few do not know the truth, as most of eight would. A fit's noise is that at the
    neighbouring grid points, mixed by their weights, and brought back to the size that it has there: so near points
    with one seed are alike, as they are when they are trained.
    """

    least = 0.05

    def __init__(self, name: str, rates: tuple[float, ...] | None = None, path: Path = RECORDING) -> None:
        self.name, self.methods = name, ("lora", "fairlora")
        with path.open() as file:
            rows = list(csv.DictReader(file))
        kept = [float(row["learning_rate"]) for row in rows]
        rates = rates or tuple(sorted(set(kept)))
        rows = [row for row, rate in zip(rows, kept, strict=True) if rate in rates]
        self._weights = sorted({float(row["lambda"]) for row in rows if row["lambda"]})
        self._ranks, self._rates = sorted({int(row["rank"]) for row in rows}), sorted(rates)
        seeds = sorted({int(row["seed"]) for row in rows})
        shape = (1 + len(self._weights), len(self._ranks), len(self._rates), len(seeds), EPOCHS, 2)
        self._values = np.full(shape, np.nan)  # plain LoRA first
        for row in rows:
            weight = 1 + self._weights.index(float(row["lambda"])) if row["lambda"] else 0
            at = self._ranks.index(int(row["rank"])), self._rates.index(float(row["learning_rate"]))
            values = [[float(row[f"{o}_{e}"]) for o in OBJECTIVES] for e in range(1, EPOCHS + 1)]
            self._values[weight, at[0], at[1], seeds.index(int(row["seed"]))] = values
        assert np.isfinite(self._values).all(), f"{path} lacks points of the grid"
        self._mean = self._values.mean(axis=3)
        count = len(seeds)
        self._noise = (self._values - self._mean[:, :, :, None]) * math.sqrt(count / (count - 1))
        self._scale = self._noise.std(axis=3)
        self.fixed = {"alpha": 16} | ({"learning_rate": self._rates[0]} if len(self._rates) == 1 else {})
        self.axes = {"lambda": LogRange(self._weights[0], self._weights[-1])}
        self.axes["rank"] = LogRange(self._ranks[0], self._ranks[-1], integer=True)
        if len(self._rates) > 1:
            self.axes["learning_rate"] = LogRange(self._rates[0], self._rates[-1])

    @property
    def seeds(self) -> int:
        """How many were recorded."""
        return self._values.shape[3]

    def _corners(self, params: Params) -> list[tuple[float, tuple[int, int, int]]]:
        """The grid points around `params`, each with its weight; the weights sum to 1."""
        if params["method"] == "lora":
            by_lambda = [(1.0, 0)]
        else:
            by_lambda = [(weight, 1 + at) for weight, at in _between(self._weights, params["lambda"])]
        by_rank = _between(self._ranks, params["rank"])
        by_rate = _between(self._rates, params.get("learning_rate", self._rates[0]))
        return [
            (a * b * c, (i, j, k))
            for (a, i), (b, j), (c, k) in itertools.product(by_lambda, by_rank, by_rate)
            if a * b * c
        ]

    def truth(self, params: Params) -> np.ndarray:
        return sum(weight * self._mean[at][-1] for weight, at in self._corners(params))

    def curve(self, params: Params, seed: int, world: int) -> np.ndarray:
        corners = self._corners(params)
        by_seed = chance(self.name, world, seed).standard_normal(self.seeds) / math.sqrt(self.seeds)
        mean = sum(weight * self._mean[at] for weight, at in corners)
        noise = sum(weight * np.tensordot(by_seed, self._noise[at], 1) for weight, at in corners) / math.sqrt(
            self.seeds
        )
        size = sum(weight * self._scale[at] for weight, at in corners)
        mixed = np.sqrt(np.square(sum(weight * self._noise[at] for weight, at in corners)).mean(axis=0))
        return mean + noise * size / np.where(mixed > 0, mixed, 1.0)


def _between(grid: list[Any], value: float) -> list[tuple[float, int]]:
    """The neighbours of `value` in a rising grid, by index, with their weights by the logarithm."""
    if len(grid) == 1:
        return [(1.0, 0)]
    above = min(max(int(np.searchsorted(grid, value)), 1), len(grid) - 1)
    share = math.log(value / grid[above - 1]) / math.log(grid[above] / grid[above - 1])
    share = min(max(share, 0.0), 1.0)
    return [(1 - share, above - 1), (share, above)]


# --- made up


@dataclass(frozen=True)
class Noise:
    """Standard deviations [2] of one fit around its truth: of its own, and shared by all fits of its seed.

    `along` is the correlation of the two objectives' noise: a lucky fit is more accurate and fairer.
    """

    own: tuple[float, float] = (0.02, 0.035)
    common: tuple[float, float] = (0.02, 0.035)
    along: float = -0.6

    def drawn(self, rng: np.random.Generator) -> np.ndarray:
        """A draw with unit deviations, `[2]`."""
        first, second = rng.standard_normal(2)
        return np.array([first, self.along * first + math.sqrt(1 - self.along**2) * second])


Shape = Callable[[np.ndarray], tuple[np.ndarray, float]]


class NoisyFunction(Surface):
    """A test function over lambda, rank and learning rate.

    `shape` takes the shares `[3]` of the axes, and gives two costs (0 is best, of the order of 1) and the factor of the
    noise there. Accuracy is .92 less a tenth of the first, delta F1 .10 and a quarter of the second.
    """

    def __init__(self, name: str, shape: Shape, noise: Noise | None = None) -> None:
        self.name, self._shape, self._noise = name, shape, noise or Noise()
        self.axes = {
            "lambda": LogRange(0.01, 100),
            "rank": LogRange(4, 128, integer=True),
            "learning_rate": LogRange(1e-5, 1e-2),
        }

    def _at(self, params: Params) -> np.ndarray:
        return np.array([axis.share(params[name]) for name, axis in self.axes.items()])

    def truth(self, params: Params) -> np.ndarray:
        costs, _ = self._shape(self._at(params))
        return np.array([0.92 - 0.1 * costs[0], 0.10 + 0.25 * costs[1]])

    def curve(self, params: Params, seed: int, world: int) -> np.ndarray:
        at, truth = self._at(params), self.truth(params)
        _, factor = self._shape(at)
        common = chance(self.name, world, seed)
        own = chance(self.name, world, seed, _key(params))
        shared = np.array(self._noise.common) * self._noise.drawn(common)
        left = np.exp(-(0.6 + 1.2 * at[2]) * np.arange(1, EPOCHS + 1))  # what is still to be learnt; less at high rates
        left[-1] = 0.0
        curve = truth + left[:, None] * np.array([-0.35, 0.35])
        lasting = np.array(self._noise.own) * self._noise.drawn(own)
        passing = np.array([np.array(self._noise.own) * self._noise.drawn(own) for _ in range(EPOCHS)])
        passing[-1] = 0.0
        return curve + factor * (shared + lasting + 0.7 * passing)


def _convex(u: np.ndarray) -> tuple[np.ndarray, float]:
    """ZDT1's front, the optimum of rank and rate inside."""
    g = 1 + 6 * ((u[1] - 0.65) ** 2 + 2 * (u[2] - 0.6) ** 2)
    x = u[0]
    return np.array([x + 0.6 * (g - 1), g * (1 - math.sqrt(x / g)) + 0.3 * (g - 1)]), 1.0


def _concave(u: np.ndarray) -> tuple[np.ndarray, float]:
    """DTLZ2's: both costs grow away from the optimum; the best rate falls as lambda rises."""
    g = 4 * ((u[1] - 0.5) ** 2 / 2 + 2 * (u[2] - 0.75 + 0.35 * u[0]) ** 2)
    angle = u[0] * math.pi / 2
    return np.array([(1 + g) * math.sin(angle) - 0.0, (1 + g) * math.cos(angle)]) + 0.3 * g, 1.0


def _broken(u: np.ndarray) -> tuple[np.ndarray, float]:
    """ZDT3's: a front in pieces."""
    g = 1 + 6 * ((u[1] - 0.4) ** 2 / 2 + 2 * (u[2] - 0.55) ** 2)
    x = u[0]
    second = g * (1 - math.sqrt(x / g)) - 0.6 * x * math.sin(6 * math.pi * x)
    return np.array([x + 0.5 * (g - 1), second + 0.3 * (g - 1)]), 1.0


def _cliff(u: np.ndarray) -> tuple[np.ndarray, float]:
    """As real penalties: fairness improves up to some lambda, then both collapse, and seeds differ the more near it."""
    edge = 1 / (1 + math.exp(-14 * (u[0] + 0.4 * (u[2] - 0.5) - 0.72)))
    g = 1.5 * ((u[1] - 0.8) ** 2 / 3 + 2 * (u[2] - 0.62) ** 2)
    accuracy = 0.1 + 0.5 * u[0] ** 2 + 3.0 * edge + 1.5 * g
    gap = 0.9 - 0.9 * math.sin(min(u[0] / 0.62, 1.0) * math.pi / 2) + 2.0 * edge + 1.0 * g
    return np.array([accuracy, gap]), 0.6 + 1.6 * edge


def surfaces() -> dict[str, Callable[[], Surface]]:
    """Every surface by its name, made when it is asked for."""
    made = {"convex": _convex, "concave": _concave, "broken": _broken, "cliff": _cliff}
    found: dict[str, Callable[[], Surface]] = {
        name: functools.partial(NoisyFunction, name, shape) for name, shape in made.items()
    }
    found["digits"] = functools.partial(Recorded, "digits")
    found["digits-demo"] = functools.partial(Recorded, "digits-demo", (1e-3,))
    return found
