"""Which trials are trained further: those that may still end on the front, by a forecast of where their curves end.

After an epoch of its first seed's fit, a trial's final objectives are forecast from the trials with as many epochs in
all that have ended: its values now, and the change to the end that theirs showed. That change is regressed on the
values now, all objectives together: who is behind gains more, and of a noisy value a part is luck. What the ended
trials scatter around this line is how unsure the forecast is, and with few of them surer is worth less (Student's t).

The chance that the trial ends where no ended trial beats it follows by draws. It is above the chance that the trial
is on the sweep's front, for later trials only push that forward. A trial ends early if its chance is below `each`, and
the sum over all trials that ended so stays below `together`: that sum bounds the chance that the front lost anybody.
To keep a front, a limit for each trial would not do: of twenty trials that were stopped at 5 % each, one is missed.

A trial's final objectives are those over all seeds that it had when it ended; a race gives it more, which change no
forecast. So what one seed says too little about is in the scatter. Source: Geisser 1965 (the predictive distribution of
a multivariate regression).

Shapes: T ended trials, M objectives, P predictors, B draws.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping

import numpy as np

from sweeper.front import pareto
from sweeper.trial import State, Trial
from trainables.arrays import Floats
from trainables.undefined import to_nan

LIMITS = {"gentle": (0.01, 0.05), "strong": (0.2, math.inf)}  # of one trial's chance, and of all that ended so
ENOUGH = 8  # ended trials, before anything is forecast
LEAST_DF = 3  # of the forecast: with fewer, its scatter is hardly known
RUNGS = 6
DRAWS = 4000


class Forecast:
    """The rule, and the curves it knows. `signs` says of each objective whether more (+1) or less (-1) is better.

    A trial is compared with trials of lower numbers only. So, when fits run one at a time, an interruption changes no
    decision.
    """

    def __init__(self, each: float, together: float, signs: Mapping[str, float]) -> None:
        self._each, self._together, self._signs = each, together, signs
        self._seen: dict[tuple[int, int], dict[int, Floats]] = {}  # (all epochs, epoch): points by trial
        self._last: dict[int, tuple[int, int]] = {}  # where in that each trial was noted last
        self._told: dict[int, Trial] = {}
        self._chances: dict[tuple[int, int, int], float] = {}  # of trials that have ended early, where they did

    def rungs(self, epochs: int) -> tuple[int, ...]:
        """The epochs after which a fit of `epochs` is judged: some, from a quarter on; never its last."""
        first = math.ceil(epochs / 4)
        return tuple(sorted({round(rung) for rung in np.geomspace(first, epochs - 1, RUNGS)})) if epochs > 1 else ()

    def note(self, number: int, epochs: int, epoch: int, values: Mapping[str, float | None]) -> None:
        """Remember the metrics of trial `number` after `epoch` of its `epochs` epochs; undefined is None or nan."""
        self._seen.setdefault((epochs, epoch), {})[number] = self._point(values)
        self._last[number] = epochs, epoch

    def told(self, trial: Trial) -> None:
        """Remember what a trial has come to."""
        self._told[trial.number] = trial

    def stops(self, number: int, epochs: int, epoch: int) -> bool:
        """Whether a noted trial ends here: it will hardly be on the front. Undefined objectives stop nothing."""
        chance = self.chance(number, epochs, epoch)
        if chance is None or chance >= min(self._each, self._together - self._spent(number)):
            return False
        self._chances[number, epochs, epoch] = chance
        return True

    def chance(self, number: int, epochs: int, epoch: int) -> float | None:
        """That no ended trial of a lower number beats the noted one at its end; None where that cannot be told."""
        seen = self._seen.get((epochs, epoch), {})
        own_M = seen.get(number)
        if own_M is None or np.isnan(own_M).any():
            return None
        now, final, able = list[Floats](), list[Floats](), list[bool]()
        for other in sorted(n for n in seen.keys() & self._told.keys() if n < number):
            trial = self._told[other]
            end_M = self._point(trial.first_values)
            if trial.state is State.COMPLETE and np.isfinite([*seen[other], *end_M]).all():
                now, final, able = [*now, seen[other]], [*final, end_M], [*able, trial.able]
        if len(now) < ENOUGH or not any(able):
            return None
        drawn_BM = _drawn(np.array(now), np.array(final), own_M)
        if drawn_BM is None:
            return None
        ahead_TM = np.array(final)[able]
        beaten_B = np.zeros(DRAWS, dtype=np.bool_)
        for point_M in ahead_TM[pareto.front(ahead_TM)]:
            beaten_B |= (point_M >= drawn_BM).all(axis=1)
        return float(1 - beaten_B.mean())

    def _spent(self, number: int) -> float:
        """The chances of the trials of lower numbers that have ended early, together."""
        spent = 0.0
        for stopped in sorted(n for n, trial in self._told.items() if n < number and trial.state is State.PRUNED):
            if stopped in self._last:
                place = stopped, *self._last[stopped]
                if place not in self._chances:  # it ended in an earlier attempt
                    self._chances[place] = self.chance(*place) or 0.0
                spent += self._chances[place]
        return spent

    def _point(self, values: Mapping[str, float | None]) -> Floats:
        known = to_nan(values)
        return np.array([sign * known.get(name, math.nan) for name, sign in self._signs.items()])


def _drawn(now_TM: Floats, final_TM: Floats, own_M: Floats) -> Floats | None:
    """Where a curve that is at `own_M` now may end, `[B, M]`: the same draws each time. None: too few curves."""
    T, M = now_TM.shape
    df = T - (M + 1) - M + 1
    if df < LEAST_DF:
        return None
    centre_M, scale_M = now_TM.mean(axis=0), now_TM.std(axis=0)
    scale_M = np.where(scale_M > 0, scale_M, 1.0)
    design_TP = np.column_stack([np.ones(T), (now_TM - centre_M) / scale_M])
    own_P = np.array([1.0, *((own_M - centre_M) / scale_M)])
    slope_PM = np.linalg.pinv(design_TP) @ (final_TM - now_TM)
    left_TM = final_TM - now_TM - design_TP @ slope_PM
    leverage = float(own_P @ np.linalg.pinv(design_TP.T @ design_TP) @ own_P)
    value_M, axes_MM = np.linalg.eigh((1 + leverage) * left_TM.T @ left_TM / df)
    root_MM = axes_MM * np.sqrt(np.maximum(value_M, 0.0))
    drawn_BM: Floats = own_M + own_P @ slope_PM + _students(df, M) @ root_MM.T
    return drawn_BM


@functools.lru_cache(maxsize=64)
def _students(df: int, M: int) -> Floats:
    """`[B, M]`: of the multivariate t."""
    rng = np.random.default_rng(0)
    heavy_B = np.sqrt(df / rng.chisquare(df, DRAWS))
    students_BM: Floats = heavy_B[:, None] * rng.standard_normal((DRAWS, M))
    return students_BM
