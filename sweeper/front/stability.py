"""How sure a front and a choice are: each trial's chance to be on the true front, and to be what a rule takes there.

The true front is that of the numbers that very many seeds and examples would give. What those may be is drawn many
times: each trial's measured numbers, less the luck that put them where they are, and as uncertain as they are
(`noise`). A plain bootstrap of the measured numbers keeps their luck, and is sure of it.

Shapes: T trials, M objectives, B draws, C contenders.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sweeper.front import intervals, noise, pareto
from sweeper.front.intervals import Interval
from sweeper.front.noise import Sample
from trainables.arrays import Floats
from trainables.metrics import METRICS

Choose = Callable[[Floats], int | None]

SURE_FROM, MAYBE_FROM = 0.95, 0.05  # chances to be on the true front
FEWEST = 3  # seeds of a sure member: of two the noise is hardly known

DRAWS = 400  # a chance of 1/2 is then known to within 0.05 (95 %)


@dataclass(frozen=True)
class Stability:
    """Chances by trial number; `over` says of what noise. Without draws nothing is known.

    `intervals` are 95 % intervals of each objective. `drops` say by how much each trial's objectives probably look
    better than they are; below 0 they look worse. Members of the front are in all of them; trials far behind are not.
    """

    draws: int = 0
    over: str = ""
    trials: int = 0
    seeds: int = 0
    on_front: Mapping[int, float] = field(default_factory=dict)
    chosen: Mapping[int, float] = field(default_factory=dict)
    intervals: Mapping[int, Mapping[str, Interval]] = field(default_factory=dict)
    drops: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    seeds_of: Mapping[int, int] = field(default_factory=dict)

    @property
    def sure(self) -> list[int]:
        """The trials with enough seeds whose chance to be on the true front is at least `SURE_FROM`."""
        enough = min(FEWEST, max(self.seeds_of.values(), default=0))
        return [n for n, chance in self.on_front.items() if chance >= SURE_FROM and self.seeds_of[n] >= max(enough, 2)]

    def members(self, front: Sequence[int]) -> str:
        """One sentence: who of the `front` is surely on the true one, who may be, and who beside them may be."""
        if not self.draws or self.seeds < 2:
            return ""
        sure = [n for n in front if n in self.sure]
        maybe = [n for n in front if n not in sure and self.on_front.get(n, 0.0) >= MAYBE_FROM]
        beside = sum(chance >= MAYBE_FROM for n, chance in self.on_front.items() if n not in front)
        text = f"Of its {len(front)} members surely on the true front: {len(sure)}"
        text += f" ({', '.join(f'#{n}' for n in sure)})" if sure else ""
        text += f"; perhaps: {len(maybe)}" if maybe else ""
        return f"{text}. Beside it, not to be told apart from them: {beside}." if beside else f"{text}."

    def sentence(self, number: int) -> str:
        """What it says of one trial, for a person."""
        if not self.draws:
            return "One seed, and no answers were kept: how stable this choice is cannot be said."
        own = self.chosen.get(number, 0.0)
        rivals = sorted((-share, n) for n, share in self.chosen.items() if n != number and share > 0)
        next_share, rival = (-rivals[0][0], rivals[0][1]) if rivals else (0.0, None)
        text = (
            f"With the noise of {self.over} it is on the true front with a chance of "
            f"{self.on_front.get(number, 0):.0%}, and what this rule would take there with one of {own:.0%}"
        )
        if rival is None:
            text += "."
        elif next_share <= own:
            text += f"; next: #{rival} ({next_share:.0%})."
        else:
            text += (
                f". #{rival} would be taken more often ({next_share:.0%}). #{number} is named all the same: it is what "
                "the rule takes of the numbers as measured, and the noise cannot tell the two apart."
            )
        return text + (" How much another seed would change is not known: there is one." if self.seeds == 1 else "")

    def drop(self, number: int, rule: str) -> str:
        """By how much the chosen trial probably looks better than it is; empty where that is not known."""
        drops = self.drops.get(number)
        if not drops:
            return ""
        taken = (
            f"The best of many looks better than it is. Taken from {self.trials} trials by {rule.partition(':')[0]}, it"
        )
        parts = [
            f"{name} {'lower' if (value > 0) == (METRICS[name].direction == 'max') else 'higher'} by {abs(value):.3f}"
            for name, value in drops.items()
            if round(value, 3) != 0
        ]
        if not parts:
            return f"{taken} does so by less than can be told from them."
        return f"{taken} will on other seeds and examples probably have {' and '.join(parts)}."

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        by_number = {
            name: {str(n): value for n, value in getattr(self, name).items()}
            for name in ("seeds_of", "on_front", "chosen", "drops")
        }
        return {
            "draws": self.draws,
            "over": self.over,
            "trials": self.trials,
            "seeds": self.seeds,
            **by_number,
            "intervals": {
                str(n): {name: list(ends) for name, ends in row.items()} for n, row in self.intervals.items()
            },
        }


def judge(sample: Sample, choose: Choose, *, draws: int = DRAWS, seed: int = 0) -> Stability:
    """How likely each contender is on the true front, and is what `choose` would take there.

    `choose` takes points `[T, M]`, greater is better, and gives a row. Trials are taken to be uncertain each by itself,
    but for what chance does to all alike.
    """
    if not sample.varies:
        return Stability()
    points_TM, rows = sample.points_TM, sample.contenders
    true_TM, covariance_TMM = noise.without_luck(points_TM, noise.own_noise(sample))
    rng = np.random.default_rng(seed)
    drawn_BCM = noise.normal_draws(rng, draws, true_TM[rows], covariance_TMM[rows])
    drawn_BCM += noise.normal_draws(rng, draws, np.zeros((1, points_TM.shape[1])), noise.common_noise(sample)[None])
    on_C, chosen_C = np.zeros(len(rows)), np.zeros(len(rows))
    for drawn_CM in drawn_BCM:
        on_C += pareto.front(drawn_CM)
        row = choose(drawn_CM)
        if row is not None:
            chosen_C[row] += 1
    numbers = [sample.numbers[row] for row in rows]
    drops_CM = (points_TM - true_TM)[rows]
    return Stability(
        draws=draws,
        over=sample.over,
        trials=len(sample.numbers),
        seeds=sample.seeds,
        seeds_of={number: int(sample.seeds_T[row]) for number, row in zip(numbers, rows, strict=True)},
        on_front=dict(zip(numbers, (on_C / draws).tolist(), strict=True)),
        chosen=dict(zip(numbers, (chosen_C / draws).tolist(), strict=True)),
        intervals={number: _intervals(sample, c) for c, number in enumerate(numbers)},
        drops={
            number: dict(zip(sample.objectives, map(float, drop_M), strict=True))
            for number, drop_M in zip(numbers, drops_CM, strict=True)
        },
    )


def _intervals(sample: Sample, contender: int) -> dict[str, Interval]:
    """Each objective's 95 % interval, in the metric's own units, and within what the metric can be."""
    ends = {}
    for m, (name, sense) in enumerate(sample.objectives.items()):
        sign = 1.0 if sense == "max" else -1.0
        seeds = int(sample.seeds_T[sample.contenders[contender]])
        values_S = sample.values_TSM[sample.contenders[contender], :seeds, m] * sign
        resampled_BCSM = sample.examples_BCSM
        resampled_BS = None if resampled_BCSM is None else resampled_BCSM[:, contender, :seeds, m] * sign
        interval = intervals.of_mean(values_S, resampled_BS)
        if interval is not None:
            low, high = interval
            ends[name] = (max(0.0, low), min(1.0, high)) if METRICS[name].unit == "fraction" else (low, high)
    return ends
