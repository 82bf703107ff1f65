"""What chance does to the numbers of a sweep's trials, and what is left of them without it.

A trial's number is a mean over a few seeds on one split: other seeds and other examples would give another. What chance
does to all trials alike (a lucky seed, easy examples) decides nothing between them; what it does to each trial alone is
estimated here, and taken out: the best of many noisy numbers looks better than it is.

Where trials have different numbers of seeds (a race), those that a trial lacks are nan. Any two trials have the same
seeds as far as both go, and what a seed does to all trials alike is taken out before they are compared.

Shapes: T trials, S seeds, M objectives, B resamples of the examples, N examples, C contenders.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sweeper.front import pareto
from sweeper.front.front import Senses, signs
from sweeper.front.intervals import examples_variance
from trainables.arrays import Floats, Ints, Mask
from trainables.metrics import METRICS, Answers

RESAMPLES = 200
CONTENDERS = 24  # beyond so many trials, those on no early layer of the front are not resampled
_OUTLIERS = 3.0  # so many standard deviations from the median, a trial says nothing of what trials are like
_ALIKE = 0.05  # trials differ in truth by at least this share of the noise, in variance


@dataclass(frozen=True)
class TrialFits:
    """One trial, fit by fit: `values_SM` in the metrics' own units, and the answers where they were kept."""

    number: int
    values_SM: Floats
    answers: tuple[Answers | None, ...] = ()


@dataclass(frozen=True)
class Sample:
    """The trials that can be on a front, greater is better in every column, and what resampling does to the first.

    `contenders` are rows of `numbers`. `examples_BCSM` is None where no answers were kept.
    """

    objectives: Senses
    numbers: tuple[int, ...]
    values_TSM: Floats
    contenders: Ints
    examples_BCSM: Floats | None
    examples: int = 0

    @property
    def seeds(self) -> int:
        """How many fits the trials have at most."""
        return int(self.values_TSM.shape[1])

    @property
    def seeds_T(self) -> Ints:
        """How many fits each trial has."""
        return counted(self.values_TSM)

    @cached_property
    def points_TM(self) -> Floats:
        """The trials' means over their seeds, without what those seeds do to all trials alike."""
        effects_SM, _ = seed_effects(self.values_TSM)
        means_TM: Floats = np.nanmean(self.values_TSM - effects_SM, axis=1)
        return means_TM

    @property
    def varies(self) -> bool:
        """Whether anything is known of what chance does."""
        return len(self.numbers) > 0 and (self.seeds > 1 or self.examples_BCSM is not None)

    @property
    def over(self) -> str:
        """Of what chance: `the 3 seeds and the 600 validation examples`."""
        fewest = int(self.seeds_T.min(initial=self.seeds))
        count = f"{self.seeds}" if fewest == self.seeds else f"{fewest} to {self.seeds}"
        parts = [f"the {count} seeds"] if self.seeds > 1 else []
        return " and ".join([*parts, f"the {self.examples:,} validation examples"] if self.examples else parts)


