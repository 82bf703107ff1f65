"""What the next trial of a study is: of a baseline, one that was asked for, or what the sampler learned."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from sweeper.spec.asking import points
from sweeper.spec.asking.narrowing import enumerated, holds
from sweeper.spec.model import SweepSpec
from sweeper.spec.samplers import SAMPLERS
from sweeper.spec.search import MOST_SEEDS
from sweeper.spec.space import Point
from sweeper.state import allotment, rows, samplers
from sweeper.state.asking.inbox import Request
from sweeper.trial import State, Trial

log = logging.getLogger(__name__)
IN_SPEC = "asked for in search.points"


@dataclass(frozen=True)
class Warm:
    """What a sweep has from others since its beginning, as it is kept with it.

    `told` are their trials as far as they count here: sweep, number, params, values, feasible. `points` of their fronts
    are tried first, each with its `why`. `notes` tell people.
    """

    told: list[dict[str, Any]] = field(default_factory=list)
    points: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def trials(self, objectives: Iterable[str]) -> list[Trial]:
        """The trials that count, under numbers below 0."""
        return [
            Trial(-1 - place, State.COMPLETE, each["params"], dict(zip(objectives, each["values"], strict=True)),
                  feasible=each["feasible"])
            for place, each in enumerate(self.told)
        ]  # fmt: skip


@dataclass(frozen=True)
class Proposal:
    """A configuration to be tried, under its trial's number, with these `seeds`; `told` of them were told already."""

    number: int
    params: Mapping[str, Any]
    seeds: tuple[int, ...]
    baseline: str | None = None
    told: int = 0


@dataclass(frozen=True)
class Given:
    """What is known of a trial before it is drawn.

    Its `point`, None where that is left to the sampler; the `baseline` that it is of; why it is `asked` for, if it is.
    """

    point: Point | None = None
    baseline: str | None = None
    asked: str | None = None


def grid(spec: SweepSpec) -> list[Point] | None:
    """The points of a grid in the order in which they are tried; None where the sampler is no grid."""
    if not SAMPLERS[spec.search.sampler].grid:
        return None
    left, first = spec.space.grid(), []
    for written in spec.search.points:
        wanted = points.read(spec.space, written)
        first.append(next(point for point in left if points.matches(point, wanted)))
        left.remove(first[-1])
    return [*first, *left]


def first_of_all(spec: SweepSpec, warm: Warm) -> list[tuple[Point, str]]:
    """The points that come after the baselines and before the sampler's own, each with why."""
    return [(written, IN_SPEC) for written in spec.search.points] + [(p["point"], p["why"]) for p in warm.points]


def fixed(spec: SweepSpec, of_grid: Sequence[Point] | None, warm: Warm, number: int) -> Given:
    """What its number alone says of trial `number`: the first of a baseline is its usual point.

    A baseline's others depend on those before them.
    """
    listed, space = spec.search.baseline_list, spec.space
    if number >= len(listed):
        place = number - len(listed)
        first = first_of_all(spec, warm)
        asked = first[place][1] if place < len(first) else None
        return Given(None if of_grid is None or place >= len(of_grid) else of_grid[place], asked=asked)
    name = listed[number]
    before = number - listed.index(name)
    if of_grid is not None and listed.count(name) > 1:
        return Given(space.alone(name).grid()[before], name)
    return Given(None if before else space.baseline(name), name)


def following(
    study: optuna.Study,
    spec: SweepSpec,
    now: SweepSpec,
    of_grid: Sequence[Point] | None,
    warm: Warm,
    number: int,
    asked: Sequence[FrozenTrial],
    known: Sequence[Point],
    trials: Callable[[], Sequence[Trial]],
) -> Given:
    """What trial `number` is; `asked` are all rows before it, `known` their params; `trials` reads what they came to.

    `now` is the spec with its space as it is now; it differs where that was narrowed.
    """
    given, first = fixed(spec, of_grid, warm, number), len(spec.search.baseline_list)
    if of_grid is not None and given.baseline is None:
        return replace(given, point=next(_left(now, of_grid, asked)))
    if given.point is not None:
        return given
    if given.baseline is not None:
        begun = spec.search.baseline_list.index(given.baseline)
        return replace(given, point=samplers.tuned(spec, given.baseline, number, asked[begun:]))
    if given.asked is not None:
        wanted = points.read(spec.space, first_of_all(spec, warm)[number - first][0])
        return replace(given, point=points.completed(spec.space, wanted, (spec.search.seed, number), known))
    if spec.search.racing is not None or now is not spec or warm.told:
        return replace(given, point=informed(spec, now, warm, number, trials()))
    return replace(given, point=samplers.unrepeated(study, spec, number, known))


def by_hand(spec: SweepSpec, number: int, request: Request, known: Sequence[Point]) -> Point | None:
    """The point of a request, as trial `number`; None where it is none of the space."""
    try:
        wanted = points.read(spec.space, request.body["point"])
        seeds = request.body["seeds"]
        if seeds is not None and not len(spec.search.seed_list) <= int(seeds) <= MOST_SEEDS:
            raise ValueError(f"{seeds} seeds")
    except (KeyError, TypeError, ValueError, AttributeError) as fault:
        log.warning("%s asks for what cannot be, and is dropped: %s", request.path, fault)
        return None
    return points.completed(spec.space, wanted, (spec.search.seed, number), known)


def _left(now: SweepSpec, of_grid: Sequence[Point], asked: Sequence[FrozenTrial]) -> Iterator[Point]:
    """The points of a grid that it has not tried by itself, and that its space still holds."""
    first = len(now.search.baseline_list)
    own = [rows.params(row) for row in asked[first:] if rows.REQUEST not in row.user_attrs]
    return (point for point in of_grid if point not in own and now.space.contains(point))


def exhausted(spec: SweepSpec, now: SweepSpec, of_grid: Sequence[Point] | None, asked: Sequence[FrozenTrial]) -> bool:
    """Whether the space was narrowed to points that were all tried; one that was not is large enough for its trials."""
    if now is spec:
        return False
    if of_grid is not None:
        return next(_left(now, of_grid, asked), None) is None
    known, points_left = [rows.params(row) for row in asked], enumerated(now.space)
    return points_left is not None and all(point in known for point in points_left)


def informed(spec: SweepSpec, now: SweepSpec, warm: Warm, number: int, trials: Sequence[Trial]) -> Point:
    """A point for trial `number`, by what the trials came to without the luck of their seeds.

    A trial outside the space as it is `now` is not told: the samplers know one range for all.
    """
    told = {trial.number: [trial.values[name] for name in spec.objectives] for trial in trials if trial.values}
    if spec.search.racing is not None:
        # A Gaussian process takes out the noise that it sees by itself.
        told = allotment.told(allotment.entrants(trials, spec), spec, shrunk=spec.search.sampler != "gp")
    others = warm.trials(spec.objectives)
    told |= {trial.number: [trial.values[name] for name in spec.objectives] for trial in others}
    inside = [t for t in [*others, *trials] if now is spec or holds(spec.space, now.space, t.params)]
    unknown_M = [math.nan] * len(spec.objectives)
    points_TM = np.array([told.get(trial.number, unknown_M) for trial in inside]).reshape(-1, len(unknown_M))
    return samplers.informed(now, number, inside, points_TM)
