"""How sure a front and a choice are: made again on resampled seeds and resampled validation examples.

A bootstrap in two layers. The seeds are drawn with replacement, the same ones for all trials, and so
are the examples of the split: all fits answered the same questions, so their chance is paired. What
is resampled is only the noise of measuring and of training; that the best of many noisy numbers looks
better than it is ("winner's curse") is not undone by it.

Shapes: T trials, S seeds, M objectives, B resamples, N examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sweeper.front import pareto
from sweeper.front.front import Senses, signs
from trainables.arrays import Floats, Ints
from trainables.metrics import METRICS, Answers

Choose = Callable[[Floats], int | None]

RESAMPLES = 200  # a share of 1/2 is then known to within 0.07 (95 %)
CONTENDERS = 24  # beyond so many trials, those on no early layer of the front are not resampled


@dataclass(frozen=True)
class TrialFits:
    """One trial, fit by fit: `values_SM` in the metrics' own units, and the answers where they were kept."""

    number: int
    values_SM: Floats
    answers: tuple[Answers | None, ...] = ()


@dataclass(frozen=True)
class Stability:
    """Shares of the resamples, by trial number; `over` says of what they are. No resample: nothing is known.

    `intervals` hold the middle 95 % of each objective's mean over the seeds.
    """

    resamples: int = 0
    over: str = ""
    on_front: Mapping[int, float] = field(default_factory=dict)
    chosen: Mapping[int, float] = field(default_factory=dict)
    intervals: Mapping[int, Mapping[str, tuple[float, float]]] = field(default_factory=dict)

    def sentence(self, number: int) -> str:
        """What it says of one trial, for a person."""
        if not self.resamples:
            return "One seed, and no answers were kept: how stable this choice is cannot be said."
        rivals = sorted((-share, n) for n, share in self.chosen.items() if n != number and share > 0)
        after = f"; next: #{rivals[0][1]} ({-rivals[0][0]:.0%})" if rivals else ""
        return (
            f"In {self.resamples} resamples of {self.over} it is on the front in {self.on_front.get(number, 0):.0%} "
            f"and chosen in {self.chosen.get(number, 0):.0%}{after}."
        )

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "resamples": self.resamples,
            "over": self.over,
            "on_front": {str(n): share for n, share in self.on_front.items()},
            "chosen": {str(n): share for n, share in self.chosen.items()},
            "intervals": {
                str(n): {name: list(ends) for name, ends in row.items()} for n, row in self.intervals.items()
            },
        }


def judge(
    trials: Sequence[TrialFits],
    objectives: Senses,
    choose: Choose,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Stability:
    """How often each trial is on the front, and chosen by `choose`, when seeds and examples are drawn again.

    `choose` takes points `[T, M]`, greater is better, and gives a row. An objective that is undefined
    in a resample keeps the trial off that resample's front.
    """
    if not trials or not _can_vary(trials):
        return Stability()
    signs_M = signs(objectives)
    able = _contenders(trials, signs_M)
    values_BTM = resampled(able, tuple(objectives), resamples=resamples, seed=seed)
    on_T, chosen_T = np.zeros(len(able)), np.zeros(len(able))
    for values_TM in values_BTM * signs_M:
        on_T += pareto.front(values_TM)
        row = choose(values_TM)
        if row is not None:
            chosen_T[row] += 1
    numbers = [trial.number for trial in able]
    return Stability(
        resamples=resamples,
        over=_over(able),
        on_front=dict(zip(numbers, (on_T / resamples).tolist(), strict=True)),
        chosen=dict(zip(numbers, (chosen_T / resamples).tolist(), strict=True)),
        intervals={n: _intervals(values_BTM[:, t], tuple(objectives)) for t, n in enumerate(numbers)},
    )


def resampled(trials: Sequence[TrialFits], objectives: Sequence[str], *, resamples: int, seed: int = 0) -> Floats:
    """Each trial's objectives, means over the drawn seeds on the drawn examples, `[B, T, M]`."""
    rng = np.random.default_rng(seed)
    seeds = min(len(trial.values_SM) for trial in trials)
    found_BTM = np.empty((resamples, len(trials), len(objectives)))
    countable = [_countable(trial, objectives) for trial in trials]
    for values_TM in found_BTM:
        weights_S = np.bincount(rng.integers(seeds, size=seeds), minlength=seeds)
        draws = _Draws(rng)
        for t, trial in enumerate(trials):
            values_TM[t] = _mean(trial, objectives, countable[t], weights_S, draws)
    return found_BTM


class _Draws:
    """One resample's examples, drawn once for each set of questions, so that all who answered it share them."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._rows: dict[bytes, Ints] = {}

    def of(self, answers: Answers) -> Ints:
        questions = answers.labels_N.tobytes()
        if questions not in self._rows:
            self._rows[questions] = self._rng.integers(len(answers), size=len(answers))
        return self._rows[questions]


def _mean(
    trial: TrialFits, objectives: Sequence[str], countable: Sequence[bool], weights_S: Ints, draws: _Draws
) -> Floats:
    """Of one trial over the drawn seeds, `[M]`; a metric that needs probabilities keeps its measured value."""
    total_M = np.zeros(len(objectives))
    for s in np.flatnonzero(weights_S):
        value_M = trial.values_SM[s].copy()
        answers = trial.answers[s] if trial.answers else None
        if answers is not None and any(countable):
            judged = answers.take(draws.of(answers))
            for m, name in enumerate(objectives):
                if countable[m]:
                    value_M[m] = METRICS[name](judged).value
        total_M += weights_S[s] * value_M
    mean_M: Floats = total_M / weights_S.sum()
    return mean_M


def _countable(trial: TrialFits, objectives: Sequence[str]) -> list[bool]:
    """Which objectives follow from right and wrong alone: those that the kept answers give back as measured."""
    answers = next((a for a in trial.answers if a is not None), None)
    if answers is None:
        return [False] * len(objectives)
    whole = answers.take(np.arange(len(answers)))
    return [math.isfinite(METRICS[name](whole).value) for name in objectives]


def _can_vary(trials: Sequence[TrialFits]) -> bool:
    return min(len(t.values_SM) for t in trials) > 1 or any(a is not None for t in trials for a in t.answers)


def _contenders(trials: Sequence[TrialFits], signs_M: Floats) -> list[TrialFits]:
    """The first layers of the front, whole, until there are enough; a trial far behind them wins no resample."""
    points_TM = np.array([trial.values_SM.mean(axis=0) for trial in trials]) * signs_M
    left, kept = np.arange(len(trials)), list[int]()
    while len(left) and len(kept) < CONTENDERS:
        on = pareto.front(points_TM[left])
        if not on.any():
            break
        kept += left[on].tolist()
        left = left[~on]
    return [trials[t] for t in sorted(kept)]


def _over(trials: Sequence[TrialFits]) -> str:
    seeds = min(len(trial.values_SM) for trial in trials)
    sizes = [len(a) for trial in trials for a in trial.answers if a is not None]
    parts = [f"the {seeds} seeds"] if seeds > 1 else []
    return " and ".join([*parts, f"the {max(sizes):,} validation examples"] if sizes else parts)


def _intervals(values_BM: Floats, objectives: Sequence[str]) -> dict[str, tuple[float, float]]:
    defined = {name: column[np.isfinite(column)] for name, column in zip(objectives, values_BM.T, strict=True)}
    return {
        name: (float(low), float(high))
        for name, column in defined.items()
        if len(column)
        for low, high in [np.quantile(column, (0.025, 0.975))]
    }
