"""Which trial gets the next seed: a race of those that may be on the front, until that is decided.

A trial with one seed may be on the front by luck. More seeds cost fits that could try other settings, so they go where
they decide: to trials whose chance to be on the true front is neither near 0 nor near 1, and whose mean a further seed
makes surer by most. The optimal allocation of computing budget (Chen et al. 2000; Lee et al. 2010, for several
objectives) has the same aim by other means.

The chances are over seeds alone: that is what more seeds can decide. What the examples leave open stays open.

Shapes: T trials, S seeds, M objectives, K bounds, B draws.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from sweeper.front import noise, pareto
from sweeper.front.noise import Sample
from trainables.arrays import Floats

DECIDED = 0.05  # a chance nearer to 0 or 1 than this is decided
DRAWS = 200
PILOT = 4  # trials before the first further seed: before, nobody is far behind
KNOWN = 3  # degrees of freedom: with fewer nothing is said of the noise of a seed


@dataclass(frozen=True)
class Entrants:
    """The trials in a race. `values_TSM`: greater is better; nan for seeds that a trial lacks, the last ones.

    `violations_TSK`: above 0 breaks a bound. `closed`: whose next seed is under way, or who has all seeds.
    `compared`: baselines, with which the front is compared, seed by seed.
    """

    numbers: tuple[int, ...]
    values_TSM: Floats
    violations_TSK: Floats
    closed: Collection[int] = ()
    compared: Collection[int] = ()


def next_seed(entrants: Entrants, *, seed: int = 0) -> int | None:
    """The number of the trial that gets one seed more; None where that would decide nothing. `seed`: of the draws."""
    if len(entrants.numbers) < PILOT:
        return None
    seeds_T = noise.counted(entrants.values_TSM)
    free_T = np.array([number not in entrants.closed for number in entrants.numbers])
    chance_T = chances(entrants, seed=seed)
    if chance_T is None:  # first it must be seen what a seed does: in trials that look good, for they need it anyway
        on_T = pareto.front(np.nanmean(entrants.values_TSM, axis=1)) & ~(entrants.violations_TSK > 0).any(axis=(1, 2))
        worth_T = on_T / seeds_T**2
    else:
        open_T = (chance_T > DECIDED) & (chance_T < 1 - DECIDED)
        worth_T = open_T * chance_T * (1 - chance_T) / (seeds_T * (seeds_T + 1))
        most = max((seeds_T[t] for t in np.flatnonzero(chance_T >= 0.5)), default=0)
        behind_T = np.array([number in entrants.compared for number in entrants.numbers]) & (seeds_T < most)
        worth_T = np.maximum(worth_T, behind_T / (4 * seeds_T * (seeds_T + 1)))
    worth_T = np.where(free_T, worth_T, 0.0)
    return entrants.numbers[int(worth_T.argmax())] if worth_T.max(initial=0.0) > 0 else None


def chances(entrants: Entrants, *, seed: int = 0) -> Floats | None:
    """[T]: the chance that very many seeds would put the trial on the front; None while a seed's noise is unknown."""
    M = entrants.values_TSM.shape[2]
    sample = _sample(entrants, np.concatenate([entrants.values_TSM, entrants.violations_TSK], axis=2))
    if not _noise_is_known(sample):
        return None
    true_TM, covariance_TMM = noise.without_luck(sample.points_TM, noise.own_noise(sample))
    drawn_BTM = noise.normal_draws(np.random.default_rng(seed), DRAWS, true_TM, covariance_TMM)
    points_BTM = drawn_BTM[..., :M]
    points_BTM[(drawn_BTM[..., M:] > 0).any(axis=2)] = np.nan  # it breaks a bound
    chance_T: Floats = np.mean([pareto.front(points_TM) for points_TM in points_BTM], axis=0)
    return chance_T


def told(entrants: Entrants, *, shrunk: bool) -> Floats:
    """[T, M]: the trials' means without what a seed does to all alike; `shrunk` by their luck where that is known."""
    sample = _sample(entrants, entrants.values_TSM)
    if not (shrunk and _noise_is_known(sample)):
        return sample.points_TM
    return noise.without_luck(sample.points_TM, noise.own_noise(sample))[0]


def _sample(entrants: Entrants, values_TSM: Floats) -> Sample:
    columns = {str(m): "max" for m in range(values_TSM.shape[2])}
    return Sample(columns, entrants.numbers, values_TSM, np.arange(len(values_TSM)), None)


def _noise_is_known(sample: Sample) -> bool:
    return bool((sample.seeds_T - 1).sum() >= KNOWN and (sample.seeds_T > 1).sum() >= 2)
