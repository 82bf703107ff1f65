"""What the next fit of a sweep is spent on: a new trial, or another seed for one that may be on the front.

It is decided from what was told and written down alone, so whoever resumes decides the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sweeper.front import gain, racing
from sweeper.front.front import signs
from sweeper.front.racing import Entrants
from sweeper.spec.model import SweepSpec
from sweeper.spec.search import RACED
from sweeper.trial import State, Trial

KEPT = 0.4  # of the fits that a budget buys, for the race once all trials are proposed


@dataclass(frozen=True)
class Step:
    """The next step: a further seed for trial `race`, or a new trial. With neither, what is under way may bring one."""

    race: int | None = None
    new: bool = False


def next_step(trials: Sequence[Trial], spec: SweepSpec, left: float = math.inf, *, exhausted: bool = False) -> Step:
    """What to do next; `trials` are all that were begun, `left` is how many fits a budget in time lets begin yet.

    `exhausted`: there is no other point.
    """
    race, first = spec.search.racing, len(spec.search.seed_list)
    fits = sum(len(trial.seed_list) for trial in trials)
    if spec.search.budget is not None and spec.search.budget.fits is not None:
        left = min(left, spec.search.budget.fits - fits)
    new = sum(not trial.by_hand for trial in trials) < spec.budget and left >= first and not exhausted
    if len(trials) < len(spec.search.baseline_list):
        return Step(new=new)
    asked = len(trials) < len(spec.search.baseline_list) + len(spec.search.points)
    new = new and (asked or not _enough(trials, spec))
    if race is None or left < 1:
        return Step(new=new)
    further = fits - first * len(trials)
    kept = len(trials) * first >= (1 - KEPT) * (fits + left)
    if new and not kept and further >= RACED * fits:
        return Step(new=True)
    number = racing.next_seed(entrants(trials, spec), seed=fits)
    return Step(race=number) if number is not None else Step(new=new)


def _enough(trials: Sequence[Trial], spec: SweepSpec) -> bool:
    """Whether more trials promise less than `search.until`."""
    if spec.search.until is None:
        return False
    ended = [trial for trial in trials if trial.state.finished]
    sign_M, known = signs(spec.objectives), told(entrants(ended, spec), spec, shrunk=True)
    unknown_M = [math.nan] * len(spec.objectives)
    points_TM = np.array([known.get(trial.number, unknown_M) if trial.feasible else unknown_M for trial in ended])
    reference_M = np.array([spec.reference[name] for name in spec.objectives]) * sign_M
    return len(ended) > 0 and gain.expected(points_TM * sign_M, reference_M, seed=len(ended)) < spec.search.until


def told(raced: Entrants, spec: SweepSpec, *, shrunk: bool) -> dict[int, list[float]]:
    """The objectives of each that races, by its number, in their own directions: see `racing.told`."""
    if not raced.numbers:
        return {}
    points_TM = racing.told(raced, shrunk=shrunk) * signs(spec.objectives)
    return dict(zip(raced.numbers, points_TM.tolist(), strict=True))


def comparable(trials: Sequence[Trial], spec: SweepSpec) -> list[Trial]:
    """The trials with `values` that can be compared though they have different numbers of seeds."""
    raced = entrants(trials, spec)
    if not raced.numbers or raced.values_TSM.shape[1] < 2:
        return list(trials)
    known = told(raced, spec, shrunk=False)
    return [
        replace(t, values=dict(zip(spec.objectives, known[t.number], strict=True))) if t.number in known else t
        for t in trials
    ]


def entrants(trials: Sequence[Trial], spec: SweepSpec) -> Entrants:
    """The complete trials as a race sees them."""
    complete = [t for t in trials if t.state is State.COMPLETE and t.by_seed]
    seeds = max((len(trial.by_seed) for trial in complete), default=0)
    values_TSM = np.full((len(complete), seeds, len(spec.objectives)), math.nan)
    violations_TSK = np.full((len(complete), seeds, len(spec.constraints)), math.nan)
    for t, trial in enumerate(complete):
        for s, row in enumerate(trial.by_seed):
            values_TSM[t, s] = [row[name] for name in spec.objectives]
            # A metric far inside its bounds is as good as one that is inside; an undefined one breaks them.
            outside = [bound.violation(row.get(name, math.nan)) for name, bound in spec.constraints.items()]
            violations_TSK[t, s] = np.clip(outside, -1.0, 1.0)
    most = len(spec.search.most_seeds)
    return Entrants(
        numbers=tuple(trial.number for trial in complete),
        values_TSM=values_TSM * signs(spec.objectives),
        violations_TSK=violations_TSK,
        closed={trial.number for trial in complete if not trial.settled or trial.seeds >= most},
        compared={trial.number for trial in complete if trial.baseline},
    )