def measure(
    trials: Sequence[TrialFits],
    objectives: Senses,
    *,
    also: Sequence[int] = (),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Sample:
    """The trials whose objectives are all defined; the first layers of the front, and `also`, are resampled."""
    signs_M = signs(objectives)
    able = [trial for trial in trials if np.isfinite(trial.values_SM).all()]
    values_TSM = _padded([trial.values_SM for trial in able], len(signs_M)) * signs_M
    asked = [t for t, trial in enumerate(able) if trial.number in also]
    means_TM = np.nanmean(values_TSM, axis=1) if able else np.empty((0, len(signs_M)))
    contenders = np.union1d(_contenders(means_TM), np.array(asked, dtype=np.int64)) if able else asked
    rows = np.asarray(contenders, dtype=np.int64)
    answered = [answers for t in rows for answers in able[t].answers if answers is not None]
    examples_BCSM = None
    if answered:
        moved_BCSM = resampled([able[t] for t in rows], tuple(objectives), resamples=resamples, seed=seed)
        lacking = values_TSM.shape[1] - moved_BCSM.shape[2]  # seeds that no contender has
        padding = ((0, 0), (0, 0), (0, lacking), (0, 0))
        examples_BCSM = np.pad(moved_BCSM, padding, constant_values=math.nan) * signs_M
    numbers = tuple(trial.number for trial in able)
    return Sample(objectives, numbers, values_TSM, rows, examples_BCSM, max(map(len, answered), default=0))


def _padded(values: Sequence[Floats], objectives: int) -> Floats:
    """`[T, S, M]` of each trial's own `[S, M]`; nan for the seeds that a trial lacks."""
    values_TSM = np.full((len(values), max(map(len, values), default=0), objectives), math.nan)
    for row_SM, own_SM in zip(values_TSM, values, strict=True):
        row_SM[: len(own_SM)] = own_SM
    return values_TSM


def _contenders(points_TM: Floats) -> Ints:
    """The first layers of the front, whole, until there are enough; a trial far behind them wins no resample."""
    left, kept = np.arange(len(points_TM)), list[int]()
    while len(left) and len(kept) < CONTENDERS:
        on = pareto.front(points_TM[left])
        kept += left[on].tolist()
        left = left[~on]
    return np.array(sorted(kept), dtype=np.int64)


def resampled(trials: Sequence[TrialFits], objectives: Sequence[str], *, resamples: int, seed: int = 0) -> Floats:
    """Each fit's objectives on resamples of the examples, `[B, T, S, M]`, in the metrics' own units.

    All fits answered the same examples, and get the same ones drawn. A metric that needs probabilities, which are not
    kept, keeps its measured value, as does one that is undefined in a resample. S is the largest number of seeds; nan
    where a trial has fewer.
    """
    rng = np.random.default_rng(seed)
    seeds = max(len(trial.values_SM) for trial in trials)
    values_BTSM = np.full((resamples, len(trials), seeds, len(objectives)), math.nan)
    countable = [_countable(trial, objectives) for trial in trials]
    for values_TSM in values_BTSM:
        draws: dict[bytes, Ints] = {}  # by the questions, so that all who answered them share the draw
        for t, trial in enumerate(trials):
            for s in range(len(trial.values_SM)):
                values_TSM[t, s] = trial.values_SM[s]
                answers = trial.answers[s] if trial.answers else None
                if answers is not None and any(countable[t]):
                    questions = answers.labels_N.tobytes()
                    if questions not in draws:
                        draws[questions] = rng.integers(len(answers), size=len(answers))
                    judged = answers.take(draws[questions])
                    for m in (m for m, count in enumerate(countable[t]) if count):
                        value = METRICS[objectives[m]](judged).value
                        values_TSM[t, s, m] = value if math.isfinite(value) else trial.values_SM[s, m]
    return values_BTSM


def _countable(trial: TrialFits, objectives: Sequence[str]) -> list[bool]:
    """Which objectives follow from right and wrong alone: those that the kept answers give back as measured."""
    answers = next((a for a in trial.answers if a is not None), None)
    if answers is None:
        return [False] * len(objectives)
    whole = answers.take(np.arange(len(answers)))
    return [math.isfinite(METRICS[name](whole).value) for name in objectives]


# --- how much chance does


def counted(values_TSM: Floats) -> Ints:
    """[T]: how many seeds each trial has."""
    seeds_T: Ints = np.isfinite(values_TSM).all(axis=2).sum(axis=1)
    return seeds_T


def seed_effects(values_TSM: Floats) -> tuple[Floats, Floats]:
    """What each seed does to all trials alike [S, M], and what is left of each fit [T, S, M], nan where there is none.

    Least squares over the trials with several seeds. The effects add up to 0; a seed that no such trial has gets 0.
    What is left is 0 in the mean over a trial's seeds, and scaled to have the variance of one fit.
    """
    has_TS = np.asarray(np.isfinite(values_TSM).all(axis=2), dtype=np.bool_)
    seeds_T, (_, S, M) = has_TS.sum(axis=1), values_TSM.shape
    several_TS = has_TS & (seeds_T > 1)[:, None]
    alone_TSM = np.where(has_TS[..., None], values_TSM, 0.0)
    alone_TSM = alone_TSM - (alone_TSM.sum(axis=1) / np.maximum(seeds_T, 1)[:, None])[:, None]
    weight_TS = several_TS / np.maximum(seeds_T, 1)[:, None]
    normal_SS = np.diag(several_TS.sum(axis=0).astype(np.float64)) - weight_TS.T @ several_TS
    sum_SM = np.where(several_TS[..., None], alone_TSM, 0.0).sum(axis=0)
    trials = int(several_TS.any(axis=1).sum())
    if trials < 2:  # of one trial nothing can be said to be common
        return np.zeros((S, M)), np.where(has_TS[..., None], alone_TSM, math.nan)
    effects_SM = np.linalg.pinv(normal_SS, hermitian=True) @ sum_SM
    shift_TM = np.einsum("ts,sm->tm", has_TS / np.maximum(seeds_T, 1)[:, None], effects_SM)
    left_TSM = alone_TSM - effects_SM + shift_TM[:, None]
    known = float((seeds_T[seeds_T > 1] - 1).sum())
    free = known - float(np.linalg.matrix_rank(normal_SS, hermitian=True))
    scale = math.sqrt(known / free) if free > 0 else 1.0
    return effects_SM, np.where(has_TS[..., None], left_TSM * scale, math.nan)


def seed_variances(values_TSM: Floats, *, cautious: bool = False) -> tuple[Floats, float]:
    """The variance [T, M] of one fit around its trial's truth, without what a seed does to all trials, and its degrees.

    A variance of three fits says little by itself, so each is drawn towards that of the other trials, the more so the
    more alike these are. `cautious` draws none down: of the luckiest trials many are the noisiest. A trial with one
    seed has the variance of the others; some trial must have two. Source: Smyth 2004 (moderated variances).
    """
    M = values_TSM.shape[2]
    _, left_TSM = seed_effects(values_TSM)
    df_T = np.maximum(counted(left_TSM) - 1.0, 0.0)
    raw_TM = np.nansum(left_TSM**2, axis=1) / np.maximum(df_T, 1)[:, None]
    columns = [moderated(raw_TM[:, m], df_T) for m in range(M)]
    variance_TM = np.stack([variance_T for variance_T, _ in columns], axis=1)
    return (np.maximum(variance_TM, raw_TM) if cautious else variance_TM), min(df for _, df in columns)


def moderated(variance_T: Floats, df: Floats | float) -> tuple[Floats, float]:
    """Variances of `df` degrees of freedom each, drawn towards their common value, and the degrees they have then.

    Where `df` is 0 nothing is known of a variance, and it gets the common value. The degrees are those of the
    variances that have fewest of their own.
    """
    from scipy.special import digamma, polygamma  # a third of a second, which not everybody need wait for

    df_T = np.broadcast_to(np.asarray(df, dtype=np.float64), variance_T.shape)
    known, all_df = df_T > 0, float(df_T.sum())
    pooled = float((df_T * variance_T).sum()) / all_df if all_df else math.nan
    own_T, own_df_T = variance_T[known], df_T[known]
    if len(own_T) < 3 or not (own_T > 0).any():
        return np.where(known, variance_T, pooled), float(own_df_T.min(initial=all_df))
    log_T = np.log(np.maximum(own_T, 1e-5 * np.median(own_T[own_T > 0])))
    log_T = log_T - digamma(own_df_T / 2) + np.log(own_df_T / 2)
    excess = float(log_T.var(ddof=1)) - float(polygamma(1, own_df_T / 2).mean())
    if excess <= 0:  # no more scatter than such estimates of one and the same variance have
        return np.full_like(variance_T, pooled), all_df
    prior_df = 2 * _inverse_trigamma(excess)
    prior = math.exp(float(log_T.mean()) + float(digamma(prior_df / 2)) - math.log(prior_df / 2))
    drawn_T: Floats = (prior_df * prior + df_T * variance_T) / (prior_df + df_T)
    drawn_T = np.where(known, drawn_T, pooled)
    return drawn_T, min(prior_df + float(df_T.min()), all_df)


def _inverse_trigamma(value: float) -> float:
    """Newton's steps on 1 / trigamma, which is nearly straight (Smyth 2004, appendix)."""
    from scipy.special import polygamma

    x = 0.5 + 1 / value
    for _ in range(20):
        at = float(polygamma(1, x))
        x += at * (1 - at / value) / float(polygamma(2, x))
    return x


def own_noise(sample: Sample) -> Floats:
    """The covariance [T, M, M] of each trial's means by what chance does to it alone; without seeds, by examples."""
    T, S, M = sample.values_TSM.shape
    noise_TMM = np.zeros((T, M, M))
    if S > 1:
        variance_TM, _ = seed_variances(sample.values_TSM)
        alone_TSM = np.nan_to_num(seed_effects(sample.values_TSM)[1])
        together_MM = np.einsum("tsi,tsj->ij", alone_TSM, alone_TSM)
        scale_M = np.sqrt(np.where(np.diag(together_MM) > 0, np.diag(together_MM), 1.0))
        deviation_TM = np.sqrt(variance_TM / sample.seeds_T[:, None])
        noise_TMM += deviation_TM[:, :, None] * (together_MM / np.outer(scale_M, scale_M)) * deviation_TM[:, None, :]
    if sample.examples_BCSM is not None:
        alone_BCSM = sample.examples_BCSM - sample.examples_BCSM.mean(axis=0)
        seeds_C = sample.seeds_T[sample.contenders]
        if len(sample.contenders) > 1:
            C_S = np.isfinite(alone_BCSM).all(axis=(0, 3)).sum(axis=0).clip(2)[:, None]
            alone_BCSM = (alone_BCSM - np.nanmean(alone_BCSM, axis=1, keepdims=True)) * np.sqrt(C_S / (C_S - 1))
        by_examples_CMM = np.array([_examples_covariance(alone_BCSM[:, c, :n]) for c, n in enumerate(seeds_C)])
        examples_TMM = np.broadcast_to(by_examples_CMM.mean(axis=0), (T, M, M)).copy()
        examples_TMM[sample.contenders] = by_examples_CMM
        noise_TMM += examples_TMM
    return noise_TMM


def _examples_covariance(alone_BSM: Floats) -> Floats:
    """Of one trial's means over its seeds, less what is in the spread of the seeds already."""
    M = alone_BSM.shape[2]
    covariance_MM = np.cov(alone_BSM.mean(axis=1), rowvar=False).reshape(M, M)
    known_M = np.diag(covariance_MM)
    shared_M = np.array([examples_variance(alone_BSM[:, :, m]) for m in range(M)])
    keep_M = np.sqrt(np.divide(shared_M, known_M, out=np.zeros(M), where=known_M > 0))
    shared_MM: Floats = covariance_MM * np.outer(keep_M, keep_M)
    return shared_MM


def common_noise(sample: Sample) -> Floats:
    """The covariance [M, M] of what chance does to all trials alike."""
    S, M = sample.values_TSM.shape[1:]
    noise_MM = np.zeros((M, M))
    if S > 1:
        noise_MM += np.cov(seed_effects(sample.values_TSM)[0], rowvar=False).reshape(M, M) / S
    if sample.examples_BCSM is not None:
        noise_MM += np.cov(np.nanmean(sample.examples_BCSM, axis=(1, 2)), rowvar=False).reshape(M, M)
    return noise_MM


# --- the numbers without it


def without_luck(points_TM: Floats, noise_TMM: Floats) -> tuple[Floats, Floats]:
    """What the trials are in truth, as far as their points tell: the mean [T, M] and covariance [T, M, M] of each.

    A point far out is there by merit and by luck, in the shares in which trials differ and in which chance moves them:
    empirical Bayes with a normal distribution of the trials, fitted to all but outliers (trials that collapsed). With
    few trials the distribution is little known, and less is drawn in. Source: James and Stein 1961; Efron and Morris
    1973.
    """
    M = points_TM.shape[1]
    noise_MM = noise_TMM.mean(axis=0)
    if not (np.diag(noise_MM) > 0).all():
        return points_TM, noise_TMM
    usual = points_TM[_usual(points_TM)]
    trust = max(0.0, (len(usual) - M - 2) / (len(usual) - 1)) if len(usual) > 1 else 0.0
    if trust == 0:
        return points_TM, noise_TMM
    noise_MM = noise_MM + 1e-9 * np.diag(np.diag(noise_MM))
    root_MM = np.linalg.cholesky(noise_MM)
    inverse_MM = np.linalg.inv(root_MM)
    spread_M, axes_MM = np.linalg.eigh(inverse_MM @ np.cov(usual, rowvar=False).reshape(M, M) @ inverse_MM.T)
    true_M = np.maximum(spread_M - 1, _ALIKE)  # in units of the noise
    true_MM = root_MM @ (axes_MM * true_M) @ axes_MM.T @ root_MM.T
    centre_M = usual.mean(axis=0)
    pull_TMM = trust * noise_TMM @ np.linalg.inv(true_MM + noise_TMM)
    mean_TM = points_TM - np.einsum("tij,tj->ti", pull_TMM, points_TM - centre_M)
    return mean_TM, noise_TMM - pull_TMM @ noise_TMM


def _usual(points_TM: Floats) -> Mask:
    """Which trials are near the others."""
    away_TM = np.abs(points_TM - np.median(points_TM, axis=0))
    scale_M = 1.4826 * np.median(away_TM, axis=0)
    return np.asarray((away_TM <= np.where(scale_M > 0, _OUTLIERS * scale_M, np.inf)).all(axis=1), dtype=np.bool_)


def normal_draws(rng: np.random.Generator, draws: int, mean_TM: Floats, covariance_TMM: Floats) -> Floats:
    """`[draws, T, M]`, each trial by itself."""
    value_TM, axes_TMM = np.linalg.eigh((covariance_TMM + covariance_TMM.transpose(0, 2, 1)) / 2)
    root_TMM = axes_TMM * np.sqrt(np.maximum(value_TM, 0.0))[:, None, :]
    normal_BTM: Floats = mean_TM + np.einsum("tij,btj->bti", root_TMM, rng.standard_normal((draws, *mean_TM.shape)))
    return normal_BTM
